"""The first connection starts the server, in any home and with any number of simultaneous clients."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from healthcare.embedded.home import Home
from healthcare.embedded.tests.harness import ServerUnderTest, eventually
from healthcare.project import PROJECT

pytestmark = pytest.mark.slow

CURRENT_SETTING = "query SELECT current_setting('{}')"


def run_manage(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": f"embedded://{home}"},
        capture_output=True,
        text=True,
    )


def test_the_first_connection_starts_postgresql_18_with_unicode(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    assert program.request("query SHOW server_version_num").startswith("18")
    facts = "query SELECT current_database(), pg_encoding_to_char(encoding), datlocprovider, datlocale FROM pg_database"
    assert program.request(f"{facts} WHERE datname = current_database()") == "healthcare UTF8 b C.UTF-8"


def test_only_its_own_account_reaches_the_server(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    assert program.request(CURRENT_SETTING.format("listen_addresses")) == ""
    for path in (
        embedded_server.home,
        embedded_server.data,
        embedded_server.home / "socket",
        embedded_server.home / "socket" / ".s.PGSQL.5432",
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in embedded_server.home.glob("*.lo*")} == {0o600}


def test_patients_data_stays_out_of_the_servers_log(initialized_server: ServerUnderTest) -> None:
    program = initialized_server.program()
    assert program.request("query CREATE TABLE t (name text UNIQUE, age int); SELECT 1") == "1"
    program.send("query INSERT INTO t VALUES ('Zelda Quux'), ('Zelda Quux')")
    program.kill()  # the program does not handle that error
    other = initialized_server.program()
    assert other.request("query SELECT 1") == "1"
    log = (initialized_server.home / "server.log").read_text(encoding="utf-8")
    assert "Zelda" not in log
    assert "ready to accept connections" in log


def test_the_extensions_are_available(initialized_server: ServerUnderTest) -> None:
    program = initialized_server.program()
    for extension in ("pg_trgm", "unaccent", "citext", "btree_gist"):
        assert program.request(f"query CREATE EXTENSION {extension}; SELECT 1") == "1", extension


def test_eight_first_starts_at_once_share_one_server(embedded_server: ServerUnderTest) -> None:
    programs = [embedded_server.program() for _ in range(8)]
    for program in programs:
        program.send("connect")
    assert len({program.read_reply() for program in programs}) == 1


def test_a_start_that_is_killed_leaves_no_data_directory(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program(start_new_session=True)
    program.send("connect")
    eventually(lambda: list(embedded_server.home.glob("data.new-*/global")))
    os.killpg(program.process.pid, 9)  # initdb dies with it
    program.end()
    assert not embedded_server.data.exists()
    assert embedded_server.program().connect()
    assert not list(embedded_server.home.glob("data.new-*"))


@pytest.mark.parametrize("name", ["with a space", "über-Gesundheit", "a,b'c\"d", "x" * 200])
def test_any_folder_can_be_the_home(
    folder: Path, make_embedded_server: Callable[[Path], ServerUnderTest], name: str
) -> None:
    embedded_server = make_embedded_server(folder / name)
    assert embedded_server.program().connect()
    sockets = Home(embedded_server.home, None).socket_folder
    assert len(str(sockets)) < 90
    assert not sockets.is_relative_to(embedded_server.home)


def test_check_and_makemigrations_start_nothing(embedded_server: ServerUnderTest) -> None:
    checked = run_manage(embedded_server.home, "check")
    assert checked.returncode == 0, checked.stderr
    completed = run_manage(embedded_server.home, "makemigrations", "--dry-run")
    assert completed.returncode == 0, completed.stderr
    assert "Warning" not in completed.stderr
    assert not embedded_server.home.exists()


def test_dbshell_connects_to_the_server(initialized_server: ServerUnderTest) -> None:
    completed = run_manage(initialized_server.home, "dbshell", "--", "-Atc", "SELECT current_database()")
    assert (completed.returncode, completed.stdout) == (0, "healthcare\n"), completed.stderr
