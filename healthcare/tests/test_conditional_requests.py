"""ETag, If-Match and If-None-Match (RFC 9110 section 13) on every answer that is one record."""

import datetime
import re
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.conditional_requests import describe_conditional_requests
from mappings.models import Mapping
from patients.tests.factories import make_patient

RESOURCES = ["patients", "doctors", "me"]
STALE = {
    "type": "about:blank",
    "title": "Precondition Failed",
    "status": 412,
    "detail": "The record does not match If-Match or If-None-Match; read it again and repeat the request.",
}
MALFORMED = ["", "abc", '"a', 'a"', '"a" "b"', '*, "a"', '"a", *', 'w/"a"', "'a'", '"a\x00"', '"a b"', "W/", ","]


@pytest.fixture(params=RESOURCES)
def path(request: pytest.FixtureRequest, alice: User) -> str:
    """The path of one record that alice may read and change, of every kind."""
    paths = {
        "patients": lambda: f"/api/patients/{make_patient(alice).pk}/",
        "doctors": lambda: f"/api/doctors/{make_doctor(alice).pk}/",
        "me": lambda: "/api/auth/me/",
    }
    return paths[request.param]()


def refused(answer: Any) -> dict[str, Any]:
    """The body of a 412 without its request id."""
    assert (answer.status_code, answer["Content-Type"]) == (412, "application/problem+json")
    body: dict[str, Any] = answer.json()
    return {name: value for name, value in body.items() if name != "request_id"}


def test_a_record_has_one_strong_opaque_etag_until_it_changes(as_alice: LoggedInClient, path: str) -> None:
    tag = as_alice.get(path)["ETag"]
    assert re.fullmatch('"[0-9a-f]{32}"', tag)
    assert as_alice.get(path)["ETag"] == as_alice.head(path)["ETag"] == tag
    assert as_alice.patch(path, {})["ETag"] == tag
    changed = as_alice.patch(path, {"name": "Changed"})
    assert changed["ETag"] == as_alice.get(path)["ETag"] != tag


@pytest.mark.parametrize("resource", ["patients", "doctors"])
def test_post_and_put_answer_with_the_etag_of_the_record(as_alice: LoggedInClient, resource: str) -> None:
    created = as_alice.post(f"/api/{resource}/", {"name": "New", "email": "new@example.org", "phone": " 12 "})
    path = f"/api/{resource}/{created.json()['id']}/"
    assert created["ETag"] == as_alice.get(path)["ETag"]
    replaced = as_alice.put(path, {"name": "Newer"})
    assert replaced["ETag"] == as_alice.get(path)["ETag"] != created["ETag"]


def test_two_records_with_the_same_content_have_different_etags(as_alice: LoggedInClient) -> None:
    assert len({as_alice.post("/api/doctors/", {"name": "Same"})["ETag"] for _ in range(3)}) == 3


