"""Where one embedded server keeps its things."""

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from healthcare.embedded.account import Account, unprivileged
from healthcare.embedded.failure import EmbeddedError, from_os_error
from healthcare.embedded.locks import open_lock

PROJECT = Path(__file__).resolve().parent.parent.parent
PORT = 5432  # names the socket's file, nothing listens on TCP
# What neither libpq's host list nor unix_socket_directories would split, and short enough for sockaddr_un (104 bytes).
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._+=@:~/-]+", re.ASCII)
LONGEST_SOCKET = 100  # bytes


@dataclass(frozen=True)
class Home:
    """The folder of one server, and the account that runs it when this process is root."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def start_lock(self) -> Path:
        """Held while one process starts the server."""
        return self.folder / "start.lock"

    @property
    def server_lock(self) -> Path:
        """Held by every process of the server itself: free means that none of them lives."""
        return self.folder / "server.lock"

    @property
    def users_lock(self) -> Path:
        """Shared by the processes that use the server, held alone while it stops."""
        return self.folder / "users.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the one process that stops the server when its last user has gone."""
        return self.folder / "supervisor.lock"

    @property
    def owner(self) -> int:
        return self.account.uid if self.account else os.geteuid()

    @property
    def socket_folder(self) -> Path:
        """In the home, or in /tmp when that path is too long or not plain ASCII. The same for every process."""
        inside = self.folder / "socket"
        path = str(inside / f".s.PGSQL.{PORT}")
        if len(path) <= LONGEST_SOCKET and PLAIN_PATH.fullmatch(path):
            return inside
        return Path("/tmp") / f"healthcare-{self.owner}-{digest(self.folder)}"  # noqa: S108 (checked below)

    @property
    def socket(self) -> Path:
        return self.socket_folder / f".s.PGSQL.{PORT}"

    def make(self) -> None:
        """Make the folder, 0700. One that is there already keeps its mode and its owner."""
        try:
            while missing := [part for part in (*reversed(self.folder.parents), self.folder) if not part.exists()]:
                self.make_whole(missing)
        except OSError as error:
            raise from_os_error(error, self.folder) from error

    def make_whole(self, missing: list[Path]) -> None:
        """Make these, each in the one before, so that no other process finds one that is not its owner's yet: one of
        root would take it for a folder that the account cannot enter, and would put a second server elsewhere."""
        top = missing[0]
        new = Path(tempfile.mkdtemp(prefix=f".{top.name[:200]}.new-", dir=top.parent))
        try:
            for part in missing:
                self.take(new / part.relative_to(top))
            # Not empty, or who comes second would put an empty one in its place while the first already works in it.
            os.close(open_lock(new / self.users_lock.relative_to(top), self.account))
            new.rename(top)
        except OSError:
            shutil.rmtree(new)
            if not top.is_dir():  # else somebody else was faster
                raise

    def take(self, folder: Path) -> None:
        folder.mkdir(0o700, exist_ok=True)
        if self.account:
            self.account.take(folder)

    def make_socket_folder(self) -> None:
        if not self.socket_folder.exists():
            self.take(self.socket_folder)
        self.check_socket_folder()

    def check_socket_folder(self) -> bool:
        """Whether the socket's folder is there. One that somebody else could have made or could enter is refused."""
        folder = self.socket_folder
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self.owner or status.st_mode & 0o077:
            raise EmbeddedError(
                f"{folder} should be a folder that only PostgreSQL's account can enter, but somebody else made it; "
                "remove it, or choose a shorter home with DATABASE_URL=embedded:///some/folder."
            )
        return True


def digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


@cache
def resolve(asked: Path) -> Home:
    """The home for the folder that DATABASE_URL names.

    As root it is the folder itself if the unprivileged account can reach it, else one in /var/lib: no mode and no
    owner of a folder that is not ours is changed. Raises EmbeddedError where PostgreSQL cannot run.
    """
    if sys.platform == "win32":
        raise EmbeddedError("The embedded PostgreSQL needs Linux or macOS; set DATABASE_URL=postgres://... on Windows.")
    asked = asked.resolve()
    elsewhere = Path("/var/lib") / f"healthcare-backend-{digest(asked)}"
    account = unprivileged([asked / "data", elsewhere / "data"], PROJECT)
    if account is None or account.may_enter(asked):
        return Home(asked, account)
    return Home(elsewhere, account)
