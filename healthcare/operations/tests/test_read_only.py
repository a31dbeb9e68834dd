"""The database takes no writes: every call is a 503, and works once it does, over sessions opened meanwhile too."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from healthcare.operations.tests.calls import (
    SECONDS_TO_FAIL,
    SECONDS_TO_HEAL,
    Caller,
    execute,
    is_unavailable,
    wait_for_checks,
)
from healthcare.tests.live import LiveServer, serving
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import SeparatePostgres, Standby
from healthcare.tests.test_outage import kill_connections

pytestmark = pytest.mark.slow


def test_a_server_that_becomes_read_only(server: LiveServer, caller: Caller, postgres: SeparatePostgres) -> None:
    assert caller.use_every_thread() == {200}
    execute(postgres.url, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        assert wait_for_checks(server, "read_only") < SECONDS_TO_FAIL
        failed = {name: call().status for name, call in caller.writes.items() if not is_unavailable(call())}
        assert failed == {}
    finally:
        execute(postgres.url, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    assert wait_for_checks(server) < SECONDS_TO_HEAL
    assert {name: call().status for name, call in caller.writes.items() if call().status >= 500} == {}


def test_a_hot_standby_until_it_is_promoted(postgres: SeparatePostgres, server: LiveServer, caller: Caller) -> None:
    with temporary_folder() as folder:
        standby = Standby(folder, postgres.home)
        standby.start()
        try:
            with serving(standby.url, migrated=True, DJANGO_SETTINGS_MODULE="healthcare.settings") as second:
                wait_for_checks(second, "read_only")
                there = Caller(second, caller.name, caller.tokens, caller.cookies)
                answers = {name: call() for name, call in there.writes.items()}
                assert {name: answer.status for name, answer in answers.items() if not is_unavailable(answer)} == {}
                execute(standby.url, "SELECT pg_promote()")
                assert wait_for_checks(second) < SECONDS_TO_HEAL
                assert {name: call().status for name, call in there.writes.items() if call().status >= 500} == {}
        finally:
            standby.stop()


def runbook_statements(alert: str) -> list[str]:
    """The SQL that docs/runbook.md gives for an alert."""
    runbook = (Path(settings.BASE_DIR) / "docs" / "runbook.md").read_text(encoding="utf-8")
    section = runbook.partition(f"\n## {alert}\n")[2].partition("\n## ")[0]
    return re.findall(r"^[A-Z].*;$", section.partition("```sql\n")[2].partition("```")[0], re.MULTILINE)


def test_sessions_that_were_opened_while_new_ones_were_read_only(
    server: LiveServer, caller: Caller, postgres: SeparatePostgres
) -> None:
    execute(postgres.url, "ALTER DATABASE healthcare SET default_transaction_read_only = on")
    try:
        kill_connections(postgres)
        assert caller.use_every_thread() == {200}  # reads: no session has failed
        wait_for_checks(server, "read_only")
    finally:
        execute(postgres.url, *runbook_statements("HealthcareReadOnly"))
    wait_for_checks(server)
    for _ in range(16):  # more than the server has threads
        assert server.call("POST", "/api/patients/", {"name": "X"}, caller.tokens["access"]).status == 201
