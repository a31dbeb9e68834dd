"""The folder of one embedded server: data directory, log, locks and socket."""

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

from healthcare.embedded.account import Account, find_unprivileged_account
from healthcare.embedded.errors import EmbeddedError, embedded_error_from_os_error
from healthcare.embedded.locks import open_lock
from healthcare.project import PROJECT

POSTGRES_PORT = 5432  # names the socket's file; the server does not listen on TCP
# Characters at which neither libpq's list of hosts nor unix_socket_directories splits.
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._+=@:~/-]+", re.ASCII)
MAX_SOCKET_PATH_BYTES = 100  # sockaddr_un holds 104 on macOS


@dataclass(frozen=True)
class Home:
    """The folder of one server, and the account that runs the server if this process is root."""

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
        """Held by the process that is starting the server."""
        return self.folder / "start.lock"

    @property
    def server_lock(self) -> Path:
        """Held by every process of the server: if it is free, none of them is alive."""
        return self.folder / "server.lock"

    @property
    def clients_lock(self) -> Path:
        """Held shared by the client processes, and exclusively while the server stops."""
        return self.folder / "clients.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor, which stops the server when its last client process has ended."""
        return self.folder / "supervisor.lock"

    @property
    def owner(self) -> int:
        return self.account.uid if self.account else os.geteuid()

    @property
    def socket_folder(self) -> Path:
        """A folder in the home, or in /tmp if that path is too long or not plain ASCII; the same for every process."""
        inside = self.folder / "socket"
        path = str(inside / f".s.PGSQL.{POSTGRES_PORT}")
        if len(path) <= MAX_SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(path):
            return inside
        return Path("/tmp") / f"healthcare-{self.owner}-{path_digest(self.folder)}"  # noqa: S108 (checked below)

    @property
    def socket(self) -> Path:
        return self.socket_folder / f".s.PGSQL.{POSTGRES_PORT}"

    def create(self) -> None:
        """Create the folder with mode 0700. An existing one keeps its mode and owner."""
        try:
            while missing := [part for part in (*reversed(self.folder.parents), self.folder) if not part.exists()]:
                self.create_atomically(missing)
        except OSError as error:
            raise embedded_error_from_os_error(error, self.folder) from error

    def create_atomically(self, missing: list[Path]) -> None:
        """Create these nested folders under a temporary name, and rename the outermost.

        No other process may see a folder before its owner is set: another process of root would conclude that the
        account cannot enter it, and would start a second server elsewhere.
        """
        top = missing[0]
        new = Path(tempfile.mkdtemp(prefix=f".{top.name[:200]}.new-", dir=top.parent))
        try:
            for part in missing:
                self.create_folder(new / part.relative_to(top))
            # A folder with a file in it: a rename replaces an empty folder, in which another process may already work.
            os.close(open_lock(new / self.clients_lock.relative_to(top), self.account))
            new.rename(top)
        except OSError:
            shutil.rmtree(new)
            if not top.is_dir():  # else another process created it first
                raise

    def create_folder(self, folder: Path) -> None:
        folder.mkdir(0o700, exist_ok=True)
        if self.account:
            self.account.take_ownership(folder)

    def create_socket_folder(self) -> None:
        if not self.socket_folder.exists():
            self.create_folder(self.socket_folder)
        self.check_socket_folder()

    def check_socket_folder(self) -> bool:
        """Return whether the socket's folder exists. Refuse one that another account owns or can enter."""
        folder = self.socket_folder
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self.owner or status.st_mode & 0o077:
            raise EmbeddedError(
                f"{folder} should be a folder that only PostgreSQL's account owns and can enter, but it is not; "
                "remove it, or choose a shorter home with DATABASE_URL=embedded:///some/folder."
            )
        return True


def path_digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


@cache
def resolve_home(folder: Path) -> Home:
    """Return the home for the folder that DATABASE_URL names.

    For root it is the folder itself if the unprivileged account can enter it, else one in /var/lib: modes and owners of
    existing folders are never changed. Raises EmbeddedError if PostgreSQL cannot run on this system.
    """
    if sys.platform == "win32":
        raise EmbeddedError("The embedded PostgreSQL needs Linux or macOS; set DATABASE_URL=postgres://... on Windows.")
    folder = folder.resolve()
    fallback = Path("/var/lib") / f"healthcare-backend-{path_digest(folder)}"
    account = find_unprivileged_account([folder / "data", fallback / "data"], PROJECT)
    if account is None or account.can_enter(folder):
        return Home(folder, account)
    return Home(fallback, account)
