"""A fast write does in one statement what standard DRF does: answer, row, history and access log."""

import datetime
from collections.abc import Callable
from io import BytesIO
from itertools import count
from typing import Any

import psycopg2
import pytest
from django.core.signals import request_started
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import clear_url_caches
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
from healthcare.fastpath import creates, views, writes
from healthcare.fastpath.json_sql import Fragment
from patients.models import Patient, PatientEvent
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

GENERATED = {"id", "created_at", "updated_at"}  # by each write
OWN = {"X-Request-Id", "ETag"}  # headers that differ between any two answers

anything = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 3000), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.lists(st.integers(), max_size=2), st.just(""), st.just("x" * 600), st.just("a\u2028b"), st.just(" padded "),
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
PATIENT: dict[str, st.SearchStrategy[Any]] = {
    "name": texts.map(lambda text: f"x{text}"), "age": st.integers(0, 150) | st.none() | st.just(34.0),
    "gender": st.sampled_from(["M", "f", "Other", "UNKNOWN"]), "birth_date": st.sampled_from(["1992-03-14", None]),
    "birth_year": st.sampled_from([1992, 1993, None]), "deceased": st.booleans() | st.none(), "identifier": texts,
    "deceased_on": st.sampled_from(["2026-02-28", "1992-03-13", None]), "address": texts, "medical_history": texts,
    "identifiers": st.lists(st.fixed_dictionaries({"system": texts, "value": texts}), max_size=2) | st.none(),
    "contacts": st.lists(st.fixed_dictionaries({"name": texts}, optional={"phone": texts}), max_size=2),
    "language": st.sampled_from(["", "kn", "pt-BR", "english"]), "alternate_phone": st.sampled_from(["", "1", "none"]),
    "phone": st.sampled_from(["", "+91 80 5550 0100", "none"]), "email": st.sampled_from(["", "a@example.org", "a@"]),
    "version": st.integers(), "created_by": st.integers(), "deleted_at": texts, "unknown": anything,
}  # fmt: skip
DOCTOR: dict[str, st.SearchStrategy[Any]] = {
    "name": PATIENT["name"], "specialization": texts, "license_number": texts, "phone": PATIENT["phone"],
    "email": PATIENT["email"], "hospital": texts, "experience_years": st.integers(-1, 101) | st.none(),
}  # fmt: skip