def test_lists_and_errors_have_no_etag(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    for path in ("/api/patients/", f"/api/patients/{patient.pk}/doctors/", "/api/patients/0/", "/api/auth/sessions/"):
        assert "ETag" not in as_alice.get(path)


def test_a_read_with_the_current_etag_is_a_304_without_a_body(as_alice: LoggedInClient, path: str) -> None:
    whole = as_alice.get(path)
    for sent in (whole["ETag"], f'"x", {whole["ETag"]}', f'W/{whole["ETag"]},, W/"y"', "*", f" {whole['ETag']}\t,"):
        for read in (as_alice.get, as_alice.head):
            answer = read(path, headers={"If-None-Match": sent})
            assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", whole["ETag"])
            assert answer["Content-Length"] == str(len(whole.content))
            assert answer["Cache-Control"] == whole["Cache-Control"]
            assert "Content-Type" not in answer


def test_a_read_with_an_old_etag_answers_the_record(as_alice: LoggedInClient, path: str) -> None:
    tag = as_alice.get(path)["ETag"]
    changed = as_alice.patch(path, {"name": "Changed"}).json()
    answer = as_alice.get(path, headers={"If-None-Match": f'{tag}, "x"'})
    assert (answer.status_code, answer.json()) == (200, changed)


def test_anyone_revalidates_a_public_doctor(anonymous: APIClient, alice: User) -> None:
    path = f"/api/doctors/{make_doctor(alice).pk}/"
    tag = anonymous.get(path)["ETag"]
    assert anonymous.get(path, headers={"If-None-Match": tag}).status_code == 304


def test_a_read_takes_if_match_too(as_alice: LoggedInClient, path: str) -> None:
    tag = as_alice.get(path)["ETag"]
    assert as_alice.get(path, headers={"If-Match": tag}).status_code == 200
    assert refused(as_alice.get(path, headers={"If-Match": '"other"'})) == STALE


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize("resource", ["patients", "doctors"])
def test_a_write_with_an_old_etag_is_refused(as_alice: LoggedInClient, alice: User, resource: str, method: str) -> None:
    record = make_patient(alice) if resource == "patients" else make_doctor(alice)
    path = f"/api/{resource}/{record.pk}/"
    stale = as_alice.get(path)["ETag"]
    current = as_alice.patch(path, {"name": "Changed"})
    write, body = getattr(as_alice, method), {"name": "Overwritten"}
    for sent in (stale, f"W/{stale}", f'{stale[:-1]}-gzip"', f'{stale}, "x"', '"-gzip"'):
        assert refused(write(path, body, headers={"If-Match": sent})) == STALE
    for sent in (current["ETag"], f"W/{current['ETag']}", "*"):
        assert refused(write(path, body, headers={"If-None-Match": sent})) == STALE
    assert as_alice.get(path).json() == current.json()
    done = write(path, body, headers={"If-Match": f'"x", {current["ETag"]}', "If-None-Match": stale})
    assert done.status_code == (204 if method == "delete" else 200)
    record.refresh_from_db()
    assert record.version == 3


@pytest.mark.parametrize(
    "rewrite",
    [
        'W/"{}"', '"{}-gzip"', 'W/"{}-gzip"', '"{}-br"', '"{}-zstd"', '"{}-deflate"', '"{};gzip"', '"{};br"',
        '"{}--gzip"', '"{}-GZIP"', '"{}-gzip-gzip"', '"{}-br;gzip"', '"{}:zstd"', '"x", W/"{}-gzip"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["patch", "put", "delete"])
@pytest.mark.parametrize("resource", ["patients", "doctors"])
def test_a_tag_as_proxies_rewrite_it_is_the_tag(
    as_alice: LoggedInClient, alice: User, resource: str, method: str, rewrite: str
) -> None:
    record = make_patient(alice) if resource == "patients" else make_doctor(alice)
    path = f"/api/{resource}/{record.pk}/"
    rewritten = rewrite.format(as_alice.get(path)["ETag"].strip('"'))
    assert as_alice.get(path, headers={"If-None-Match": rewritten}).status_code == 304
    assert as_alice.get(path, headers={"If-Match": rewritten}).status_code == 200
    write = getattr(as_alice, method)
    assert refused(write(path, {"name": "Changed"}, headers={"If-None-Match": rewritten})) == STALE
    answer = write(path, {"name": "Changed"}, headers={"If-Match": rewritten})
    assert answer.status_code == (204 if method == "delete" else 200)


def test_an_asterisk_matches_any_state(as_alice: LoggedInClient, path: str) -> None:
    assert as_alice.patch(path, {"name": "Changed"}, headers={"If-Match": " * "}).status_code == 200


@pytest.mark.django_db(transaction=True)  # its view is not one transaction, and an error ends that of a test
def test_a_change_of_the_callers_account_with_an_old_etag_is_refused(as_alice: LoggedInClient, alice: User) -> None:
    tag = as_alice.get("/api/auth/me/")["ETag"]
    first = as_alice.patch("/api/auth/me/", {"name": "First"}, headers={"If-Match": tag})
    assert (first.status_code, first.json()["name"]) == (200, "First")
    second = as_alice.patch("/api/auth/me/", {"name": "Second"}, headers={"If-Match": tag})
    assert refused(second) == STALE
    alice.refresh_from_db()
    assert alice.name == "First"


def test_an_assignment_is_ended_with_the_etag_of_its_creation(as_alice: LoggedInClient, alice: User) -> None:
    body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    created = as_alice.post("/api/mappings/", body)
    path = f"/api/mappings/{created.json()['id']}/"
    assert refused(as_alice.delete(path, headers={"If-Match": '"other"'})) == STALE
    assert Mapping.objects.active().exists()
    assert as_alice.delete(path, headers={"If-Match": created["ETag"]}).status_code == 204
    assert not Mapping.objects.active().exists()


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("sent", MALFORMED)
def test_a_malformed_etag_is_refused_and_not_repeated(
    as_alice: LoggedInClient, alice: User, header: str, sent: str
) -> None:
    patient = make_patient(alice)
    for method in ("get", "put", "patch", "delete"):
        body = {"name": "X"} if method != "get" else None
        answer = getattr(as_alice, method)(f"/api/patients/{patient.pk}/", body, headers={header: sent})
        assert answer.status_code == 400
        assert answer.json() == {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": f"Send * or a comma-separated list of entity tags, quoted as in the ETag header, in {header}.",
            "request_id": answer["X-Request-Id"],
        }
    patient.refresh_from_db()
    assert patient.version == 1


def test_a_header_of_a_hundred_kibibytes_is_parsed_in_linear_time(as_alice: LoggedInClient, alice: User) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"
    for hostile in (" ," * 50_000 + "x", '"a" ' + " " * 100_000 + "x", '"a",' * 25_000 + "x", "W/" * 50_000):
        assert as_alice.get(path, headers={"If-Match": hostile}).status_code == 400


@pytest.mark.parametrize("headers", [{"If-Match": "*"}, {"If-Match": '"x"'}, {"If-None-Match": "*"}])
def test_not_yours_and_not_there_stay_the_same_404(
    as_bob: LoggedInClient, as_alice: LoggedInClient, alice: User, headers: dict[str, str]
) -> None:
    patient = make_patient(alice)
    tagged = headers if "*" in headers.values() else {"If-Match": as_alice.get(f"/api/patients/{patient.pk}/")["ETag"]}
    for method in ("get", "put", "patch", "delete"):
        answers = [
            getattr(as_bob, method)(
                f"/api/patients/{number}/", {"name": "X"} if method != "get" else None, headers=tagged
            )
            for number in (patient.pk, 2**40)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert {**answers[0].json(), "request_id": ""} == {**answers[1].json(), "request_id": ""}
        assert [answer.has_header("ETag") for answer in answers] == [False, False]


def test_the_etag_changes_with_the_age_on_the_birthday(
    as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def travel(day: str) -> None:
        monkeypatch.setattr(timezone, "localdate", lambda *_: datetime.date.fromisoformat(day))

    travel("2026-06-01")
    created = as_alice.post("/api/patients/", {"name": "X", "birth_date": "1990-06-03"})
    path, tag = f"/api/patients/{created.json()['id']}/", created["ETag"]
    travel("2026-06-02")
    assert as_alice.get(path, headers={"If-None-Match": tag}).status_code == 304
    travel("2026-06-03")
    answer = as_alice.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["age"], answer.json()["version"]) == (200, 36, 1)
    assert refused(as_alice.patch(path, {"name": "Y"}, headers={"If-Match": tag})) == STALE


def test_an_etag_costs_no_query(as_alice: LoggedInClient, alice: User) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"
    tag = as_alice.get(path)["ETag"]

    def queries(headers: dict[str, str]) -> int:
        with CaptureQueriesContext(connection) as captured:
            as_alice.patch(path, {}, headers=headers)
        return len(captured)

    assert queries({"If-Match": tag}) == queries({})


def test_the_record_is_locked_while_its_tag_is_compared(as_alice: LoggedInClient, alice: User, settings: Any) -> None:
    settings.DB_PREPARED_STATEMENTS = False  # the text of an executed statement is its name alone
    path = f"/api/patients/{make_patient(alice).pk}/"
    for mode, lock in (("off", "FOR NO KEY UPDATE"), ("on", "UPDATE")):  # an UPDATE locks, and compares the locked row
        settings.FAST_PATH = mode
        tag = as_alice.get(path)["ETag"]
        with CaptureQueriesContext(connection) as queries:
            assert as_alice.patch(path, {"name": mode}, headers={"If-Match": tag}).status_code == 200
        reads = [query["sql"] for query in queries if '"patients_patient"' in query["sql"]]
        assert lock in reads[0]
        assert mode == "off" or tag in reads[0]


def test_scripts_of_allowed_origins_may_send_and_read_etags(anonymous: APIClient, alice: User) -> None:
    path = f"/api/doctors/{make_doctor(alice).pk}/"
    origin = settings.CORS_ALLOWED_ORIGINS[0]
    asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    allowed = anonymous.options(path, headers=asked)["Access-Control-Allow-Headers"]
    assert {"if-match", "if-none-match", "authorization", "content-type"} <= set(allowed.split(", "))
    assert "ETag" in anonymous.get(path, headers={"Origin": origin})["Access-Control-Expose-Headers"].split(", ")


@pytest.mark.parametrize(
    ("method", "operation", "sent", "answers"),
    [
        ("GET", {"200": "object"}, ["If-Match", "If-None-Match"], ["200", "304", "400", "412"]),
        ("PATCH", {"200": "object"}, ["If-Match"], ["200", "400", "412"]),
        ("DELETE", {"204": ""}, ["If-Match"], ["204", "400", "412"]),
        ("POST", {"201": "object"}, [], ["201"]),
        ("GET", {"200": "array"}, [], ["200"]),
    ],
)
def test_the_description_of_an_operation_names_the_headers_and_statuses(
    method: str, operation: dict[str, str], sent: list[str], answers: list[str]
) -> None:
    contents = {
        code: {"content": {"application/json": {"schema": {"type": kind}}}} if kind else {}
        for code, kind in operation.items()
    }
    described: dict[str, Any] = {"responses": contents, "parameters": []}
    describe_conditional_requests(described, method, lambda status: {"description": str(status)})
    assert [parameter["name"] for parameter in described["parameters"]] == sent
    assert sorted(described["responses"]) == answers
    tagged = [code for code, answer in described["responses"].items() if "ETag" in answer.get("headers", {})]
    assert tagged == [
        code for code in described["responses"] if code in {"200", "201", "304"} and "array" not in str(operation)
    ]
