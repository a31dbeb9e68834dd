"""The first connection starts the server, wherever its home is and however many come at once."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from healthcare.embedded.home import PROJECT, Home
from healthcare.embedded.tests.place import Place, eventually

SETTING = "ask SELECT current_setting('{}')"


def manage(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": f"embedded://{home}"},
        capture_output=True,
        text=True,
    )


def test_the_first_connection_starts_postgresql_18_with_unicode(place: Place) -> None:
    program = place.program()
    assert program.ask("ask SHOW server_version_num").startswith("18")
    facts = "ask SELECT current_database(), pg_encoding_to_char(encoding), datlocprovider, datlocale FROM pg_database"
    assert program.ask(f"{facts} WHERE datname = current_database()") == "healthcare UTF8 b C.UTF-8"


def test_only_its_own_account_reaches_the_server(place: Place) -> None:
    program = place.program()
    assert program.ask(SETTING.format("listen_addresses")) == ""
    for path in (place.home, place.data, place.home / "socket", place.home / "socket" / ".s.PGSQL.5432"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.home.glob("*.lo*")} == {0o600}


def test_patients_data_stays_out_of_the_servers_log(place: Place) -> None:
    program = place.program()
    assert program.ask("ask CREATE TABLE t (name text UNIQUE, age int); SELECT 1") == "1"
    program.send("ask INSERT INTO t VALUES ('Zelda Quux'), ('Zelda Quux')")
    program.kill()  # the program does not handle that error, which is not one of connecting
    other = place.program()
    assert other.ask("ask SELECT 1") == "1"
    log = (place.home / "server.log").read_text(encoding="utf-8")
    assert "Zelda" not in log
    assert "ready to accept connections" in log


@pytest.mark.parametrize("extension", ["pg_trgm", "unaccent", "citext", "btree_gist"])
def test_the_extensions_of_later_rooms_are_there(place: Place, extension: str) -> None:
    assert place.program().ask(f"ask CREATE EXTENSION {extension}; SELECT 1") == "1"


def test_eight_first_starts_at_once_share_one_server(place: Place) -> None:
    programs = [place.program() for _ in range(8)]
    for program in programs:
        program.send("connect")
    assert len({program.answer() for program in programs}) == 1


def test_a_start_that_is_killed_half_way_leaves_nothing_that_is_believed(place: Place) -> None:
    program = place.program(start_new_session=True)
    program.send("connect")
    eventually(lambda: list(place.home.glob("data.new-*/global")))
    os.killpg(program.process.pid, 9)  # initdb dies with it
    program.end()
    assert not place.data.exists()
    assert place.program().connect()
    assert not list(place.home.glob("data.new-*"))


@pytest.mark.parametrize("name", ["with a space", "über-Gesundheit", "a,b'c\"d", "x" * 200])
def test_any_folder_can_be_the_home(folder: Path, make_place: Callable[[Path], Place], name: str) -> None:
    place = make_place(folder / name)
    assert place.program().connect()
    sockets = Home(place.home, None).socket_folder
    assert len(str(sockets)) < 90
    assert not sockets.is_relative_to(place.home)


def test_check_and_makemigrations_start_nothing(place: Place) -> None:
    checked = manage(place.home, "check")
    assert checked.returncode == 0, checked.stderr
    made = manage(place.home, "makemigrations", "--dry-run")
    assert made.returncode == 0, made.stderr
    assert "Warning" not in made.stderr
    assert not place.home.exists()


def test_dbshell_speaks_to_the_server(place: Place) -> None:
    shown = manage(place.home, "dbshell", "--", "-Atc", "SELECT current_database()")
    assert (shown.returncode, shown.stdout) == (0, "healthcare\n"), shown.stderr
