"""The account that owns the server: PostgreSQL refuses to run as root."""

import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healthcare.embedded.failure import EmbeddedError

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An unprivileged account of this machine."""

    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Whether every existing part of the path lets the account pass. Parts still to be made will be its own."""
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

    def take(self, path: Path) -> None:
        """Give what this process has just made to the account."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def process_options(self) -> dict[str, Any]:
        """Keywords for `subprocess` that run a program as the account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def drop_privileges(account: Account) -> None:
    """Become the account for good."""
    os.setgroups([])
    os.setgid(account.gid)
    os.setuid(account.uid)


def unprivileged(data: Iterable[Path], project: Path) -> Account | None:
    """The account that PostgreSQL runs under, or None when this process is not root.

    The owner of a data directory that is there already, else the project's owner, else `postgres`, else `nobody`.
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
    for name in UNPRIVILEGED:
        if name in names:
            return Account(names[name].pw_uid, names[name].pw_gid)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root and this machine has no account `postgres` or `nobody`; "
        "run as another account, or set DATABASE_URL."
    )
