"""Writes that take one round trip do byte for byte what the plain way through the framework does."""

import datetime
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import psycopg2
import pytest
from django.core.signals import request_started
from django.db import connection
from django.db.models import Model
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor, DoctorEvent
from doctors.tests.factories import make_doctor
from healthcare.api.conditional_requests import entity_tag
from healthcare.fastpath import compiled, prepared, statements, writes
from mappings.views import MappingViewSet
from patients.models import Patient, PatientEvent
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

# A preference that nobody has: what is asked for with it goes the plain way, and its answer is the same.
PLAIN = {"Prefer": "plainly"}
MADE = {"id", "created_at", "updated_at"}  # anew by each write
OWN = {"X-Request-Id", "ETag"}

anything = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 3000), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.lists(st.integers(), max_size=2), st.just(""), st.just("x" * 600), st.just("a\u2028b"), st.just(" padded "),
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
PATIENT: dict[str, st.SearchStrategy[Any]] = {
    "name": texts.map(lambda text: f"x{text}"), "age": st.integers(0, 150) | st.none() | st.just(34.0),
    "gender": st.sampled_from(["M", "f", "Other", "UNKNOWN"]), "birth_date": st.sampled_from(["1992-03-14", None]),
    "birth_year": st.sampled_from([1992, 1993, None]), "deceased": st.booleans(), "identifier": texts, "address": texts,
    "phone": st.sampled_from(["", "+91 80 5550 0100", "none"]), "email": st.sampled_from(["", "a@example.org", "a@"]),
    "version": st.integers(), "created_by": st.integers(), "deleted_at": texts, "unknown": anything,
}  # fmt: skip
DOCTOR: dict[str, st.SearchStrategy[Any]] = {
    "name": PATIENT["name"], "specialization": texts, "license_number": texts, "phone": PATIENT["phone"],
    "email": PATIENT["email"], "hospital": texts, "experience_years": st.integers(-1, 101) | st.none(),
}  # fmt: skip


