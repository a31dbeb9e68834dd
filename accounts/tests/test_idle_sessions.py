"""A login session that no request has used for SESSION_IDLE_HOURS ends; using it costs one write an hour."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import LoginSession
from conftest import LoggedInClient
from healthcare.rls.context import entered
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)

ME, PATIENTS, REFRESH = "/api/auth/me/", "/api/patients/", "/api/auth/refresh/"
PATIENT = {"name": "Jane", "age": 3, "gender": "F"}


def idle_for(**duration: float) -> None:
    LoginSession.objects.update(last_used_at=timezone.now() - timedelta(**duration))


def idle_seconds() -> float:
    used = LoginSession.objects.values_list("last_used_at", flat=True).get()
    return (timezone.now() - used).total_seconds()


@pytest.fixture(params=["fast", "standard"])
def path(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.FAST_PATH = "on" if request.param == "fast" else "off"
    return str(request.param)


@pytest.mark.parametrize(("hours", "status"), [(71.9, 200), (72.1, 401), (1000, 401)])
@pytest.mark.parametrize("url", [ME, PATIENTS])
def test_a_session_ends_after_seventy_two_idle_hours(
    as_alice: LoggedInClient, path: str, url: str, hours: float, status: int
):
    as_alice.get(url)  # connects
    idle_for(hours=hours)
    assert [as_alice.get(url).status_code for _ in range(2)] == [status] * 2
    assert (idle_seconds() < 3600) is (status == 200)


def test_an_idle_session_writes_nothing(as_alice: LoggedInClient, path: str):
    as_alice.get(PATIENTS)
    idle_for(hours=72.1)
    assert as_alice.post(PATIENTS, PATIENT).status_code == 401
    assert idle_seconds() > 72 * 3600


@pytest.mark.parametrize(("hours", "status"), [(71.9, 200), (72.1, 401)])
def test_an_idle_session_is_not_refreshed(as_alice: LoggedInClient, anonymous: APIClient, hours: float, status: int):
    idle_for(hours=hours)
    assert anonymous.post(REFRESH, {"refresh": as_alice.tokens["refresh"]}).status_code == status
    assert (idle_seconds() < 3600) is (status == 200)
    assert not LoginSession.objects.get().revoked_at  # refused, and not taken for a stolen token


def test_an_idle_session_is_not_listed(as_alice: LoggedInClient, alice: Any):
    other = LoggedInClient(alice)
    LoginSession.objects.filter(pk=other.login_session.pk).update(last_used_at=timezone.now() - timedelta(hours=73))
    listed = [session["id"] for session in as_alice.get("/api/auth/sessions/").json()]
    assert listed == [as_alice.login_session.pk]


@pytest.mark.parametrize(("minutes", "recorded"), [(59, False), (61, True)])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_use_is_recorded_once_an_hour(as_alice: LoggedInClient, path: str, method: str, minutes: int, recorded: bool):
    as_alice.get(PATIENTS)
    idle_for(minutes=minutes)
    for _ in range(3):
        answer = getattr(as_alice, method)(PATIENTS, *([PATIENT] if method == "post" else []))
        assert answer.status_code in {200, 201}
    assert (idle_seconds() < 3000) is recorded


def test_a_use_is_recorded_where_the_answer_is_an_error(as_alice: LoggedInClient):
    idle_for(minutes=61)
    assert as_alice.get("/api/patients/?limit=0").status_code == 400
    as_alice.get(ME)
    assert idle_seconds() < 3000


def test_the_record_of_a_use_waits_for_no_lock(as_alice: LoggedInClient, alice: Any, path: str):
    """A transaction that holds the session's row, such as another request's, does not delay this one."""
    import psycopg2  # noqa: PLC0415

    as_alice.get(PATIENTS)
    idle_for(minutes=61)
    parameters = connection.get_connection_params()
    parameters.pop("cursor_factory", None)
    other = psycopg2.connect(**parameters)
    try:
        other.cursor().execute("SELECT 1 FROM accounts_loginsession FOR UPDATE")
        assert as_alice.get(PATIENTS).status_code == 200
    finally:
        other.close()
    assert idle_seconds() > 3600


def test_the_record_of_a_use_takes_no_further_statement(as_alice: LoggedInClient, alice: Any):
    make_patient(alice)
    as_alice.get(PATIENTS)
    counts = []
    for minutes in (0, 61):
        idle_for(minutes=minutes)
        with CaptureQueriesContext(connection) as queries:
            assert as_alice.get(PATIENTS).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_role_of_the_api_records_the_use_of_an_own_session_alone(as_alice: LoggedInClient, as_bob: LoggedInClient):
    idle_for(hours=2)
    with entered(as_alice.login_session.user_id), connection.cursor() as cursor:
        for client in (as_alice, as_bob):
            cursor.execute("SELECT record_session_use(%s)", [client.login_session.pk])
    unused = LoginSession.objects.filter(last_used_at__lt=timezone.now() - timedelta(hours=1))
    assert list(unused) == [as_bob.login_session]
