"""PgBouncer as a process of this machine, for tests and benchmarks."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from healthcare.tests.live import wait_until_answering

NOBODY_UID = 65534


def find_pgbouncer(name: str = "pgbouncer") -> str | None:
    """The path of the program. Debian installs it in /usr/sbin."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


@contextmanager
def running_pgbouncer(
    program: str, port: int, database: str, target: dict[str, Any], folder: Path, **settings: str | int
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run PgBouncer, whose database of this name is the one that libpq's parameters `target` name."""
    lines = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any",
        "log_connections": 0, "log_disconnections": 0, **settings,
    }  # fmt: skip
    configuration, log = folder / f"pgbouncer-{port}.ini", folder / f"pgbouncer-{port}.log"
    configuration.write_text(
        f"[databases]\n{database} = {' '.join(f'{name}={value}' for name, value in target.items())}\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    with log.open("wb") as output, configuration.open("rb") as readable:
        command = [program, f"/dev/fd/{readable.fileno()}"]  # also for an account that may not enter the folder
        account = account_for(str(target.get("host", "")))
        process = subprocess.Popen(command, pass_fds=[readable.fileno()], user=account, stdout=output, stderr=output)
        try:
            wait_until_answering(port, process, f"PgBouncer (see {log})")
            yield process
        finally:
            process.terminate()
            process.wait(60)


def account_for(host: str) -> int | None:
    """PgBouncer refuses root: the account that may reach the server's socket, or nobody."""
    if os.geteuid() != 0:
        return None
    owner = os.stat(host).st_uid if host.startswith("/") else 0
    return owner or NOBODY_UID
