"""A command says in one sentence why it cannot go on, whatever its arguments, its output and its process id."""

import os
import subprocess
import sys

import pytest
from django.conf import settings

from healthcare.tests.live import LiveServer, environment_of, own_database, url_of

pytestmark = pytest.mark.slow


def run(environment: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", [["tidy"], ["legal_hold", "1", "--reason", "Case 7"]])
def test_a_command_that_writes_needs_a_database_that_can_be_written(live: LiveServer, command: list[str]) -> None:
    read_only = {"PGOPTIONS": "-c default_transaction_read_only=on"}
    ended = run(live.environment | read_only, *command)
    sentence = "the database can only be read; run this on the primary, or end its default_transaction_read_only."
    assert (ended.returncode, ended.stderr) == (1, f"manage.py: {sentence}\n")


def test_a_database_without_tables_is_named_as_such(live: LiveServer) -> None:
    with own_database() as name:
        ended = run(environment_of(url_of(name)), "retention_due")
    sentence = "the database lacks a table or a column of this version; run `manage.py migrate`."
    assert (ended.returncode, ended.stderr) == (1, f"manage.py: {sentence}\n")


@pytest.mark.parametrize(
    "command",
    [
        ["legal_hold", "1", "--release", "--by", "\udcff"],
        ["erase_user", "\udcff", "--reason", "Request 7", "--dry-run"],
        ["backup", "/dev/null/none", "--encrypt-to", "age1\udcff"],
    ],
)
def test_an_argument_that_is_not_in_utf_8_is_refused(live: LiveServer, command: list[str]) -> None:
    ended = run(live.environment, *command)
    sentence = "manage.py: an argument is not in UTF-8; write it again.\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_does_its_work_without_open_streams(live: LiveServer, closed: str) -> None:
    command = f"exec '{sys.executable}' manage.py tidy {closed}"
    ended = subprocess.run(
        ["sh", "-c", command], cwd=settings.BASE_DIR, env=live.environment, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_whose_reader_has_ended_ends_with_one_sentence(live: LiveServer, unbuffered: str) -> None:
    receiver, sender = os.pipe()
    os.close(receiver)
    ended = subprocess.run(
        [sys.executable, "manage.py", "tidy"],
        cwd=settings.BASE_DIR, env=live.environment | {"PYTHONUNBUFFERED": unbuffered}, stdout=sender,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(sender)
    sentence = "manage.py: the program that reads the output has ended, so this has ended, too.\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)
