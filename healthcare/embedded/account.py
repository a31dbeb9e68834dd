"""The unprivileged account that runs the server if this process is root: PostgreSQL refuses to run as root."""

import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healthcare.embedded.errors import EmbeddedError

FALLBACK_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An unprivileged account of this machine, by its ids."""

    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can traverse every existing part of the path. It will own the missing parts."""
        for part in (*reversed(folder.parents), folder):
            try:
                status = part.stat()
            except FileNotFoundError:
                return True
            if status.st_uid == self.uid:
                needed = stat.S_IXUSR
            else:
                needed = stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH
            if not status.st_mode & needed:
                return False
        return True

    def take_ownership(self, path: Path) -> None:
        """Make the account the owner of a path that this process has just created."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def process_options(self) -> dict[str, Any]:
        """Keyword arguments of `subprocess` that run a program as the account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def drop_privileges(account: Account) -> None:
    """Run as the account from now on; a process cannot go back."""
    os.setgroups([])
    os.setgid(account.gid)
    os.setuid(account.uid)


def find_unprivileged_account(data: Iterable[Path], project: Path) -> Account | None:
    """Return the account that runs PostgreSQL, or None if this process is not root.

    It is the owner of an existing data directory, else the project's owner, else `postgres`, else `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for folder in data:
        if folder.is_dir() and (status := folder.stat()).st_uid != 0:
            return Account(status.st_uid, status.st_gid)
    known = {entry.pw_uid: entry for entry in reversed(pwd.getpwall())}
    owner = known.get(project.stat().st_uid)
    if owner and owner.pw_uid != 0:
        return Account(owner.pw_uid, owner.pw_gid)
    names = {entry.pw_name: entry for entry in known.values()}
    for name in FALLBACK_ACCOUNTS:
        if name in names:
            return Account(names[name].pw_uid, names[name].pw_gid)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root and this machine has no account `postgres` or `nobody`; "
        "run as another account, or set DATABASE_URL."
    )