def bodies(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly valid bodies, sometimes with an arbitrary value in one field."""
    valid = st.fixed_dictionaries({}, optional=fields)
    return valid | st.tuples(valid, st.dictionaries(st.sampled_from(sorted(fields)), anything, max_size=1)).map(
        lambda both: both[0] | both[1]
    )


examples = settings(
    max_examples=150,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def row(record: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in {*GENERATED, "_state"}}


def traces(events: Any, key: int) -> list[Any]:
    """The events of a record."""
    rows = []
    for event in events.objects.filter(id=key).order_by("pgh_id"):
        assert event.pgh_context.pop("request_id", "test")
        rows.append((event.pgh_label, event.pgh_context, event.version))
    return rows


def send(client: APIClient, method: str, path: str, body: Any, **headers: str) -> tuple[Any, list[str]]:
    """The answer without generated values, and the statements that it took."""
    connection.queries_log.clear()
    with CaptureQueriesContext(connection) as queries:
        answer = getattr(client, method)(path, body, headers=headers)
    headers_compared = {name: value for name, value in answer.items() if name not in OWN}
    content = answer.json()
    if answer.status_code < 300:
        assert answer["ETag"] == entity_tag(answer.content)
        assert content["updated_at"].endswith("Z")
        headers_compared.pop("Content-Length")  # depends on the generated values
        assert headers_compared.pop("Location", f"{path}{content['id']}/") == f"{path}{content['id']}/"
    members = {name: value for name, value in content.items() if name not in {*GENERATED, "request_id"}}
    ran = [str(query["sql"]) for query in queries]
    done = [sql for sql in ran if not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))]
    return (answer.status_code, headers_compared, members, [*content], content.get("id")), done


def compare(
    client: APIClient, method: str, paths: tuple[str, str], body: Any, model: type[Model], events: Any
) -> tuple[int, int]:
    """The same call by both paths: the status, and the number of statements of the fast one."""
    answered, done = send(client, method, paths[0], body)
    with override_settings(FAST_PATH="off"):
        standard, _ = send(client, method, paths[1], body)
    assert answered[:-1] == standard[:-1]
    if answered[0] < 300:
        records = [model._default_manager.get(pk=answer[-1]) for answer in (answered, standard)]
        assert row(records[0]) == row(records[1])
        assert traces(events, records[0].pk) == traces(events, records[1].pk)
    return answered[0], len(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "fields", "model", "events"),
    [("/api/patients/", PATIENT, Patient, PatientEvent), ("/api/doctors/", DOCTOR, Doctor, DoctorEvent)],
    ids=["patient", "doctor"],
)
@examples
@given(data=st.data())
def test_both_paths_create_alike(
    as_alice: LoggedInClient, path: str, fields: Any, model: type[Model], events: Any, data: st.DataObject
):
    status, statements = compare(as_alice, "post", (path, path), data.draw(bodies(fields)), model, events)
    assert status == 400 or (status, statements) == (201, 1)


@examples
@given(method=st.sampled_from(["put", "patch"]), body=bodies(PATIENT), born=st.sampled_from([None, 1990]))
def test_both_paths_update_alike(
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
def test_a_change_is_one_statement(as_alice: LoggedInClient, alice: User, method: str):
    for path, model, events in (
        (f"/api/patients/{make_patient(alice).pk}/", Patient, PatientEvent),
        (f"/api/doctors/{make_doctor(alice).pk}/", Doctor, DoctorEvent),
    ):
        paths, body = (path, path.replace(path.split("/")[3], str(again(alice, model)))), {"name": "Another"}
        assert compare(as_alice, method, paths, body, model, events) == (200, 1)


def again(alice: User, model: type[Model]) -> int:
    return (make_patient(alice) if model is Patient else make_doctor(alice)).pk


def test_a_body_that_changes_nothing_is_one_statement_and_writes_nothing(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice).pk}/"
    answered, done = send(as_alice, "patch", path, {"name": "John Smith"})
    assert (answered[0], answered[2]["version"], len(done)) == (200, 1, 1)
    assert PatientEvent.objects.count() == 1


def test_a_change_that_depends_on_the_record_uses_standard_drf(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice, birth_date=datetime.date(1992, 3, 14)).pk}/"
    answered, done = send(as_alice, "patch", path, {"age": 3})
    assert (answered[0], len(done) > 1) == (400, True)


def test_an_outsider_changes_nothing(as_bob: LoggedInClient, alice: User):
    patient = make_patient(alice)
    missing, _ = send(as_bob, "patch", f"/api/patients/{2**40}/", {"name": "Bob's"})
    answered, _ = send(as_bob, "patch", f"/api/patients/{patient.pk}/", {"name": "Bob's"})
    assert (answered[0], answered) == (404, missing)
    patient.refresh_from_db()
    assert (patient.name, patient.version) == ("John Smith", 1)


@pytest.mark.parametrize("ended", ["session", "user"])
def test_an_ended_session_writes_nothing(as_alice: LoggedInClient, alice: User, ended: str):
    patient = make_patient(alice)
    if ended == "session":
        LoginSession.objects.filter(user=alice).update(revoked_at=datetime.datetime.now(datetime.UTC))
    else:
        User.objects.filter(pk=alice.pk).update(is_active=False)
    assert as_alice.post("/api/patients/", {"name": "New"}).status_code == 401
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"}).status_code == 401
    assert [*Patient.objects.values_list("name", "version")] == [("John Smith", 1)]


@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/"])
def test_an_anonymous_caller_writes_nothing(anonymous: APIClient, path: str):
    assert anonymous.post(path, {"name": "New"}).status_code == 401
    assert not Patient.objects.exists()
    assert not Doctor.objects.exists()


def test_a_serializer_that_asks_the_database_uses_standard_drf(as_alice: LoggedInClient, alice: User):
    body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    answer = as_alice.post("/api/mappings/", body)
    assert (answer.status_code, getattr(answer.wsgi_request, "served_by", "standard")) == (201, "standard")


HEADERS: list[dict[str, str]] = [
    {"X-Change-Reason": "has moved"},
    {"If-Match": "*"},
    {"If-Match": "current"},
    {"If-Match": '"other", current', "X-Change-Reason": "has moved"},
    {"Content-Type": "application/json;charset=UTF-8"},
    {"Content-Type": 'application/JSON; charset="utf-8"'},
]


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_a_change_with_headers_is_one_statement(as_alice: LoggedInClient, alice: User, headers: dict[str, str]):
    outcomes = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            patient = make_patient(alice)
            path = f"/api/patients/{patient.pk}/"
            given = {name: text.replace("current", as_alice.get(path)["ETag"]) for name, text in headers.items()}
            connection.queries_log.clear()
            with CaptureQueriesContext(connection) as queries:
                answer = as_alice.generic(
                    "PATCH", path, '{"name": "New"}', headers={"Content-Type": "application/json", **given}
                )
            assert mode == "off" or len([q for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))]) == 1
            outcomes.append(
                (answer.status_code, answer.json()["name"], answer.json()["version"], traces(PatientEvent, patient.pk))
            )
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][:3] == (200, "New", 2)


@pytest.mark.parametrize("tags", ['"other"', 'W/"other"', '"a", "b"', "malformed"])
def test_a_change_with_an_outdated_if_match_is_refused(as_alice: LoggedInClient, alice: User, tags: str):
    patient = make_patient(alice)
    path = f"/api/patients/{patient.pk}/"
    given = tags.replace("current", as_alice.get(path)["ETag"])
    answered, _ = send(as_alice, "patch", path, {"name": "New"}, **{"If-Match": given})
    assert answered[0] == (400 if tags == "malformed" else 412)
    patient.refresh_from_db()
    assert (patient.name, patient.version) == ("John Smith", 1)


@pytest.mark.parametrize("tags", ["", "x", "*", '"x"', 'W/"x"'])
def test_the_creation_of_a_record_with_if_match_is_answered_alike(as_alice: LoggedInClient, tags: str):
    statuses = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            statuses.append(as_alice.post("/api/patients/", {"name": "New"}, headers={"If-Match": tags}).status_code)
    assert statuses == [400 if tags in {"", "x"} else 201] * 2


def test_an_anonymous_write_with_a_malformed_reason_is_answered_alike(anonymous: APIClient):
    answers = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            answer = anonymous.post("/api/patients/", {"name": "New"}, headers={"X-Change-Reason": "\x7f"})
            answers.append((answer.status_code, answer.json() | {"request_id": ""}))
    assert answers[0] == answers[1]


def test_an_entity_tag_is_the_same_in_sql(as_alice: LoggedInClient, alice: User):
    for name in ("Plain", "Line\u2028paragraph\u2029 end", "Größe 患者 \\ \" '"):
        path = f"/api/patients/{make_patient(alice, name=name).pk}/"
        tag = as_alice.get(path)["ETag"]
        answered, done = send(as_alice, "patch", path, {"phone": "1"}, **{"If-Match": tag})
        assert (answered[0], len(done)) == (200, 1)


def test_a_birth_date_is_one_statement(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice, birth_year=1980).pk}/"
    answered, done = send(as_alice, "patch", path, {"birth_date": "1992-03-14"})
    assert (answered[0], answered[2]["birth_year"], len(done)) == (200, 1992, 1)


def test_a_callable_default_is_called_for_each_record(monkeypatch: pytest.MonkeyPatch):
    numbers, field = count(1), Patient._meta.get_field("identifier")
    monkeypatch.setattr(field, "default", lambda: f"N-{next(numbers)}")
    monkeypatch.setitem(vars(field), "_get_default", field.default)
    create = creates.FastCreate(PatientViewSet, "create", {"post": "create"}, {})
    values = [create.column_values({"name": "One"}, owner_id=1) for _ in range(2)]
    identifiers = [prepared[create.placeholders["identifier"]] for prepared in values]
    assert identifiers[0] != identifiers[1]
    assert all(identifier.startswith("N-") for identifier in identifiers)


def test_a_create_with_a_key_is_one_statement_and_is_executed_once(as_alice: LoggedInClient):
    bodies_, statements_ = [], []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            answer = as_alice.post("/api/patients/", {"name": "Once\u2028"}, headers={"Idempotency-Key": "k"})
        bodies_.append((answer.status_code, answer.content, answer["ETag"]))
        statements_.append(len([q for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))]))
    assert bodies_[0] == bodies_[1]
    assert (bodies_[0][0], statements_[0], Patient.objects.count()) == (201, 1, 1)
    assert answer["Idempotency-Replayed"] == "true"
    with override_settings(FAST_PATH="off"):
        again = as_alice.post("/api/patients/", {"name": "Once\u2028"}, headers={"Idempotency-Key": "k"})
        other = as_alice.post("/api/patients/", {"name": "Other"}, headers={"Idempotency-Key": "k"})
    assert (again.content, again["Idempotency-Replayed"], other.status_code) == (bodies_[0][1], "true", 422)


def test_a_key_stored_by_standard_drf_is_replayed_on_the_fast_path(as_alice: LoggedInClient):
    with override_settings(FAST_PATH="off"):
        first = as_alice.post("/api/patients/", {"name": "Once"}, headers={"Idempotency-Key": "k"})
    again = as_alice.post("/api/patients/", {"name": "Once"}, headers={"Idempotency-Key": "k"})
    assert (again.content, again["Idempotency-Replayed"]) == (first.content, "true")
    assert as_alice.post("/api/patients/", {"name": "Other"}, headers={"Idempotency-Key": "k"}).status_code == 422
    assert Patient.objects.count() == 1


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Appends SQL to the statement that creates a record."""
    compile_insert = creates.FastCreate.compile_insert

    def append(sql: str) -> None:
        def compile_broken(self: Any, keyed: bool) -> writes.CompiledWrite:
            compiled = compile_insert(self, keyed)
            fragment = Fragment(f"{compiled.fragment.sql} {sql}", compiled.fragment.parameters)
            return writes.CompiledWrite(fragment, plannable=False)

        monkeypatch.setattr(creates.FastCreate, "compile_insert", compile_broken)
        clear_url_caches()
        monkeypatch.setattr(views.FastActions, "by_method", property(views.FastActions.determine))

    return append


def test_standard_drf_answers_what_postgresql_has_rolled_back(
    as_alice: LoggedInClient, alice: User, broken: Callable[[str], None]
):
    broken("WHERE 1 / (length(content) * 0) = 0")
    answered, done = send(as_alice, "post", "/api/patients/", {"name": "Once"})
    assert (answered[0], len(done) > 1) == (201, True)
    assert Patient.objects.count() == 1


def test_a_write_of_unknown_outcome_is_not_repeated(
    as_alice: LoggedInClient,
    alice: User,
    transactional_db: None,
    broken: Callable[[str], None],
):
    as_alice.get("/api/patients/")  # opens the connection
    broken("; COMMIT; SELECT pg_terminate_backend(pg_backend_pid())")
    answer = as_alice.post("/api/patients/", {"name": "Once"})
    assert (answer.status_code, answer["Retry-After"], answer.json()["status"]) == (503, "5", 503)
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer["X-Request-Id"]
    connection.close()
    assert [*Patient.objects.values_list("name", flat=True)] == ["Once"]  # it was written all the same


def test_a_write_after_a_lost_connection_succeeds(as_alice: LoggedInClient, alice: User, transactional_db: None):
    as_alice.get("/api/patients/")
    with psycopg2.connect(**{**connection.get_connection_params(), "cursor_factory": None}) as other:
        pid = connection.connection.info.backend_pid
        other.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()
    request_started.send(type(as_alice), environ={})  # as every request of a server begins
    assert as_alice.post("/api/patients/", {"name": "New"}).status_code == 201


def test_a_lock_timeout_is_not_retried(short_lock_timeout: None, as_alice: LoggedInClient, alice: User, other: Any):
    path = f"/api/patients/{make_patient(alice).pk}/"
    as_alice.get(path)
    other.cursor().execute("LOCK TABLE patients_patient IN EXCLUSIVE MODE")
    answered, done = send(as_alice, "patch", path, {"name": "Locked"})
    assert (answered[0], answered[1]["Retry-After"], len(done)) == (503, "5", 1)


def test_updated_at_never_decreases(as_alice: LoggedInClient, alice: User):
    patient = make_patient(alice)
    later = timezone.now() + datetime.timedelta(seconds=30)  # by the clock of another machine
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # past the trigger that sets it
        cursor.execute("UPDATE patients_patient SET updated_at = %s WHERE id = %s", [later, patient.pk])
        cursor.execute("SET LOCAL session_replication_role = origin")
    answer = as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "Another"}).json()
    assert datetime.datetime.fromisoformat(answer["updated_at"]) >= later


def test_a_truncated_body_is_a_400(as_alice: LoggedInClient):
    class Broken(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError

    as_alice.get("/api/patients/")
    broken: Any = {"wsgi.input": Broken()}
    answer = as_alice.post("/api/patients/", {"name": "New"}, **broken)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "The body is shorter than its Content-Length; send all of it.",
    )


@pytest.mark.parametrize("asked", ["the database", "the context", "the request"])
def test_validation_that_needs_more_than_the_body_uses_standard_drf(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch, asked: str
):
    def validate(self: Any, name: str) -> str:
        if asked == "the database":
            return f"{name} {Patient.objects.count()}"
        return f"{name} {'view' in self.context if asked == 'the context' else self.context['request'].method}"

    monkeypatch.setattr(PatientSerializer, "validate_name", validate, raising=False)
    answered, done = send(as_alice, "post", "/api/patients/", {"name": "New"})
    expected = {"the database": "New 0", "the context": "New True", "the request": "New POST"}
    assert (answered[0], answered[2]["name"], len(done) > 1) == (201, expected[asked], True)
