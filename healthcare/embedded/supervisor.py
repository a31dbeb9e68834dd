"""The parent of the server: starts it, and stops it when the last process that used it has gone.

A process of its own, away from the terminal's signals, so that neither Ctrl-C nor the end of the command that
happened to come first takes the server from the others. It uses the standard library and psutil, no Django.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from healthcare.embedded import locks, postmaster
from healthcare.embedded.account import Account, drop_privileges
from healthcare.embedded.cluster import ENVIRONMENT
from healthcare.embedded.failure import EmbeddedError, from_os_error, from_output
from healthcare.embedded.home import PORT, Home

LINGER = 5.0  # seconds: the autoreloader and a sequence of commands find the server still there
LARGEST_LOG = 10 * 1024 * 1024  # bytes
PATIENCE = 10.0  # seconds for a predecessor, whose server has ended, to go

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "300",  # 64 workers with four threads each, and room for people
    # Patients' data must not reach the log: no statements, no parameters, no failed statement and no error's detail.
    "log_statement": "none",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "logging_collector": "off",
}


class Server(Protocol):
    """What `subprocess.Popen` and `psutil.Process` have in common; neither signals a reused process id."""

    def send_signal(self, number: int, /) -> None: ...
    def wait(self) -> int | None: ...


def main() -> None:
    """Do what the order on the command line says: adopt the running server, or start it and report how that went."""
    order = json.loads(sys.argv[1])
    account = Account(*order["account"]) if order["account"] else None
    home = Home(Path(order["folder"]), account)
    os.umask(0o077)
    os.chdir("/")
    if os.fork():
        os._exit(0)  # nobody has to wait for the supervisor
    users = locks.open_lock(home.users_lock, account)
    own = locks.open_lock(home.supervisor_lock, account)
    log = open_log(home)
    if account:
        drop_privileges(account)
    server: Server | None
    if order["server_lock"] is None:
        server = postmaster.find(home.data) if locks.try_lock(own, locks.EXCLUSIVE) else None
    else:
        locks.wait_for(own, locks.EXCLUSIVE, PATIENCE)
        server = start(home, Path(order["programs"]), order["server_lock"], order["report"], log)
    if server:
        supervise(home, server, users)


def open_log(home: Home) -> int:
    """The server's log, begun anew when it has grown too large; one older log is kept."""
    if home.log.exists() and home.log.stat().st_size > LARGEST_LOG:
        home.log.replace(home.log.with_suffix(".log.1"))
    descriptor = locks.open_lock(home.log, home.account)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor


def start(home: Home, programs: Path, server_lock: int, report: int, log: int) -> Server | None:
    began = os.lseek(log, 0, os.SEEK_CUR)
    try:
        home.make_socket_folder()
        server = launch(home, programs, server_lock, log)
        os.close(server_lock)
        if not wait_until_ready(home, server):
            output = os.pread(log, 100_000, began).decode(errors="replace")
            raise from_output(output, home.folder, "started")
    except EmbeddedError as error:
        tell(report, str(error))
        return None
    except OSError as error:
        tell(report, str(from_os_error(error, home.folder)))
        return None
    tell(report, "ready")
    return server


def launch(home: Home, programs: Path, server_lock: int, log: int) -> subprocess.Popen[bytes]:
    settings = SETTINGS | {"unix_socket_directories": str(home.socket_folder)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return subprocess.Popen(  # noqa: S603 (our own program, no shell)
        [str(programs / "postgres"), "-D", str(home.data), *options],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=ENVIRONMENT,
        pass_fds=[server_lock],  # inherited by every process of the server: see Home.server_lock
    )


def wait_until_ready(home: Home, server: subprocess.Popen[bytes]) -> bool:
    """Until the status line of postmaster.pid says so, as pg_ctl does. False when the server has ended instead."""
    while server.poll() is None:
        try:
            lines = (home.data / "postmaster.pid").read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) >= 8 and lines[0].strip() == str(server.pid).encode() and lines[7].strip() == b"ready":
            return True
        time.sleep(locks.PAUSE)
    return False


def tell(report: int, text: str) -> None:
    with suppress(BrokenPipeError):  # whoever asked has been killed; the server runs for the next one
        os.write(report, os.fsencode(text))
    os.close(report)


def supervise(home: Home, server: Server, users: int) -> None:
    """Stop the server when nobody has used it for a while; end with it in any case."""
    threading.Thread(target=end_with, args=[home, server], daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(LINGER)
        # Kept until the end, so that a new user waits for the stop and then starts the server again.
        if locks.try_lock(users, locks.EXCLUSIVE):
            break
    server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
    threading.Event().wait()


def end_with(home: Home, server: Server) -> None:
    server.wait()
    if not home.socket_folder.is_relative_to(home.folder):
        with suppress(OSError):  # not empty after a crash; the next start uses it again
            home.socket_folder.rmdir()
    os._exit(0)  # the main thread may be waiting for a lock
