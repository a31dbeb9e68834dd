"""Using the server: join its users, start it when it does not answer, leave."""

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
from healthcare.embedded.failure import EmbeddedError, from_os_error
from healthcare.embedded.home import PROJECT, Home

STOP_SECONDS = 60.0
START_SECONDS = 60.0  # a recovery after a crash included
SUPERVISOR = "import sys; sys.path.insert(0, sys.argv.pop(1)); from healthcare.embedded.supervisor import main; main()"
KEPT_VARIABLES = {"PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}

_joined: dict[Path, int] = {}
_joining = threading.Lock()


def join(home: Home) -> None:
    """Count this process, and what it forks, among the users until it ends. Waits for a stop that is under way."""
    with _joining:
        if home.folder not in _joined:
            home.make()
            _joined[home.folder] = become_user(home)
            atexit.register(end_unsupervised, home)
    if locks.is_free(home.supervisor_lock, home.account) and probe.accepts(home.socket):
        supervise(home)  # the supervisor has been killed: another one adopts the server


def become_user(home: Home) -> int:
    try:
        users = locks.open_lock(home.users_lock, home.account)
    except OSError as error:
        raise from_os_error(error, home.folder) from error
    if not locks.wait_for(users, locks.SHARED, STOP_SECONDS):
        os.close(users)
        raise EmbeddedError(f"The embedded PostgreSQL in {home.folder} is still stopping; try again in a minute.")
    return users


def end_unsupervised(home: Home) -> None:
    """At the end of this process: nobody else would stop a server whose supervisor has been killed."""
    with suppress(OSError):
        if home.folder in _joined and locks.is_free(home.supervisor_lock, home.account):
            leave(home)


def leave(home: Home) -> None:
    """Stop being a user; if this was the last one, stop the server and wait until it has stopped."""
    with _joining:
        users = _joined.pop(home.folder, None)
    if users is None:
        return
    os.close(users)
    users = locks.open_lock(home.users_lock, home.account)
    try:
        while not locks.try_lock(users, locks.EXCLUSIVE):
            if locks.try_lock(users, locks.SHARED):
                return  # somebody else uses it
            time.sleep(locks.PAUSE)  # the supervisor has the lock: it looks, or it stops the server
        postmaster.stop(home.data)
        wait_until_stopped(home)
    finally:
        os.close(users)


def wait_until_stopped(home: Home) -> None:
    lock = locks.open_lock(home.server_lock, home.account)
    locks.wait_for(lock, locks.EXCLUSIVE, STOP_SECONDS)
    os.close(lock)


def ensure_running(home: Home) -> None:
    """Return when the server accepts connections; start it if no process of it lives.

    Raises EmbeddedError with one sentence when it cannot.
    """
    try:
        with locks.alone(home.start_lock, home.account):
            lock = wait_until_accepting_or_gone(home)
            if lock is None:
                return
            try:
                programs = binaries.find().reachable(home)
                cluster.prepare(home, programs)
                postmaster.clear_stale_file(home)
                supervise(home, programs, lock)
            finally:
                os.close(lock)
    except OSError as error:
        raise from_os_error(error, home.folder) from error
    except subprocess.CalledProcessError as error:
        raise EmbeddedError(f"The embedded PostgreSQL in {home.folder} could not be started: {error}.") from error


def wait_until_accepting_or_gone(home: Home) -> int | None:
    """None when the server accepts connections, else its lock: then no process of it lives.

    In between it may be starting for a process that was killed, or its orphaned sessions may be ending.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if home.check_socket_folder() and probe.accepts(home.socket):
            return None
        lock = locks.open_lock(home.server_lock, home.account)
        if locks.try_lock(lock, locks.EXCLUSIVE):
            return lock
        os.close(lock)
        time.sleep(locks.PAUSE)
    raise EmbeddedError(
        f"The embedded PostgreSQL in {home.folder} runs but does not accept connections; its log is {home.log}."
    )


def supervise(home: Home, programs: binaries.Binaries | None = None, server_lock: int | None = None) -> None:
    """Start the supervisor: with programs it starts the server, without it adopts the one whose own was killed."""
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
            [sys.executable, "-P", "-c", SUPERVISOR, str(PROJECT), json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in KEPT_VARIABLES},
            pass_fds=[report] if server_lock is None else [report, server_lock],
            start_new_session=True,
            check=True,  # returns at once: the supervisor goes on in a child of its own
        )
        os.close(report)
        if programs:
            check_report(home, reading)
    finally:
        os.close(reading)


def check_report(home: Home, reading: int) -> None:
    if not select.select([reading], [], [], START_SECONDS)[0]:
        raise EmbeddedError(
            f"The embedded PostgreSQL in {home.folder} is still recovering from a crash; try again in a minute."
        )
    text = os.fsdecode(os.read(reading, 65536))
    if text != "ready":
        raise EmbeddedError(text or f"The embedded PostgreSQL in {home.folder} could not be started.")
