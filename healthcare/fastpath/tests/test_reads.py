"""Reads that take one round trip answer byte for byte what the plain way through the framework answers."""

import datetime
import time
from typing import Any

import psycopg2
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.fastpath import declared, prepared
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Gender, Patient
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

# A tag that nothing has: what is asked for with it goes the plain way, and its answer is the whole one.
PLAIN = {"If-None-Match": '"nothing"'}
OWN = {"X-Request-Id"}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
names = texts.map(lambda text: f"x{text}")
moments = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC))
days = st.dates(datetime.date(1850, 1, 1), datetime.date(2026, 1, 1))
births: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    days.map(lambda day: {"birth_date": day, "birth_year": day.year}),
    st.integers(1850, 2100).map(lambda year: {"birth_year": year}),
)
patients = st.builds(
    lambda fields, birth: fields | birth,
    st.fixed_dictionaries(
        {"name": names, "gender": st.sampled_from(Gender.values), "deceased": st.booleans(), "identifier": texts,
         "phone": texts, "email": texts, "address": texts}
    ),
    births,
)  # fmt: skip
doctors = st.fixed_dictionaries(
    {"name": names, "specialization": texts, "license_number": texts, "phone": texts, "email": texts,
     "hospital": texts, "experience_years": st.none() | st.integers(0, 32767)}
)  # fmt: skip
mappings = st.fixed_dictionaries({"role": texts, "reason": texts, "is_primary": st.booleans(), "started_at": moments})
examples = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def reads(client: APIClient, path: str, **headers: str) -> tuple[Any, list[str]]:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path, headers=headers)
    kept = {name: value for name, value in answer.items() if name not in OWN}
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    return (answer.status_code, kept, answer.content), statements


def same_both_ways(client: APIClient, path: str) -> Any:
    """The answer of the one round trip, after it was compared with that of the plain way."""
    answered, queries = reads(client, path)
    plainly, _ = reads(client, path, **PLAIN)
    assert len(queries) == 1, path
    assert answered == plainly
    assert answered[0] == 200
    return answered


def make_everything(alice: User, drawn: tuple[Any, Any, Any], created_at: datetime.datetime) -> Mapping:
    """A patient, a doctor and an assignment with these fields, created at this time."""
    patient, doctor = make_patient(alice, **drawn[0]), make_doctor(alice, **drawn[1])
    mapping = make_mapping(patient, doctor, **drawn[2])
    for model in (Patient, Doctor, Mapping):
        model._default_manager.update(created_at=created_at)
    return mapping


@examples
@given(drawn=st.tuples(patients, doctors, mappings), created_at=moments)
def test_random_rows_are_the_same_both_ways(
    as_alice: LoggedInClient, alice: User, drawn: tuple[Any, Any, Any], created_at: datetime.datetime
):
    mapping = make_everything(alice, drawn, created_at)
    for path in (
        f"/api/patients/{mapping.patient_id}/", "/api/patients/?limit=1", f"/api/doctors/{mapping.doctor_id}/",
        "/api/doctors/?limit=1", "/api/mappings/?limit=1",
        f"/api/patients/{mapping.patient_id}/doctors/", f"/api/doctors/{mapping.doctor_id}/patients/",
    ):  # fmt: skip
        assert same_both_ways(as_alice, path)[0] == 200


