"""The client side of the server: attach to it, start it if it does not answer, detach from it."""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from healthcare.embedded import binaries, cluster, locks, postmaster, probe
from healthcare.embedded.errors import EmbeddedBusyError, EmbeddedError, embedded_error_from_os_error
from healthcare.embedded.home import Home
from healthcare.project import PROJECT

STOP_TIMEOUT = 60.0
MAX_SHARED_ATTEMPTS = 5  # the supervisor never holds the lock for so many attempts in a row
START_TIMEOUT = 60.0  # includes a recovery after a crash
SUPERVISOR = (
    "import sys; sys.path.insert(0, {path!r}); from healthcare.embedded.supervisor import main; main({order!r})"
)
SUPERVISOR_VARIABLES = {"PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}

_attached: dict[Path, int] = {}
_attach_lock = threading.Lock()


def attach(home: Home) -> None:
    """Count this process and its forks as clients until they end. Wait if the server is stopping."""
    with _attach_lock:
        if home.folder not in _attached:
            home.create()
            _attached[home.folder] = acquire_clients_lock(home)
            atexit.register(detach_if_unsupervised, home)
    if locks.is_unlocked(home.supervisor_lock, home.account) and probe.accepts_connections(home.socket):
        start_supervisor(home)  # the supervisor was killed: a new one adopts the server


def acquire_clients_lock(home: Home) -> int:
    try:
        clients = locks.open_lock(home.clients_lock, home.account)
    except OSError as error:
        raise embedded_error_from_os_error(error, home.folder) from error
    if not locks.wait_for_lock(clients, locks.SHARED, STOP_TIMEOUT):
        os.close(clients)
        raise EmbeddedBusyError(f"The embedded PostgreSQL in {home.folder} is still stopping; try again in a minute.")
    return clients


def detach_if_unsupervised(home: Home) -> None:
    """At exit: no other process would stop a server whose supervisor was killed."""
    with suppress(OSError):
        if home.folder in _attached and locks.is_unlocked(home.supervisor_lock, home.account):
            detach(home)


def detach(home: Home) -> None:
    """Stop being a client. The last client stops the server and waits until it has stopped."""
    with _attach_lock:
        clients = _attached.pop(home.folder, None)
    if clients is None:
        return
    os.close(clients)
    clients = locks.open_lock(home.clients_lock, home.account)
    try:
        shared = 0
        while not locks.try_lock(clients, locks.EXCLUSIVE):
            # The supervisor takes the lock briefly to check for clients, or longer to stop the server. If a shared lock
            # succeeds several times in a row while an exclusive one fails, the holder is another client.
            shared = shared + 1 if locks.try_lock(clients, locks.SHARED) else 0
            if shared > MAX_SHARED_ATTEMPTS:
                return
            time.sleep(locks.POLL_SECONDS)
        postmaster.request_fast_shutdown(home.data)
        wait_until_stopped(home)
    finally:
        os.close(clients)


def wait_until_stopped(home: Home) -> None:
    lock = locks.open_lock(home.server_lock, home.account)
    locks.wait_for_lock(lock, locks.EXCLUSIVE, STOP_TIMEOUT)
    os.close(lock)


def ensure_running(home: Home) -> None:
    """Return when the server accepts connections; start it if no process of it is alive.

    Raises EmbeddedError if that fails.
    """
    try:
        with locks.exclusive_lock(home.start_lock, home.account):
            lock = wait_until_accepting_or_gone(home)
            if lock is None:
                return
            try:
                programs = binaries.find_binaries().accessible_to_server(home)
                cluster.ensure_data_directory(home, programs)
                postmaster.remove_stale_pid_file(home)
                start_supervisor(home, programs, lock)
            finally:
                os.close(lock)
    except OSError as error:
        raise embedded_error_from_os_error(error, home.folder) from error
    except subprocess.CalledProcessError as error:
        raise EmbeddedError(f"The embedded PostgreSQL in {home.folder} could not be started: {error}.") from error


def wait_until_accepting_or_gone(home: Home) -> int | None:
    """Return None if the server accepts connections, or the server lock if no process of the server is alive.

    Wait while neither holds: another process may be starting it, or sessions of a killed server may still be ending.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if home.check_socket_folder() and probe.accepts_connections(home.socket):
            return None
        lock = locks.open_lock(home.server_lock, home.account)
        if locks.try_lock(lock, locks.EXCLUSIVE):
            return lock
        os.close(lock)
        time.sleep(locks.POLL_SECONDS)
    raise EmbeddedBusyError(
        f"The embedded PostgreSQL in {home.folder} runs but does not accept connections; its log is {home.log}."
    )


def start_supervisor(home: Home, programs: binaries.Binaries | None = None, server_lock: int | None = None) -> None:
    """Start a supervisor process. With programs it starts the server; without, it adopts the running one."""
    reading, report = os.pipe()
    order = {
        "folder": str(home.folder),
        "account": [home.account.uid, home.account.gid] if home.account else None,
        "programs": str(programs.folder) if programs else None,
        "server_lock": server_lock,
        "report": report,
    }
    try:
        subprocess.run(  # noqa: S603 (this interpreter, no shell)
            [sys.executable, "-P", "-c", SUPERVISOR.format(path=str(PROJECT), order=json.dumps(order))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in SUPERVISOR_VARIABLES},
            pass_fds=[report] if server_lock is None else [report, server_lock],
            start_new_session=True,
            check=True,  # returns at once: the supervisor forks
        )
        os.close(report)
        if programs:
            await_startup_report(home, reading)
    finally:
        os.close(reading)


def await_startup_report(home: Home, reading: int) -> None:
    if not select.select([reading], [], [], START_TIMEOUT)[0]:
        raise EmbeddedBusyError(
            f"The embedded PostgreSQL in {home.folder} is still recovering from a crash; try again in a minute."
        )
    text = os.fsdecode(os.read(reading, 65536))
    if text != "ready":
        raise EmbeddedError(text or f"The embedded PostgreSQL in {home.folder} could not be started.")
