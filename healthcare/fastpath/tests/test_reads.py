"""A fast read answers in one statement, byte for byte, what standard DRF answers, and records the same access."""

import datetime
import json
import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Gender, Patient
from patients.tests.factories import make_patient

OWN = {"X-Request-Id"}  # differs between any two answers

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
names = texts.map(lambda text: f"x{text}")
moments = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC))
days = st.dates(datetime.date(1850, 1, 1), datetime.date(2026, 1, 1))
births: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    days.map(lambda day: {"birth_date": day, "birth_year": day.year}),
    st.integers(1850, 2100).map(lambda year: {"birth_year": year}),
)
DEATH = datetime.date(2026, 2, 28)
pairs = st.lists(
    st.fixed_dictionaries({"system": names.map(lambda text: text.replace("|", "")), "value": names}), max_size=2
)
patients = st.builds(
    lambda fields, birth, death: fields | birth | (death if birth.get("birth_year", 0) < DEATH.year else {}),
    st.fixed_dictionaries(
        {"name": names, "gender": st.sampled_from(Gender.values), "identifier": texts, "identifiers": pairs,
         "phone": texts, "alternate_phone": texts, "email": texts, "address": texts, "language": texts,
         "medical_history": texts}
    ),
    births,
    st.sampled_from([{}, {"deceased": False}, {"deceased": True}, {"deceased": True, "deceased_on": DEATH}]),
)  # fmt: skip
doctors = st.fixed_dictionaries(
    {"name": names, "specialization": texts, "license_number": texts, "phone": texts, "email": texts,
     "hospital": texts, "experience_since": st.none() | st.integers(0, 32767)}
)  # fmt: skip
mappings = st.fixed_dictionaries(
    {"role": texts, "reason": texts, "notes": texts, "is_primary": st.booleans(), "started_at": moments}
)
examples = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def reads(client: APIClient, path: str, **headers: str) -> tuple[Any, list[str]]:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path, headers=headers)
    headers_compared = {name: value for name, value in answer.items() if name not in OWN}
    statements = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    return (answer.status_code, headers_compared, answer.content), statements


def compare_with_standard(client: APIClient, path: str) -> Any:
    """The answer of the fast path in one statement, compared with that of standard DRF."""
    answered, queries = reads(client, path)
    with override_settings(FAST_PATH="off"):
        standard, _ = reads(client, path)
    assert len(queries) == 1, path
    assert answered == standard
    assert answered[0] == 200
    return answered


def make_everything(alice: User, drawn: tuple[Any, Any, Any], created_at: datetime.datetime) -> Mapping:
    """A patient, a doctor and an assignment with these fields, created at this time."""
    patient, doctor = make_patient(alice, **drawn[0]), make_doctor(alice, **drawn[1])
    mapping = make_mapping(patient, doctor, **drawn[2])
    for model in (Patient, Doctor, Mapping):
        model._default_manager.update(created_at=created_at)
    return mapping


@pytest.mark.slow
@examples
@given(drawn=st.tuples(patients, doctors, mappings), created_at=moments)
def test_both_paths_answer_random_rows_alike(
    as_alice: LoggedInClient, alice: User, drawn: tuple[Any, Any, Any], created_at: datetime.datetime
):
    mapping = make_everything(alice, drawn, created_at)
    for path in (
        f"/api/patients/{mapping.patient_id}/", "/api/patients/?limit=1", f"/api/doctors/{mapping.doctor_id}/",
        "/api/doctors/?limit=1", "/api/mappings/?limit=1",
        f"/api/patients/{mapping.patient_id}/doctors/", f"/api/doctors/{mapping.doctor_id}/patients/",
    ):  # fmt: skip
        assert compare_with_standard(as_alice, path)[0] == 200


