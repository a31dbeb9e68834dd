"""The parent process of the server: it starts the server, and stops it after its last client process has ended.

It runs in a session of its own, so that neither Ctrl-C nor the end of the command that started the server stops it for
other clients. It uses the standard library and psutil, not Django.
"""

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from healthcare.embedded import locks, postmaster
from healthcare.embedded.account import Account, drop_privileges
from healthcare.embedded.cluster import POSTGRES_ENVIRONMENT
from healthcare.embedded.errors import EmbeddedError, embedded_error_from_os_error, embedded_error_from_output
from healthcare.embedded.home import POSTGRES_PORT, Home

LINGER_SECONDS = 5.0  # so that the autoreloader or the next command finds the server still running
MAX_LOG_BYTES = 10 * 1024 * 1024
PREDECESSOR_TIMEOUT = 10.0  # seconds for the previous supervisor, whose server has ended, to exit

SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(POSTGRES_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "300",  # 64 workers with four threads each, and other clients
    # Keep patients' data out of the log: no statements, no parameters, no failed statements, no DETAIL of errors.
    "log_statement": "none",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "logging_collector": "off",
}


class ServerProcess(Protocol):
    """The common part of `subprocess.Popen` and `psutil.Process`. Neither signals a reused process id."""

    def send_signal(self, number: int, /) -> None: ...
    def wait(self) -> int | None: ...


def main(order_json: str) -> None:
    """Adopt the running server, or start it and report the result, as `server.start_supervisor` orders."""
    order = json.loads(order_json)
    account = Account(*order["account"]) if order["account"] else None
    home = Home(Path(order["folder"]), account)
    os.umask(0o077)
    os.chdir("/")
    if os.fork():
        os._exit(0)  # the caller does not wait for the supervisor
    clients = locks.open_lock(home.clients_lock, account)
    own = locks.open_lock(home.supervisor_lock, account)
    log = open_server_log(home)
    if account:
        drop_privileges(account)
    server: ServerProcess | None
    if order["server_lock"] is None:
        server = postmaster.find_postmaster(home.data) if locks.try_lock(own, locks.EXCLUSIVE) else None
    else:
        locks.wait_for_lock(own, locks.EXCLUSIVE, PREDECESSOR_TIMEOUT)
        server = start_server(home, Path(order["programs"]), order["server_lock"], order["report"], log)
    if server:
        stop_when_unused(home, server, clients)


def open_server_log(home: Home) -> int:
    """Open the server's log for appending. A large log is rotated first; one older log remains."""
    if home.log.exists() and home.log.stat().st_size > MAX_LOG_BYTES:
        home.log.replace(home.log.with_suffix(".log.1"))
    descriptor = locks.open_lock(home.log, home.account)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor


def start_server(home: Home, programs: Path, server_lock: int, report: int, log: int) -> ServerProcess | None:
    start_of_output = os.lseek(log, 0, os.SEEK_CUR)
    try:
        home.create_socket_folder()
        server = launch_postgres(home, programs, server_lock, log)
        os.close(server_lock)
        if not wait_until_ready(home, server):
            output = os.pread(log, 100_000, start_of_output).decode(errors="replace")
            raise embedded_error_from_output(output, home.folder, "started")
    except EmbeddedError as error:
        send_startup_report(report, str(error))
        return None
    except OSError as error:
        send_startup_report(report, str(embedded_error_from_os_error(error, home.folder)))
        return None
    send_startup_report(report, "ready")
    return server


def launch_postgres(home: Home, programs: Path, server_lock: int, log: int) -> subprocess.Popen[bytes]:
    settings = SERVER_SETTINGS | {"unix_socket_directories": str(home.socket_folder)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return subprocess.Popen(  # noqa: S603 (PostgreSQL's program, no shell)
        [str(programs / "postgres"), "-D", str(home.data), *options],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=POSTGRES_ENVIRONMENT,
        pass_fds=[server_lock],  # inherited by every process of the server: see Home.server_lock
    )


def wait_until_ready(home: Home, server: subprocess.Popen[bytes]) -> bool:
    """Wait for the status "ready" in postmaster.pid, as pg_ctl does. Return False if the server ends instead."""
    while server.poll() is None:
        try:
            lines = (home.data / "postmaster.pid").read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) >= 8 and lines[0].strip() == str(server.pid).encode() and lines[7].strip() == b"ready":
            return True
        time.sleep(locks.POLL_SECONDS)
    return False


def send_startup_report(report: int, text: str) -> None:
    with suppress(BrokenPipeError):  # the caller was killed; the server runs for the next client
        os.write(report, os.fsencode(text))
    os.close(report)


def stop_when_unused(home: Home, server: ServerProcess, clients: int) -> None:
    """Stop the server when it has had no client for a while. Exit when the server ends, for whatever reason."""
    threading.Thread(target=exit_with_server, args=[home, server], daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
    while True:
        fcntl.flock(clients, fcntl.LOCK_EX)
        fcntl.flock(clients, fcntl.LOCK_UN)
        time.sleep(LINGER_SECONDS)
        # Hold the lock until exit, so that a new client waits for the stop and then starts the server again.
        if locks.try_lock(clients, locks.EXCLUSIVE):
            break
    server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
    threading.Event().wait()


def exit_with_server(home: Home, server: ServerProcess) -> None:
    server.wait()
    if not home.socket_folder.is_relative_to(home.folder):
        with suppress(OSError):  # not empty after a crash; the next start reuses it
            home.socket_folder.rmdir()
    os._exit(0)  # the main thread may be waiting for a lock
