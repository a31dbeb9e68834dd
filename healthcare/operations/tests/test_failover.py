"""DATABASE_URL names several hosts, and another of them becomes the primary while a server runs."""

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from healthcare.embedded.home import POSTGRES_PORT, Home
from healthcare.embedded.supervisor import SERVER_SETTINGS
from healthcare.operations.tests.calls import (
    PATIENTS,
    SECONDS_TO_HEAL,
    Caller,
    execute,
    is_unavailable,
    wait_for_checks,
)
from healthcare.operations.tests.test_command_errors import run
from healthcare.tests.live import Answer, LiveServer, serving
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import SeparatePostgres, Standby, separate_postgres

pytestmark = pytest.mark.slow

UNREACHABLE = "127.0.0.1:1"


def url_of_hosts(*servers: SeparatePostgres) -> str:
    """The first of the hosts cannot be reached."""
    hosts = [f"{quote(str(server.home.socket_folder), safe='')}:{POSTGRES_PORT}" for server in servers]
    return (
        f"postgres://postgres:hidden-word@{','.join([UNREACHABLE, *hosts])}/healthcare?target_session_attrs=read-write"
    )


class ConcurrentWriter:
    """Creates patients one after the other in four threads, and keeps every answer by the patient's name."""

    def __init__(self, server: LiveServer, token: str) -> None:
        self.server, self.token = server, token
        self.ended = threading.Event()
        self.answers: dict[str, Answer] = {}

    def run(self, number: int) -> None:
        for turn in itertools.count():
            if self.ended.is_set():
                return
            name = f"{number}-{turn}"
            self.answers[name] = self.server.call("POST", PATIENTS, {"name": name}, self.token)

    def created(self) -> set[str]:
        return {name for name, answer in self.answers.items() if answer.status == 201}


def test_a_server_goes_on_with_the_host_that_accepts_writes(migrated_home: Home) -> None:
    with separate_postgres(migrated_home) as primary, temporary_folder() as folder:
        standby = Standby(folder, primary.home)
        standby.start()
        try:
            check_one_sentence_of_migrate(standby)
            with serving(
                url_of_hosts(primary, standby), migrated=True, DJANGO_SETTINGS_MODULE="healthcare.settings"
            ) as server:
                caller = Caller(server)
                check_takeover(server, caller, primary, standby)
                check_demotion(server, caller, primary, standby)
        finally:
            standby.stop()


def check_one_sentence_of_migrate(standby: SeparatePostgres) -> None:
    """No host accepts writes: all of them are named, and the password is not."""
    ended = run({**os.environ, "DATABASE_URL": url_of_hosts(standby)}, "migrate")
    assert (ended.returncode, ended.stderr) == (
        1,
        "manage.py: the database that DATABASE_URL names cannot be reached: "
        'connection to server at "127.0.0.1", port 1 failed: Connection refused; '
        f'connection to server on socket "{standby.home.socket}" failed: session is read-only\n',
    )


def check_takeover(server: LiveServer, caller: Caller, primary: SeparatePostgres, standby: SeparatePostgres) -> None:
    """The primary dies within writes, and its standby is promoted: 503 meanwhile, and no acknowledged write is lost."""
    execute(primary.url, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    writer = ConcurrentWriter(server, caller.tokens["access"])
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(writer.run, number) for number in range(4)]
        try:
            primary.stop()
            wait_for_checks(server, "database")
            refused = {name: call() for name, call in caller.writes.items()}
            assert {name: answer.status for name, answer in refused.items() if not is_unavailable(answer)} == {}
            execute(standby.url, "SELECT pg_promote()")
            assert wait_for_checks(server) < SECONDS_TO_HEAL
            assert server.call("POST", PATIENTS, {"name": "After"}, caller.tokens["access"]).status == 201
        finally:
            writer.ended.set()
        for run in runs:
            run.result()
    failed = [answer for answer in writer.answers.values() if answer.status != 201]
    assert failed
    assert [answer.status for answer in failed if not is_unavailable(answer)] == []
    stored = execute(standby.url, "SELECT array_agg(name) FROM patients_patient")
    assert {name: stored.count(name) for name in writer.created() if stored.count(name) != 1} == {}


def check_demotion(server: LiveServer, caller: Caller, primary: SeparatePostgres, standby: SeparatePostgres) -> None:
    """A host accepts no writes from now on, but ends no session: each is closed after its first failed request."""
    primary.start(SERVER_SETTINGS | {"synchronous_standby_names": ""})
    assert caller.use_every_thread() == {200}
    execute(standby.url, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    create = [server.call("POST", PATIENTS, {"name": "X"}, caller.tokens["access"]) for _ in range(64)]
    failed = [answer for answer in create if answer.status != 201]
    assert [answer.status for answer in failed if not is_unavailable(answer)] == []
    assert wait_for_checks(server) < SECONDS_TO_HEAL
    assert caller.use_every_thread() == {200}
    assert {name: call().status for name, call in caller.calls.items() if call().status >= 500} == {}
    assert execute(primary.url, "SELECT count(*) FROM patients_patient WHERE name = 'X'") > 0
