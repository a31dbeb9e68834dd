"""A standby is promoted, and another one is the replica: it is not read before it follows the new primary."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from conftest import logged_in
from healthcare.embedded.home import POSTGRES_PORT, Home
from healthcare.operations.tests.calls import execute
from healthcare.replicas.tests.conftest import STANDBY_SETTINGS, Replicated, connected
from healthcare.tests.crash import eventually
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import SeparatePostgres, Standby, separate_postgres

pytestmark = pytest.mark.slow

PATIENTS = "/api/patients/"


@contextmanager
def running_standby(primary: SeparatePostgres) -> Iterator[Standby]:
    with temporary_folder() as folder:
        standby = Standby(folder, primary.home)
        standby.start(STANDBY_SETTINGS)
        try:
            yield standby
        finally:
            standby.stop()


def url_of(*servers: SeparatePostgres) -> str:
    hosts = ",".join(f"{quote(str(server.home.socket_folder), safe='')}:{POSTGRES_PORT}" for server in servers)
    return f"postgres://postgres@{hosts}/healthcare"


def stop_after_sending_all(primary: SeparatePostgres) -> None:
    """A fast shutdown, after which both standbys have the same WAL."""
    assert primary.process
    primary.process.send_signal(signal.SIGINT)
    primary.process.wait()
    primary.process = None


def test_a_replica_is_read_again_once_it_follows_the_new_primary(
    migrated_home: Home, django_db_setup: None, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        separate_postgres(migrated_home) as primary,
        running_standby(primary) as promoted,
        running_standby(primary) as replica,
        connected(
            Replicated(primary, replica), url_of(primary, promoted), django_db_blocker, monkeypatch
        ) as replicated,
    ):
        client = logged_in(replicated.new_user())

        def read() -> tuple[list[str], dict[str, int]]:
            answer, outcome = replicated.outcome_of(lambda: client.get(PATIENTS))
            return [one["name"] for one in answer.json()], outcome

        client.post(PATIENTS, {"name": "Before"}, "json")
        client.get(PATIENTS)  # stores the timeline
        replicated.wait_for_standby()
        assert read() == (["Before"], {"served": 1})
        stop_after_sending_all(primary)
        execute(promoted.url, "SELECT pg_promote()")
        replicated.primary = promoted
        eventually(lambda: client.post(PATIENTS, {"name": "After"}, "json").status_code == 201)
        assert [read(), read()] == [(["After", "Before"], {"other": 1})] * 2
        source = f"host={promoted.home.socket_folder} port={POSTGRES_PORT} user=postgres"
        execute(replica.url, f"ALTER SYSTEM SET primary_conninfo = '{source}'", "SELECT pg_reload_conf()")
        replicated.wait_for_standby()
        assert read() == (["After", "Before"], {"served": 1})