def bodies(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly good ones, at times with anything in the place of a value."""
    good = st.fixed_dictionaries({}, optional=fields)
    return good | st.tuples(good, st.dictionaries(st.sampled_from(sorted(fields)), anything, max_size=1)).map(
        lambda both: both[0] | both[1]
    )


examples = settings(
    max_examples=150,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def row(record: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in {*MADE, "_state"}}


def traces(events: Any, key: int) -> list[Any]:
    """What history keeps of a record."""
    kept = []
    for event in events.objects.filter(id=key).order_by("pgh_id"):
        assert event.pgh_context.pop("request_id", "test")
        kept.append((event.pgh_label, event.pgh_context, event.version))
    return kept


def send(client: APIClient, method: str, path: str, body: Any, **headers: str) -> tuple[Any, list[str]]:
    """The answer without what is made anew, and the statements that it took."""
    connection.queries_log.clear()
    with CaptureQueriesContext(connection) as queries:
        answer = getattr(client, method)(path, body, headers=headers)
    kept = {name: value for name, value in answer.items() if name not in OWN}
    content = answer.json()
    if answer.status_code < 300:
        assert answer["ETag"] == entity_tag(answer.content)
        assert content["updated_at"].endswith("Z")
        kept.pop("Content-Length")  # of the id and the times, too
    told = {name: value for name, value in content.items() if name not in {*MADE, "request_id"}}
    ran = [str(query["sql"]) for query in queries]
    done = [sql for sql in ran if not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))]
    return (answer.status_code, kept, told, [*content], content.get("id")), done


def compare(
    client: APIClient, method: str, paths: tuple[str, str], body: Any, model: type[Model], events: Any
) -> tuple[int, int]:
    """The same call both ways: the status, and the number of statements of the direct one."""
    answered, done = send(client, method, paths[0], body)
    plainly, _ = send(client, method, paths[1], body, **PLAIN)
    assert answered[:-1] == plainly[:-1]
    if answered[0] < 300:
        kept = [model._default_manager.get(pk=answer[-1]) for answer in (answered, plainly)]
        assert row(kept[0]) == row(kept[1])
        assert traces(events, kept[0].pk) == traces(events, kept[1].pk)
    return answered[0], len(done)


@pytest.mark.parametrize(
    ("path", "fields", "model", "events"),
    [("/api/patients/", PATIENT, Patient, PatientEvent), ("/api/doctors/", DOCTOR, Doctor, DoctorEvent)],
    ids=["patient", "doctor"],
)
@examples
@given(data=st.data())
def test_anybody_is_created_the_same_both_ways(
    as_alice: LoggedInClient, path: str, fields: Any, model: type[Model], events: Any, data: st.DataObject
):
    status, statements = compare(as_alice, "post", (path, path), data.draw(bodies(fields)), model, events)
    assert status == 400 or (status, statements) == (201, 1)


@examples
@given(method=st.sampled_from(["put", "patch"]), body=bodies(PATIENT), born=st.sampled_from([None, 1990]))
def test_any_change_of_a_patient_is_the_same_both_ways(
    as_alice: LoggedInClient, alice: User, method: str, body: dict[str, Any], born: int | None
):
    patients = [make_patient(alice, birth_year=born) for _ in range(2)]
    paths = tuple(f"/api/patients/{patient.pk}/" for patient in patients)
    compare(as_alice, method, paths, body, Patient, PatientEvent)  # type: ignore[arg-type]
    accesses = [
        [
            (access.actor, access.action, access.basis, access.outcome)
            for access in AccessLog.objects.filter(patient_ids=[patient.pk])
        ]
        for patient in patients
    ]
    assert accesses[0] == accesses[1]


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_change_is_one_round_trip(as_alice: LoggedInClient, alice: User, method: str):
    for path, model, events in (
        (f"/api/patients/{make_patient(alice).pk}/", Patient, PatientEvent),
        (f"/api/doctors/{make_doctor(alice).pk}/", Doctor, DoctorEvent),
    ):
        paths, body = (path, path.replace(path.split("/")[3], str(again(alice, model)))), {"name": "Another"}
        assert compare(as_alice, method, paths, body, model, events) == (200, 1)


def again(alice: User, model: type[Model]) -> int:
    return (make_patient(alice) if model is Patient else make_doctor(alice)).pk


def test_what_changes_nothing_takes_the_plain_way_and_changes_nothing(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice).pk}/"
    answered, done = send(as_alice, "patch", path, {"name": "John Smith"})
    assert (answered[0], answered[2]["version"], len(done) > 1) == (200, 1, True)


def test_a_change_that_depends_on_the_record_takes_the_plain_way(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice, birth_date=datetime.date(1992, 3, 14)).pk}/"
    answered, done = send(as_alice, "patch", path, {"age": 3})
    assert (answered[0], len(done) > 1) == (400, True)


def test_bob_changes_nothing_of_alices(as_bob: LoggedInClient, alice: User):
    patient = make_patient(alice)
    missing, _ = send(as_bob, "patch", f"/api/patients/{2**40}/", {"name": "Bob's"})
    answered, _ = send(as_bob, "patch", f"/api/patients/{patient.pk}/", {"name": "Bob's"})
    assert (answered[0], answered) == (404, missing)
    patient.refresh_from_db()
    assert (patient.name, patient.version) == ("John Smith", 1)


@pytest.mark.parametrize("ended", ["session", "user"])
def test_whose_login_has_ended_writes_nothing(as_alice: LoggedInClient, alice: User, ended: str):
    patient = make_patient(alice)
    if ended == "session":
        LoginSession.objects.filter(user=alice).update(revoked_at=datetime.datetime.now(datetime.UTC))
    else:
        User.objects.filter(pk=alice.pk).update(is_active=False)
    assert as_alice.post("/api/patients/", {"name": "New"}).status_code == 401
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"}).status_code == 401
    assert [*Patient.objects.values_list("name", "version")] == [("John Smith", 1)]


@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/"])
def test_without_a_login_nothing_is_written(anonymous: APIClient, path: str):
    assert anonymous.post(path, {"name": "New"}).status_code == 401
    assert not Patient.objects.exists()
    assert not Doctor.objects.exists()


@pytest.mark.parametrize(
    ("hook", "method"),
    [("create", "POST"), ("perform_create", "POST"), ("update", "PATCH"), ("perform_update", "PUT"),
     ("initial", "POST"), ("get_object", "PATCH"), ("finalize_response", "POST"), ("get_serializer", "PATCH")],
)  # fmt: skip
def test_a_view_with_a_mind_of_its_own_writes_the_plain_way(hook: str, method: str):
    def own(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return getattr(PatientViewSet, hook)(self, *arguments, **keywords)

    actions = (("post", "create"), ("put", "update"), ("patch", "partial_update"))
    assert writes.writable(PatientViewSet, actions, method)
    assert writes.writable(type("OwnViewSet", (PatientViewSet,), {hook: own}), actions, method) is None


def test_a_serializer_that_asks_the_database_writes_the_plain_way():
    assert writes.writable(MappingViewSet, (("post", "create"),), "POST") is None


@pytest.fixture
def own_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patient, "save", lambda self, **_: None)


@pytest.fixture
def listener() -> Any:
    def hear(**_: Any) -> None:
        pass

    post_save.connect(hear, sender=Patient)
    yield
    post_save.disconnect(hear, sender=Patient)


@pytest.mark.parametrize("who", ["own_save", "listener"])
def test_a_model_that_is_told_of_its_saving_is_saved_the_plain_way(request: pytest.FixtureRequest, who: str):
    assert compiled.inserted.__wrapped__(Patient)
    request.getfixturevalue(who)
    assert compiled.inserted.__wrapped__(Patient) is None


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has a direct write do something more."""
    writing = statements.writing

    def do(more: str) -> None:
        monkeypatch.setattr(writes, "writing", lambda change, recording: f"{writing(change, recording)} {more}")

    return do


def test_what_postgresql_has_undone_is_tried_the_plain_way(
    as_alice: LoggedInClient, alice: User, broken: Callable[[str], None]
):
    broken("WHERE key / 0 = 0")
    answered, done = send(as_alice, "post", "/api/patients/", {"name": "Once"})
    assert (answered[0], len(done) > 1) == (201, True)
    assert Patient.objects.count() == 1


def test_a_write_that_nobody_knows_the_end_of_is_not_written_again(
    as_alice: LoggedInClient,
    alice: User,
    transactional_db: None,
    broken: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(prepared, "_pooled", True)  # else a statement cannot be followed by another
    as_alice.get("/api/patients/")  # opens the connection
    broken("; COMMIT; SELECT pg_terminate_backend(pg_backend_pid())")
    answer = as_alice.post("/api/patients/", {"name": "Once"})
    assert (answer.status_code, answer["Retry-After"], answer.json()["status"]) == (503, "5", 503)
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer["X-Request-Id"]
    connection.close()
    assert [*Patient.objects.values_list("name", flat=True)] == ["Once"]  # it was written all the same


def test_a_connection_that_died_before_is_no_reason_to_refuse_a_write(
    as_alice: LoggedInClient, alice: User, transactional_db: None
):
    as_alice.get("/api/patients/")
    with psycopg2.connect(**{**connection.get_connection_params(), "cursor_factory": None}) as other:
        pid = connection.connection.info.backend_pid
        other.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()
    request_started.send(type(as_alice), environ={})  # as every request of a server begins
    assert as_alice.post("/api/patients/", {"name": "New"}).status_code == 201


@pytest.fixture
def other() -> Iterator[Any]:
    """Another connection to the database."""
    opened = psycopg2.connect(**{**connection.get_connection_params(), "cursor_factory": None})
    yield opened
    opened.close()


def test_a_lock_is_waited_for_once(as_alice: LoggedInClient, alice: User, transactional_db: None, other: Any):
    path = f"/api/patients/{make_patient(alice).pk}/"
    as_alice.get(path)
    other.cursor().execute("LOCK TABLE patients_patient IN EXCLUSIVE MODE")
    answered, done = send(as_alice, "patch", path, {"name": "Locked"})
    assert (answered[0], answered[1]["Retry-After"], len(done)) == (503, "5", 1)


def test_a_time_of_change_never_goes_back(as_alice: LoggedInClient, alice: User):
    patient = make_patient(alice)
    later = timezone.now() + datetime.timedelta(seconds=30)  # by the clock of another machine
    Patient.objects.filter(pk=patient.pk).update(updated_at=later)
    answer = as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "Another"}).json()
    assert datetime.datetime.fromisoformat(answer["updated_at"]) >= later