KINDS = {
    "patients": ("", ""), "doctors": ("", ""), "mappings": ("", ""),
    "patients/{patient}/doctors": ("patient", ""), "doctors/{doctor}/patients": ("", "doctor"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_both_paths_answer_every_page_alike(as_alice: LoggedInClient, alice: User, kind: str):
    one = KINDS[kind]
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    for _ in range(6):
        patient = mapping.patient if "patient" in one else make_patient(alice)
        make_mapping(patient, mapping.doctor if "doctor" in one else make_doctor(alice))
    path, seen = f"/api/{kind.format(patient=mapping.patient_id, doctor=mapping.doctor_id)}/?limit=3", 0
    for relation in ("next", "next", "prev", "prev", ""):
        _, headers, content = compare_with_standard(as_alice, path)
        seen += content.count(b'"created_at"')
        if relation:
            [path] = [link.split(">")[0][1:] for link in headers["Link"].split(", ") if f'rel="{relation}"' in link]
    assert seen == 3 + 3 + 1 + 3 + 3


def test_both_paths_answer_anonymous_callers_alike(anonymous: APIClient, alice: User):
    doctor = make_doctor(alice, name="Line\u2028paragraph\u2029 ends")
    compare_with_standard(anonymous, "/api/doctors/")
    assert b"\\u2028" in compare_with_standard(anonymous, f"/api/doctors/{doctor.pk}/")[2]


def test_both_paths_record_the_same_access(as_alice: LoggedInClient, alice: User):
    mappings = [make_mapping(make_patient(alice), make_doctor(alice)) for _ in range(3)]
    patient, doctor = mappings[0].patient_id, mappings[0].doctor_id
    for path in (
        f"/api/patients/{patient}/", "/api/patients/?limit=2", "/api/mappings/?limit=2",
        f"/api/patients/{patient}/doctors/", f"/api/doctors/{doctor}/patients/",
    ):  # fmt: skip
        compare_with_standard(as_alice, path)
        fast, standard = AccessLog.objects.order_by("-pk")[:2:][::-1]
        assert fast.request_id
        own = dict.fromkeys(("_state", "id", "at", "request_id"))
        assert vars(fast) | own == vars(standard) | own


@pytest.mark.parametrize(
    "path",
    ["/api/patients/{}/", "/api/patients/", "/api/mappings/", "/api/patients/{}/doctors/"],
)
def test_an_outsider_and_an_ended_session_read_nothing(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, path: str
):
    path = path.format(make_mapping(make_patient(alice), make_doctor(alice)).patient_id)
    expected = 404 if path.count("/") > 3 else 200
    assert reads(as_bob, path)[0][0] == expected
    LoginSession.objects.filter(user=alice).update(revoked_at=datetime.datetime.now(datetime.UTC))
    answered, _ = reads(as_alice, path)
    assert (answered[0], b"John" in answered[2]) == (401, False)
    assert not AccessLog.objects.filter(actor=alice.pk).exists()


def test_a_token_that_expires_while_it_is_cached_is_refused(as_alice: LoggedInClient, alice: User):
    make_patient(alice)
    for seconds in (2, 20, 120):  # a busy machine may take seconds for a request
        token: Any = AccessToken(as_alice.tokens["access"])  # type: ignore[arg-type]
        token.set_exp(lifetime=datetime.timedelta(seconds=seconds))
        as_alice.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        (status, *_), statements = reads(as_alice, "/api/patients/")
        if time.time() <= token["exp"]:
            break
    assert (status, len(statements)) == (200, 1)
    while time.time() <= token["exp"]:
        time.sleep(0.02)
    assert as_alice.get("/api/patients/").status_code == 401


def test_a_revoked_token_is_refused_on_public_lists_too(as_alice: LoggedInClient, alice: User):
    make_doctor(alice)
    assert as_alice.get("/api/doctors/").status_code == 200
    User.objects.update(is_active=False)
    assert as_alice.get("/api/doctors/").status_code == 401


QUERIES = [
    "fields=id,name", "fields=age", "fields=id&include=doctors", "fields=doctors",
    "fields=doctors,id&include=doctors", "include=doctors", "ordering=name",
    "ordering=-name&limit=2", "ordering=created_at", "ordering=-updated_at&fields=id&limit=1", "gender=M",
    "gender=female",
    "age_min=3", "age_max=150&gender=U", "birth_date_after=1990-01-01", "birth_date_before=1990-01-01&ordering=name",
    "identifier=A-1", "created_after=2020-01-01T00:00:00Z", "doctor={doctor}", "doctor={doctor}&gender=F&limit=1",
    "updated_before=2020-01-01T00:00:00Z", "limit=1",
]  # fmt: skip
# Of six patients; every other query has one page.
PAGES = {
    "ordering=-name&limit=2": 3,
    "ordering=-updated_at&fields=id&limit=1": 6,
    "doctor={doctor}&gender=F&limit=1": 2,
    "limit=1": 6,
}


@pytest.mark.parametrize("query", QUERIES)
def test_both_paths_answer_pages_with_parameters_alike(as_alice: LoggedInClient, alice: User, query: str):
    doctors = [make_doctor(alice) for _ in range(2)]
    births: list[dict[str, Any]] = [
        {},
        {"birth_year": 1990},
        {"birth_date": datetime.date(1992, 3, 14), "birth_year": 1992},
    ]
    for number in range(6):
        fields = {"name": f"N{number % 4}", "gender": "MFU"[number % 3], "identifier": f"A-{number % 2}"}
        patient = make_patient(alice, **fields, **births[number % 3])
        for doctor in doctors[: number % 3]:
            make_mapping(patient, doctor)
    path, pages = f"/api/patients/?{query.format(doctor=doctors[0].pk)}", 0
    while path and pages < 8:
        _, headers, _ = compare_with_standard(as_alice, path)
        links = headers.get("Link", "").split(", ")
        path = next((link.split(">")[0][1:] for link in links if 'rel="next"' in link), "")
        pages += 1
    assert pages == PAGES.get(query, 1)


@pytest.mark.parametrize(
    ("query", "members"),
    [
        ("fields=name", {"name"}),
        ("include=doctors", None),
        ("fields=id,doctors&include=doctors", {"id", "doctors"}),
    ],
)
def test_both_paths_answer_a_record_with_parameters_alike(
    as_alice: LoggedInClient, alice: User, query: str, members: set[str] | None
):
    """`members` are those of the answer; None stands for all of a patient and `doctors`."""
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    path = f"/api/patients/{mapping.patient_id}/"
    whole = json.loads(compare_with_standard(as_alice, path)[2])
    selected = json.loads(compare_with_standard(as_alice, f"{path}?{query}")[2])
    assert "doctors" not in whole
    assert selected.keys() == (members or whole.keys() | {"doctors"})


@pytest.mark.parametrize(
    "query",
    ["fields=nothing", "limit=0", "cursor=x", "ordering=age", "gender=x", "gender=", "age_min=-1", "doctor=0",
     "doctor=4611686018427387904", "search=x&ordering=name", "unknown=1", "limit=1&limit=2",
     "count=true", "deleted=true", "as_of=2020-01-01T00:00:00Z", "doctor=99999999999999999999"],
)  # fmt: skip
def test_standard_drf_answers_parameters_that_the_fast_path_does_not_know(
    as_alice: LoggedInClient, alice: User, query: str
):
    make_patient(alice)
    answers = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            answer = as_alice.get(f"/api/patients/?{query}")
        assert getattr(answer.wsgi_request, "served_by", "standard") == "standard"
        body = answer.json()
        answers.append((answer.status_code, {**body, "request_id": ""} if isinstance(body, dict) else body))
    assert answers[0] == answers[1]
    assert AccessLog.objects.count() == (2 if answers[0][0] == 200 else 0)


def test_a_filter_by_a_missing_or_foreign_record_is_the_same_400(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User
):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    foreign = as_bob.get(f"/api/mappings/?patient={mapping.patient_id}")
    missing = as_bob.get(f"/api/mappings/?patient={2**40}")
    assert (foreign.status_code, missing.status_code) == (400, 400)
    assert foreign.json()["errors"] == missing.json()["errors"]
    assert not AccessLog.objects.exists()
    assert len(as_alice.get(f"/api/mappings/?patient={mapping.patient_id}").json()) == 1


@pytest.mark.parametrize("path", ["/api/patients/{}/", "/api/patients/{}/?fields=name", "/api/doctors/{}/"])
def test_a_current_entity_tag_in_if_none_match_is_a_304(as_alice: LoggedInClient, alice: User, path: str):
    path = path.format((make_doctor if "doctors" in path else make_patient)(alice).pk)
    tag = as_alice.get(path)["ETag"]
    answers = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            answer = as_alice.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
        answers.append((answer.status_code, answer.content, {k: v for k, v in answer.items() if k not in OWN}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 304
    assert as_alice.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("tags", ["*", "current", "W/current", '"other", current', '"other"', "W/*"])
def test_the_access_log_says_that_the_client_had_the_record(as_alice: LoggedInClient, alice: User, tags: str):
    path = f"/api/patients/{make_patient(alice, name='Line' + chr(0x2028)).pk}/"
    tags = tags.replace("current", as_alice.get(path)["ETag"])
    statuses = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            statuses.append(as_alice.get(path, headers={"If-None-Match": tags}).status_code)
    assert statuses[0] == statuses[1]
    expected = statuses if statuses[0] != 400 else []
    assert [*AccessLog.objects.order_by("pk").values_list("outcome", flat=True)][1:] == expected


@pytest.mark.parametrize("path", ["/api/patients/{}/", "/api/doctors/{}/"])
def test_a_missing_record_is_a_404_in_one_statement(as_bob: LoggedInClient, alice: User, path: str):
    make = make_doctor if "doctors" in path else make_patient
    foreign = make(alice).pk if make is make_patient else 2**41
    answers = []
    for key in (foreign, 2**40):
        for mode in ("on", "off"):
            with override_settings(FAST_PATH=mode):
                (status, headers, content), queries = reads(as_bob, path.format(key))
            assert mode == "off" or len(queries) == 1
            answers.append((status, headers, {**json.loads(content), "request_id": ""}))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 404
    logged = [*AccessLog.objects.order_by("pk").values_list("actor", "action", "patient_ids", "outcome")]
    bob = as_bob.login_session.user_id
    expected = [(bob, "patient.retrieve", [key], 404) for key in (foreign, foreign, 2**40, 2**40)]
    assert logged == (expected if make is make_patient else [])


def test_a_merged_patient_is_a_410_and_recorded_once(as_alice: LoggedInClient, alice: User):
    survivor, duplicate = make_patient(alice), make_patient(alice)
    as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
    before = AccessLog.objects.count()
    answer = as_alice.get(f"/api/patients/{duplicate.pk}/")
    assert (answer.status_code, f"/api/patients/{survivor.pk}/" in answer["Link"]) == (410, True)
    assert AccessLog.objects.count() == before


@pytest.mark.parametrize("token", [None, "Bearer x", "Bearer", "Basic eDp5", "Bearer a b", "expired"])
@pytest.mark.parametrize("path", ["/api/patients/", "/api/patients/1/", "/api/mappings/", "/api/doctors/"])
def test_a_refused_caller_gets_the_same_401(
    anonymous: APIClient, as_alice: LoggedInClient, path: str, token: str | None
):
    if token == "expired":
        expired: Any = AccessToken(as_alice.tokens["access"])  # type: ignore[arg-type]
        expired.set_exp(lifetime=datetime.timedelta(seconds=-1))
        token = f"Bearer {expired}"
    headers = {} if token is None else {"Authorization": token}
    answers = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            (status, answer_headers, content), _ = reads(anonymous, path, **headers)
        body = json.loads(content)
        answers.append((status, answer_headers, {**body, "request_id": ""} if isinstance(body, dict) else body))
    assert answers[0] == answers[1]
    assert answers[0][0] == (200 if path == "/api/doctors/" and token in {None, "Basic eDp5"} else 401)


def test_an_ended_session_gets_the_same_401(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice).pk}/"
    LoginSession.objects.filter(user=alice).revoke()
    answers = []
    for mode in ("on", "off"):
        with override_settings(FAST_PATH=mode):
            (status, answer_headers, content), _ = reads(as_alice, path)
        answers.append((status, answer_headers, {**json.loads(content), "request_id": ""}))
    assert answers[0] == answers[1]
    assert (answers[0][0], AccessLog.objects.count()) == (401, 0)


def test_headers_unique_to_a_request_leave_it_on_the_fast_path(as_alice: LoggedInClient, alice: User):
    path = f"/api/patients/{make_patient(alice).pk}/"
    for number in range(3):
        headers = {
            "Traceparent": f"00-{number:032x}-{number:016x}-01",
            "X-Device-Id": str(number),
            "Cookie": f"a={number}",
        }
        assert len(reads(as_alice, path, **headers)[1]) == 1


def test_both_paths_answer_histories_and_access_logs_alike(as_alice: LoggedInClient, alice: User):
    mapping = make_mapping(make_patient(alice, phone="1", birth_date=datetime.date(1992, 3, 14)), make_doctor(alice))
    patient, doctor = f"/api/patients/{mapping.patient_id}/", f"/api/doctors/{mapping.doctor_id}/"
    for body in (
        {"name": 'Größe \\ " \u2028'},
        {"phone": "", "deceased": True},
        {"birth_date": None, "birth_year": 1990},
    ):
        as_alice.patch(patient, body, headers={"X-Change-Reason": b"because".decode("latin-1")})
    as_alice.patch(doctor, {"experience_years": 3})
    as_alice.patch(f"/api/mappings/{mapping.pk}/", {"role": "GP", "ended_at": "2026-03-03T10:00:00.5Z"})
    for action in ("delete", "post", "delete", "post"):
        as_alice.generic(action.upper(), patient if action == "delete" else f"{patient}restore/")
    Patient.objects.filter(pk=mapping.patient_id).update(address="by a command")
    for path in (f"{patient}history/", f"{doctor}history/", f"/api/mappings/{mapping.pk}/history/"):
        for query in ("", "?limit=1", "?limit=3", "?limit=50"):
            url = path + query
            while url:
                headers = compare_with_standard(as_alice, url)[1]
                links = headers.get("Link", "").split(", ")
                url = next((link.split(">")[0][1:] for link in links if 'rel="next"' in link), "")
    as_alice.get(f"/api/patients/{2**40}/")
    for query in ("", "?limit=2"):
        url, seen = f"{patient}access-log/{query}", []
        for mode in ("on", "off"):
            with override_settings(FAST_PATH=mode):
                rows = as_alice.get(url).json()
            seen.append([{**row, "at": "", "request_id": ""} for row in rows])
        # Each list is a read that the next one contains.
        assert seen[1][1:] == seen[0][: len(seen[1]) - 1]
    answer = as_alice.get(f"{patient}access-log/")
    assert answer.wsgi_request.served_by == "fast"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path", ["/api/patients/{}/history/", "/api/patients/{}/access-log/", "/api/mappings/{}/history/"]
)
def test_an_outsider_reads_no_history(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, path: str):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    url = path.format(mapping.pk if "mappings" in path else mapping.patient_id)
    assert as_alice.get(url).status_code == 200
    foreign, missing = as_bob.get(url), as_bob.get(path.format(2**40))
    assert (foreign.status_code, missing.status_code) == (404, 404)
    assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
