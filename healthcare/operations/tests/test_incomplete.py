"""The database lacks something that this version needs: /readyz names it, calls are 503, and both heal."""

import pytest

from healthcare.operations.tests.calls import (
    SECONDS_TO_FAIL,
    SECONDS_TO_HEAL,
    Caller,
    execute,
    is_unavailable,
    wait_for_checks,
)
from healthcare.tests.live import LiveServer
from healthcare.tests.postgres import SeparatePostgres

pytestmark = pytest.mark.slow

CALLS = ("fast read", "standard read", "fast write", "standard write")


@pytest.mark.parametrize(
    ("damage", "repair", "failed", "failing"),
    [
        (
            "ALTER ROLE healthcare_api RENAME TO gone",
            "ALTER ROLE gone RENAME TO healthcare_api",
            ["role", "policies", "grants"],
            (*CALLS, "public read"),
        ),
        ("ALTER ROLE healthcare_api BYPASSRLS", "ALTER ROLE healthcare_api NOBYPASSRLS", ["role"], ()),
        (
            "ALTER POLICY {policy} ON patients_patient RENAME TO gone",
            "ALTER POLICY gone ON patients_patient RENAME TO {policy}",
            ["policies"],
            (),
        ),
        (
            "ALTER TABLE patients_patient DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE patients_patient ENABLE ROW LEVEL SECURITY",
            ["policies"],
            (),
        ),
        (
            "REVOKE SELECT ON patients_patient FROM healthcare_api",
            "GRANT SELECT ON patients_patient TO healthcare_api",
            ["grants"],
            CALLS,
        ),
        (
            "UPDATE django_migrations SET app = 'gone' WHERE app = 'admin' AND name LIKE '0003%'",
            "UPDATE django_migrations SET app = 'admin' WHERE app = 'gone'",
            ["migrations"],
            (),
        ),
    ],
)
def test_what_is_missing_is_named(
    server: LiveServer,
    caller: Caller,
    postgres: SeparatePostgres,
    damage: str,
    repair: str,
    failed: list[str],
    failing: tuple[str, ...],
) -> None:
    policy = execute(postgres.url, "SELECT min(polname) FROM pg_policy WHERE polrelid = 'patients_patient'::regclass")
    wait_for_checks(server)
    execute(postgres.url, damage.format(policy=policy))
    try:
        assert wait_for_checks(server, *failed) < SECONDS_TO_FAIL
        answers = {name: caller.calls[name]() for name in failing}
        assert {name: answer.status for name, answer in answers.items() if not is_unavailable(answer)} == {}
    finally:
        execute(postgres.url, repair.format(policy=policy))
    assert wait_for_checks(server) < SECONDS_TO_HEAL
    assert {name: caller.calls[name]().status for name in CALLS if caller.calls[name]().status >= 400} == {}


@pytest.mark.parametrize(
    ("damage", "repair", "failing"),
    [
        (
            "ALTER ROLE healthcare_api RENAME TO gone",
            "ALTER ROLE gone RENAME TO healthcare_api",
            (*CALLS, "public read", "account"),
        ),
        (
            "REVOKE SELECT ON patients_patient FROM healthcare_api",
            "GRANT SELECT ON patients_patient TO healthcare_api",
            CALLS,
        ),
        (
            "ALTER SCHEMA public RENAME TO gone",
            "ALTER SCHEMA gone RENAME TO public",
            (*CALLS, "public read", "account", "login", "register", "refresh", "admin page", "admin"),
        ),
    ],
)
def test_the_first_call_that_meets_it_is_unavailable(
    server: LiveServer, caller: Caller, postgres: SeparatePostgres, damage: str, repair: str, failing: tuple[str, ...]
) -> None:
    for name in failing:
        wait_for_checks(server)
        assert caller.calls[name]().status < 400
        execute(postgres.url, damage)
        try:
            answer = caller.calls[name]()
        finally:
            execute(postgres.url, repair)
        assert is_unavailable(answer), (name, answer.status)
