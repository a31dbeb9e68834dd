"""A primary and its standby, which the process of the tests uses as the servers of a deployment do."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import ConnectionHandler

from accounts.models import User
from conftest import PASSWORD
from healthcare import env_settings
from healthcare.embedded.home import Home
from healthcare.embedded.supervisor import SERVER_SETTINGS
from healthcare.fastpath import replica_reads
from healthcare.operations.tests.calls import execute
from healthcare.replicas import hits, sessions
from healthcare.tests.crash import eventually
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import SeparatePostgres, Standby, separate_postgres

STANDBY_SETTINGS = SERVER_SETTINGS | {"hot_standby_feedback": "on", "max_standby_streaming_delay": "-1"}
NUMBERS = count(1)  # of the users, since what a test has written stays


class Replicated:
    """A primary and a standby. `outcomes` counts what became of reads on the standby, over `connection`."""

    connection: Any

    def __init__(self, primary: SeparatePostgres, standby: Standby) -> None:
        self.primary, self.standby = primary, standby
        self.outcomes: Counter[str] = Counter()

    def make_user(self, username: str, **fields: Any) -> User:
        return User.objects.create_user(
            username, name=username, email=f"{username}@example.org", password=PASSWORD, **fields
        )

    def new_user(self) -> User:
        return self.make_user(f"user{next(NUMBERS)}")

    def start_standby(self) -> None:
        self.standby.start(STANDBY_SETTINGS)
        self.wait_for_standby()

    def wait_for_standby(self) -> None:
        lsn = execute(self.primary.url, "SELECT pg_current_wal_insert_lsn()::text")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn"
        eventually(lambda: execute(self.standby.url, replayed))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The standby has all that was written before the block, and replays nothing within it."""
        self.wait_for_standby()
        execute(self.standby.url, "SELECT pg_wal_replay_pause()")
        eventually(lambda: execute(self.standby.url, "SELECT pg_get_wal_replay_pause_state() = 'paused'"))
        try:
            yield
        finally:
            execute(self.standby.url, "SELECT pg_wal_replay_resume()")

    def outcome_of(self, call: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
        """What a call returns, and what became of its reads on the standby."""
        self.outcomes.clear()
        return call(), dict(self.outcomes)


@pytest.fixture(scope="module")
def servers(migrated_home: Home) -> Iterator[tuple[SeparatePostgres, Standby]]:
    with separate_postgres(migrated_home) as primary, temporary_folder() as folder:
        standby = Standby(folder, primary.home)
        standby.start(STANDBY_SETTINGS)
        try:
            yield primary, standby
        finally:
            standby.stop()


@contextmanager
def connected(
    found: Replicated, database_url: str, blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Replicated]:
    """Django's connections lead to these servers. What is written in the block is committed, and stays."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATABASE_REPLICA_URL", found.standby.url)
    databases = {"default": env_settings.database("DATABASE_URL"), **env_settings.replica("DATABASE_REPLICA_URL")}
    handler = ConnectionHandler(databases)
    monkeypatch.setattr(sessions, "availability", sessions.Availability())
    for module in (replica_reads, sessions, hits):
        monkeypatch.setattr(module, "count_replica_read", lambda outcome: found.outcomes.update([outcome]))
    monkeypatch.setitem(connections.settings, sessions.ALIAS, handler.settings[sessions.ALIAS])
    tests_own = connections[DEFAULT_DB_ALIAS]
    with blocker.unblock():
        connections[DEFAULT_DB_ALIAS] = handler[DEFAULT_DB_ALIAS]
        found.connection = sessions.own_replica()
        try:
            yield found
        finally:
            found.connection.close()
            connections[DEFAULT_DB_ALIAS].close()
            connections[DEFAULT_DB_ALIAS] = tests_own


@pytest.fixture
def replicated(
    servers: tuple[SeparatePostgres, Standby], django_db_setup: None, django_db_blocker: Any, monkeypatch: Any
) -> Iterator[Replicated]:
    primary, standby = servers
    with connected(Replicated(primary, standby), primary.url, django_db_blocker, monkeypatch) as found:
        yield found
