"""`kill -9` of `import_records` at any step leaves all or nothing, and the same command completes the import once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
from django.conf import settings

from healthcare.tests.live import LiveServer

pytestmark = [pytest.mark.long, pytest.mark.slow]

# Kills the process in the n-th call of a function, before or after it has run.
PROGRAM = """
import os, signal, sys
import django
django.setup()
from django.core.management import call_command
from healthcare.imports import staging
staging.STAGED_PER_TRANSACTION = staging.ROWS_PER_BATCH = 2
function, number, when, *arguments = sys.argv[1:]
calls = []
def die(moment):
    if moment == when and len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
def wrapped(*args):
    calls.append(1)
    die("before")
    result = original(*args)
    die("after")
    return result
owner, name = (staging.ImportRun, function[4:]) if function.startswith("run.") else (staging, function)
original = getattr(owner, name)
setattr(owner, name, wrapped)
call_command("import_records", *arguments)
"""
ROWS = 7


class Command:
    """The command for a new owner's file, run by processes of their own on the database of a running server."""

    def __init__(self, live: LiveServer, folder: Path, *options: str) -> None:
        self.live, self.path = live, folder / "patients.csv"
        user, tokens = live.register()
        self.token, self.owner_id = tokens["access"], user["id"]
        self.path.write_text("name,birth_date\n" + "".join(f"Person {n},19{n}0-01-01\n" for n in range(1, ROWS + 1)))
        # Without matches and likely duplicates: whatever is written twice is there twice.
        self.arguments = ["patients", str(self.path), "--owner", user["username"], "--apply", "--match", "none"]
        self.arguments += ["--on-likely", "create", *options]

    def run(self, function: str = "discard_staged", number: int = 0, when: str = "before") -> tuple[int, str]:
        """The exit status and what was printed. By default it is not killed."""
        command = [sys.executable, "-c", PROGRAM, function, str(number), when, *self.arguments]
        done = subprocess.run(
            command, env=self.live.environment, check=False, capture_output=True, text=True, cwd=settings.BASE_DIR
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def names(self) -> list[str]:
        patients = self.live.call("GET", "/api/patients/", token=self.token).json
        return sorted(patient["name"] for patient in patients)

    def rows(self, statement: str) -> list[tuple[int, ...]]:
        connection = psycopg2.connect(self.live.database_url)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, {"owner": self.owner_id})
            found: list[tuple[int, ...]] = cursor.fetchall()
        connection.close()
        return found

    def staged(self) -> int:
        [(count,)] = self.rows(
            "SELECT count(*) FROM imports_stagedrow row JOIN imports_stagedfile file ON file.id = row.file_id "
            "WHERE file.created_by_id = %(owner)s"
        )
        return count


ALL = [f"Person {n}" for n in range(1, ROWS + 1)]
KILLED = -signal.SIGKILL


@pytest.fixture
def command(live: LiveServer, tmp_path: Path, request: pytest.FixtureRequest) -> Command:
    return Command(live, tmp_path, *getattr(request, "param", []))


@pytest.mark.parametrize(
    ("function", "number", "when", "staged"),
    [
        ("copy_rows", 3, "after", 4),
        ("stage", 1, "after", 7),
        ("run.import_batch", 4, "after", 7),
        ("run.finish", 1, "after", 7),
        ("discard_staged", 1, "after", 7),
    ],
)
def test_a_killed_import_has_written_nothing_and_is_completed(
    command: Command, function: str, number: int, when: str, staged: int
) -> None:
    assert command.run(function, number, when)[0] == KILLED
    assert (command.names(), command.staged()) == ([], staged)
    assert command.rows("SELECT id FROM imports_import WHERE created_by_id = %(owner)s") == []
    assert command.run()[0] == 0
    check_complete(command)


def test_an_import_that_was_killed_after_its_commit_is_not_written_again(command: Command) -> None:
    assert command.run("write_whole", 1, "after")[0] == KILLED
    status, output = command.run()
    assert (status, "nothing was written" in output) == (0, True)
    check_complete(command)


@pytest.mark.parametrize("command", [["--partial"]], ids=["partial"], indirect=True)
@pytest.mark.parametrize(
    ("function", "number", "when", "written"),
    [
        ("copy_rows", 3, "after", 0),
        ("run.import_batch", 2, "after", 2),
        ("run.finish", 3, "after", 4),
        ("discard_staged", 1, "after", 6),
        ("write_in_parts", 1, "after", 7),
    ],
)
def test_a_killed_partial_import_goes_on_behind_its_last_batch(
    command: Command, function: str, number: int, when: str, written: int
) -> None:
    assert command.run(function, number, when)[0] == KILLED
    assert command.names() == ALL[:written]
    assert command.run()[0] == 0
    check_complete(command)


@pytest.mark.parametrize("command", [["--partial"]], ids=["partial"], indirect=True)
def test_an_import_that_is_killed_again_and_again_is_completed(command: Command) -> None:
    for _ in range(3):
        assert command.run("run.import_batch", 2, "before")[0] == KILLED
    assert command.names() == ALL[:6]
    assert command.run()[0] == 0
    check_complete(command)
    status, output = command.run()
    assert (status, "nothing was written" in output) == (0, True)
    assert command.names() == ALL


def check_complete(command: Command) -> None:
    """Each row is there once, as one import tells, and nothing is staged."""
    assert command.names() == ALL
    assert command.staged() == 0
    assert command.rows("SELECT count(*) FROM imports_stagedfile WHERE created_by_id = %(owner)s") == [(0,)]
    assert command.rows("SELECT count(*) FROM patients_patientevent WHERE created_by_id = %(owner)s") == [(ROWS,)]
    [(summary,)] = command.rows(
        "SELECT (summary ->> 'created')::int FROM imports_import WHERE created_by_id = %(owner)s"
    )
    assert summary == ROWS
    assert command.rows(
        "SELECT count(*), count(DISTINCT record_id) FROM imports_importedline WHERE created_by_id = %(owner)s"
    ) == [(ROWS, ROWS)]


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the peak memory of a child process")
def test_the_memory_of_an_import_does_not_grow_with_the_file(live: LiveServer, tmp_path: Path) -> None:
    """Six times the rows need less than a few MiB more."""
    peaks = []
    for rows in (2_000, 12_000):
        command = Command(live, tmp_path)
        command.path.write_text("name,birth_date\n" + "".join(f"Person Number {n},1950-01-01\n" for n in range(rows)))
        process = subprocess.Popen(
            [sys.executable, "manage.py", "import_records", *command.arguments],
            env=live.environment, cwd=settings.BASE_DIR, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)  # KiB
    assert peaks[1] - peaks[0] < 16 * 1024