def test_a_client_that_goes_away_in_the_middle_of_a_body_is_left_to_django(as_alice: LoggedInClient):
    class Broken(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError

    as_alice.get("/api/patients/")
    broken: Any = {"wsgi.input": Broken()}
    answer = as_alice.post("/api/patients/", {"name": "New"}, **broken)
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body ended before its Content-Length.")


@pytest.mark.parametrize("asked", ["the database", "the context", "the request"])
def test_validation_that_asks_for_more_takes_the_plain_way(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch, asked: str
):
    def validate(self: Any, name: str) -> str:
        if asked == "the database":
            return f"{name} {Patient.objects.count()}"
        return f"{name} {'view' in self.context if asked == 'the context' else self.context['request'].method}"

    monkeypatch.setattr(PatientSerializer, "validate_name", validate, raising=False)
    answered, done = send(as_alice, "post", "/api/patients/", {"name": "New"})
    told = {"the database": "New 0", "the context": "New True", "the request": "New POST"}
    assert (answered[0], answered[2]["name"], len(done) > 1) == (201, told[asked], True)


def test_only_so_many_statements_are_kept(as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepared, "MOST", 3)
    prepared._known.clear()
    connection.connection.cursor().execute("DEALLOCATE ALL")
    path = f"/api/patients/{make_patient(alice).pk}/"
    for name in ("name", "phone", "identifier", "address", "email"):
        assert as_alice.patch(path, {name: "1@example.org" if name == "email" else "1"}).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone()[0] <= 4  # the last message may bring two