KINDS = {
    "patients": ("", ""), "doctors": ("", ""), "mappings": ("", ""),
    "patients/{patient}/doctors": ("patient", ""), "doctors/{doctor}/patients": ("", "doctor"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_the_same_both_ways(as_alice: LoggedInClient, alice: User, kind: str):
    one = KINDS[kind]
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    for _ in range(6):
        patient = mapping.patient if "patient" in one else make_patient(alice)
        make_mapping(patient, mapping.doctor if "doctor" in one else make_doctor(alice))
    path, seen = f"/api/{kind.format(patient=mapping.patient_id, doctor=mapping.doctor_id)}/?limit=3", 0
    for relation in ("next", "next", "prev", "prev", ""):
        _, headers, content = same_both_ways(as_alice, path)
        seen += content.count(b'"created_at"')
        if relation:
            [path] = [link.split(">")[0][1:] for link in headers["Link"].split(", ") if f'rel="{relation}"' in link]
    assert seen == 3 + 3 + 1 + 3 + 3


def test_anybody_reads_doctors_the_same_both_ways(anonymous: APIClient, alice: User):
    doctor = make_doctor(alice, name="Line\u2028paragraph\u2029 ends")
    same_both_ways(anonymous, "/api/doctors/")
    assert b"\\u2028" in same_both_ways(anonymous, f"/api/doctors/{doctor.pk}/")[2]


def test_both_ways_record_the_same_read(as_alice: LoggedInClient, alice: User):
    mappings = [make_mapping(make_patient(alice), make_doctor(alice)) for _ in range(3)]
    patient, doctor = mappings[0].patient_id, mappings[0].doctor_id
    for path in (
        f"/api/patients/{patient}/", "/api/patients/?limit=2", "/api/mappings/?limit=2",
        f"/api/patients/{patient}/doctors/", f"/api/doctors/{doctor}/patients/",
    ):  # fmt: skip
        same_both_ways(as_alice, path)
        directly, plainly = AccessLog.objects.order_by("-pk")[:2:][::-1]
        assert directly.request_id
        own = dict.fromkeys(("_state", "id", "at", "request_id"))
        assert vars(directly) | own == vars(plainly) | own


@pytest.mark.parametrize(
    "path",
    ["/api/patients/{}/", "/api/patients/", "/api/mappings/", "/api/patients/{}/doctors/"],
)
def test_whoever_may_not_read_is_answered_by_the_plain_way(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, path: str
):
    path = path.format(make_mapping(make_patient(alice), make_doctor(alice)).patient_id)
    expected = 404 if path.count("/") > 3 else 200
    assert reads(as_bob, path)[0][0] == expected
    LoginSession.objects.filter(user=alice).update(revoked_at=datetime.datetime.now(datetime.UTC))
    answered, _ = reads(as_alice, path)
    assert (answered[0], b"John" in answered[2]) == (401, False)
    assert not AccessLog.objects.filter(actor=alice.pk).exists()


def test_a_token_that_expires_while_it_is_known_is_refused(as_alice: LoggedInClient, alice: User):
    make_patient(alice)
    token: Any = AccessToken(as_alice.tokens["access"])  # type: ignore[arg-type]
    token.set_exp(lifetime=datetime.timedelta(seconds=2))
    as_alice.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert len(reads(as_alice, "/api/patients/")[1]) == 1
    time.sleep(2)
    assert as_alice.get("/api/patients/").status_code == 401


@pytest.mark.parametrize(
    "hook", ["get_object", "retrieve", "filter_queryset", "get_serializer", "finalize_response", "initial"]
)
def test_a_view_with_a_mind_of_its_own_is_read_the_plain_way(hook: str):
    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return getattr(PatientViewSet, hook)(self, *arguments, **keywords)

    own = type("OwnViewSet", (PatientViewSet,), {hook: method})
    assert declared.ordinary(PatientViewSet, "retrieve")
    assert not declared.ordinary(own, "retrieve")


def test_a_token_that_is_no_longer_good_reads_nothing_that_is_public(as_alice: LoggedInClient, alice: User):
    make_doctor(alice)
    assert as_alice.get("/api/doctors/").status_code == 200
    User.objects.update(is_active=False)
    assert as_alice.get("/api/doctors/").status_code == 401


def test_a_scope_that_changes_is_compiled_anew(as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch):
    patient = make_patient(alice)
    assert as_alice.get(f"/api/patients/{patient.pk}/").status_code == 200
    monkeypatch.setattr(PatientViewSet, "get_queryset", lambda self: Patient.objects.none())
    assert as_alice.get(f"/api/patients/{patient.pk}/").status_code == 404


def test_a_pooler_that_loses_a_prepared_statement_costs_no_answer(
    as_alice: LoggedInClient, alice: User, transactional_db: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prepared, "_pooled", False)
    patient = make_patient(alice)
    path = f"/api/patients/{patient.pk}/"
    assert as_alice.get(path).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")  # what another session at the pooler looks like
    answered, queries = reads(as_alice, path)
    assert (answered[0], len(queries) > 1) == (200, True)
    answered, queries = reads(as_alice, path)
    assert (answered[0], len(queries), "EXECUTE" in queries[0]) == (200, 1, False)


def test_a_lock_that_was_not_to_be_had_is_no_pooler(
    as_alice: LoggedInClient, alice: User, transactional_db: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prepared, "_pooled", False)
    path = f"/api/patients/{make_patient(alice).pk}/"
    as_alice.get("/api/doctors/")  # opens the connection
    with psycopg2.connect(**{**connection.get_connection_params(), "cursor_factory": None}) as other:
        other.cursor().execute("DEALLOCATE ALL; LOCK TABLE patients_patient")
        connection.connection.cursor().execute("DEALLOCATE ALL")
        prepared._known.clear()
        assert as_alice.get(path).status_code == 503  # the direct way gives up, and so does the plain one
    other.close()
    as_alice.get(path)
    answered, queries = reads(as_alice, path)
    assert (answered[0], len(queries), "EXECUTE" in queries[0]) == (200, 1, True)
