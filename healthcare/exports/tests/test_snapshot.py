"""What happens to an export's connections and transactions, on connections that commit."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connection
from rest_framework.exceptions import AuthenticationFailed

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import logged_in
from doctors.tests.factories import make_doctor
from healthcare.exports import stream
from healthcare.exports.snapshot import OwnConnection
from healthcare.exports.tests.test_exports import DOCTORS, PATIENTS, content, export, names_of
from healthcare.exports.views import ExportMixin
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)
BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)
OPEN = f"{BACKENDS} AND state LIKE 'idle in transaction%'"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_BATCH", 2)
    monkeypatch.setattr(stream, "LARGEST_BATCH", 2)
    monkeypatch.setattr(stream, "PIECE", 1)


@pytest.fixture(autouse=True)
def every_connection_is_closed() -> Iterator[None]:
    assert OwnConnection.open_connections == 0
    yield
    assert OwnConnection.open_connections == 0
    deadline = time.monotonic() + 60
    while count(OPEN):  # PostgreSQL notices a closed connection a little later
        assert time.monotonic() < deadline


@pytest.fixture
def patients(alice: User) -> list[Patient]:
    return [make_patient(alice, name=f"P{number}") for number in range(5)]


def count(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def read_one(answer: Any) -> Iterator[bytes]:
    """The rest of the answer after its first piece."""
    pieces: Iterator[bytes] = iter(answer.streaming_content)
    assert next(pieces)
    return pieces


def test_each_batch_is_recorded_before_it_is_sent(as_alice: Any, alice: User, patients: list[Patient]):
    keys = [patient.pk for patient in patients]
    answer = export(as_alice, PATIENTS)
    logged = AccessLog.objects.filter(action="patient.export", request_id=answer["X-Request-Id"]).order_by("id")
    rest = read_one(answer)
    assert [row.patient_ids for row in logged.all()] == [[], keys[3:]]
    assert sum(1 for _ in rest) == 4
    assert [row.patient_ids for row in logged.all()] == [[], keys[3:], keys[1:3], keys[:1]]
    assert {(row.actor, row.basis, row.outcome) for row in logged} == {(alice.pk, "owner", 200)}


def test_the_file_shows_one_moment(as_alice: Any, alice: User, patients: list[Patient]):
    answer = export(as_alice, PATIENTS, "?fields=name")
    pieces = iter(answer.streaming_content)
    first = next(pieces)
    Patient.objects.filter(created_by=alice).update(name="Changed")
    make_patient(alice, name="New")
    assert (first + b"".join(pieces)).split() == [b"name", b"P4", b"P3", b"P2", b"P1", b"P0"]


def test_an_answer_that_is_closed_early_leaves_nothing_open(as_alice: Any, patients: list[Patient]):
    answer = export(as_alice, PATIENTS)
    read_one(answer)
    assert OwnConnection.open_connections == 2
    answer.close()
    assert OwnConnection.open_connections == 0
    assert len(names_of(export(as_alice, PATIENTS))) == 5


def test_an_answer_that_is_never_read_leaves_nothing_open(as_alice: Any, patients: list[Patient]):
    export(as_alice, PATIENTS).close()
    assert OwnConnection.open_connections == 0


def test_an_answer_that_an_error_replaces_leaves_nothing_open(
    as_alice: Any, patients: list[Patient], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AccessLog.objects, "record", fail)  # after the view, and before a byte is sent
    as_alice.raise_request_exception = False
    assert export(as_alice, PATIENTS).status_code == 500


def test_an_error_in_the_middle_is_raised_and_leaves_nothing_open(
    as_alice: Any, patients: list[Patient], monkeypatch: pytest.MonkeyPatch
):
    rest = read_one(export(as_alice, PATIENTS))

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AccessLog.objects, "record", fail)
    with pytest.raises(ZeroDivisionError):
        list(rest)
    assert OwnConnection.open_connections == 0


def test_a_session_that_ends_in_the_middle_ends_the_export(as_alice: Any, patients: list[Patient]):
    rest = read_one(export(as_alice, PATIENTS))
    LoginSession.objects.filter(pk=as_alice.login_session.pk).revoke()
    before = AccessLog.objects.count()
    with pytest.raises(AuthenticationFailed):
        list(rest)
    assert AccessLog.objects.count() == before


def test_a_delegation_that_ends_in_the_middle_ends_the_export(alice: User, bob: User, patients: list[Patient]):
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    as_delegate = logged_in(bob)
    assert len(names_of(export(as_delegate, PATIENTS, HTTP_X_ACTING_FOR="alice"))) == 5
    assert AccessLog.objects.latest("id").basis == "delegate"
    answer = export(as_delegate, PATIENTS, HTTP_X_ACTING_FOR="alice")
    assert answer["X-Acting-For"] == "alice"
    rest = read_one(answer)
    Delegation.objects.all().delete()
    with pytest.raises(AuthenticationFailed):
        list(rest)


def test_one_export_of_a_user_runs_at_a_time(as_alice: Any, as_bob: Any, alice: User, patients: list[Patient]):
    running = export(as_alice, PATIENTS)
    refused = export(as_alice, DOCTORS)
    assert (refused.status_code, refused["Retry-After"]) == (429, "10")
    assert refused["RateLimit-Policy"] == '"exports";q=1;w=10'
    assert refused.json()["detail"] == "Another export of yours is running; wait until it ends, or break it off."
    assert names_of(export(as_bob, PATIENTS)) == []
    assert as_alice.head(f"{PATIENTS}export/").status_code == 200
    assert len(names_of(running)) == 5
    assert len(names_of(export(logged_in(alice), PATIENTS))) == 5


def test_one_export_without_a_token_runs_at_a_time_for_an_address(anonymous: Any, alice: User):
    make_doctor(alice)
    running = export(anonymous, DOCTORS)
    assert export(anonymous, DOCTORS).status_code == 429
    assert len(names_of(export(anonymous, DOCTORS, REMOTE_ADDR="192.0.2.7"))) == 1
    assert len(names_of(running)) == 1


def limit(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    monkeypatch.setattr(ExportMixin, "export_limits", stream.ExportLimits(**limits))


def test_more_records_than_an_export_has_break_it_off(
    as_alice: Any, patients: list[Patient], monkeypatch: pytest.MonkeyPatch
):
    limit(monkeypatch, records=3)
    rest = read_one(export(as_alice, PATIENTS, "?search=p"))
    with pytest.raises(stream.ExportBrokenOffError):
        list(rest)


def test_more_records_than_an_export_has_are_refused_where_their_number_is_known(
    as_alice: Any, patients: list[Patient], monkeypatch: pytest.MonkeyPatch
):
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE patients_patient")
    limit(monkeypatch, records=3)
    refused = export(as_alice, PATIENTS)
    assert (refused.status_code, refused.json()["detail"]) == (
        413,
        "An export has at most 3 records; choose fewer by the filters of the list.",
    )
    assert len(names_of(export(as_alice, PATIENTS, "?search=p3"))) == 1
    limit(monkeypatch, records=5)
    assert len(names_of(export(as_alice, PATIENTS))) == 5


def test_an_export_that_takes_too_long_is_broken_off(
    as_alice: Any, patients: list[Patient], monkeypatch: pytest.MonkeyPatch
):
    rest = read_one(export(as_alice, PATIENTS))
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: float("inf")))
    with pytest.raises(stream.ExportBrokenOffError):
        list(rest)


def test_a_client_that_does_not_read_on_ends_the_transaction(
    as_alice: Any, patients: list[Patient], monkeypatch: pytest.MonkeyPatch
):
    limit(monkeypatch, idle="10ms")
    rest = read_one(export(as_alice, PATIENTS))
    deadline = time.monotonic() + 60
    while count(OPEN):
        assert time.monotonic() < deadline
    with pytest.raises(OperationalError):
        list(rest)


def test_another_thread_can_send_the_answer_and_keeps_no_connection(as_alice: Any, patients: list[Patient]):
    answer = export(as_alice, PATIENTS)
    parts: list[bytes] = []
    found: list[Any] = []

    def send() -> None:
        from django.db import connections  # noqa: PLC0415

        parts.extend(answer.streaming_content)
        answer.close()
        found.extend(connections.all(initialized_only=True))

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert len(parts) == 5
    assert [one.connection for one in found if one.connection is not None] == []


def test_the_view_of_an_export_is_not_in_the_database_longer_than_its_request(
    as_alice: Any, patients: list[Patient], make_user: Callable[..., User]
):
    answer = export(as_alice, PATIENTS)
    assert not connection.in_atomic_block
    assert count(OPEN) == 1  # the snapshot
    content(answer)
