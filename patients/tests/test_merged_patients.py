"""A merged patient answers 410 with a link to the survivor."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

CALLS = [
    ("get", "/api/patients/{}/"),
    ("head", "/api/patients/{}/"),
    ("put", "/api/patients/{}/"),
    ("patch", "/api/patients/{}/"),
    ("delete", "/api/patients/{}/"),
    ("post", "/api/patients/{}/restore/"),
    ("post", "/api/patients/{}/merge/"),
    ("post", "/api/patients/{}/unmerge/"),
    ("get", "/api/patients/{}/access-log/"),
    ("get", "/api/patients/{}/duplicates/"),
    ("get", "/api/patients/{}/doctors/"),
    ("get", "/api/mappings/{}/"),
]


@pytest.fixture
def chain(alice: User, as_alice: LoggedInClient) -> list[Patient]:
    """Three records of one person, each merged into the next one."""
    patients = [make_patient(alice, name=name) for name in ("First", "Second", "Third")]
    for duplicate, survivor in zip(patients, patients[1:], strict=False):
        answer = as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
        assert answer.status_code == 200
    return patients


def call(client: LoggedInClient, method: str, path: str, number: int) -> Any:
    body = {"name": "X", "duplicate": 1} if method not in {"get", "head"} else None
    return getattr(client, method)(path.format(number), body)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_merged_patients_id_is_410_with_a_link_to_the_last_survivor(
    as_alice: LoggedInClient, chain: list[Patient], method: str, path: str
) -> None:
    *merged, survivor = chain
    for patient in merged:
        answer = call(as_alice, method, path, patient.pk)
        assert (answer.status_code, answer["Content-Type"]) == (410, "application/problem+json")
        assert answer["Link"] == f'</api/patients/{survivor.pk}/>; rel="successor-version"'
        if method != "head":
            assert answer.json() == {
                "type": "about:blank",
                "title": "Gone",
                "status": 410,
                "detail": "Another record has replaced this one; use the path in the Link header.",
                "request_id": answer["X-Request-Id"],
            }


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("get", "/api/patients/{}/history/")])
def test_a_merged_patient_of_another_user_is_404(
    as_bob: LoggedInClient, chain: list[Patient], method: str, path: str
) -> None:
    answers = [call(as_bob, method, path, number) for number in (chain[0].pk, chain[2].pk, 2**40, 2**70)]
    assert [answer.status_code for answer in answers] == [404] * 4
    seen = {
        answer.content.replace(answer["X-Request-Id"].encode(), b"")
        + str(sorted((name, value) for name, value in answer.items() if name != "X-Request-Id")).encode()
        for answer in answers
    }
    assert len(seen) == 1


def test_only_routes_with_a_patients_id_answer_410(as_alice: LoggedInClient, chain: list[Patient], alice: User) -> None:
    number = chain[0].pk
    for method in ("patch", "delete"):
        assert getattr(as_alice, method)(f"/api/mappings/{number}/", {}).status_code == 404
    assert as_alice.get(f"/api/patients/{number}/history/").status_code == 200
    body = {"patient": number, "doctor": make_doctor(alice).pk}
    answer = as_alice.post("/api/mappings/", body)
    assert [error["code"] for error in answer.json()["errors"]] == ["does_not_exist"]


def test_a_merged_patient_is_not_listed_as_deleted(as_alice: LoggedInClient, chain: list[Patient]) -> None:
    as_alice.delete(f"/api/patients/{chain[2].pk}/")
    assert [row["id"] for row in as_alice.get("/api/patients/?deleted=true").json()] == [chain[2].pk]
    assert as_alice.get(f"/api/patients/{chain[0].pk}/").status_code == 410
    assert as_alice.get(f"/api/patients/{chain[2].pk}/").status_code == 404
    assert as_alice.post(f"/api/patients/{chain[2].pk}/restore/").status_code == 200


def test_a_chain_of_merges_is_undone_one_by_one(as_alice: LoggedInClient, chain: list[Patient]) -> None:
    first, second, third = chain

    def unmerge(survivor: Patient, duplicate: Patient) -> int:
        return as_alice.post(f"/api/patients/{survivor.pk}/unmerge/", {"duplicate": duplicate.pk}).status_code

    assert [unmerge(third, first), unmerge(second, first)] == [400, 410]
    assert [unmerge(third, second), unmerge(second, first)] == [200, 200]
    assert [row["name"] for row in as_alice.get("/api/patients/").json()] == ["Third", "Second", "First"]


def test_assignments_follow_a_chain_of_merges_and_its_undoing(as_alice: LoggedInClient, alice: User) -> None:
    doctor, patients = make_doctor(alice), [make_patient(alice) for _ in range(3)]
    mappings = [make_mapping(patient, doctor, is_primary=True) for patient in patients]
    pairs = [(patients[1], patients[0]), (patients[2], patients[1])]
    before = as_alice.get("/api/mappings/").json()
    for survivor, duplicate in pairs:
        as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
    assert [row["id"] for row in as_alice.get("/api/mappings/").json()] == [mappings[2].pk]
    past = as_alice.get("/api/mappings/?active=false").json()
    assert [(row["id"], row["patient"]) for row in past] == [(m.pk, patients[2].pk) for m in mappings[1::-1]]
    for survivor, duplicate in pairs[::-1]:
        as_alice.post(f"/api/patients/{survivor.pk}/unmerge/", {"duplicate": duplicate.pk})
    stamps = {"version", "updated_at"}
    after = [{name: value for name, value in row.items() if name not in stamps} for row in
             as_alice.get("/api/mappings/").json()]  # fmt: skip
    assert after == [{name: value for name, value in row.items() if name not in stamps} for row in before]


@pytest.mark.parametrize("length", [2, 20])
def test_the_query_count_of_a_410_does_not_grow_with_the_chain(
    as_alice: LoggedInClient, alice: User, length: int, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    patients = [make_patient(alice) for _ in range(length)]
    for duplicate, survivor in zip(patients, patients[1:], strict=False):
        as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
    named = ["that the patient was replaced", "session and user of the token", "the patient", "the chain"]
    with CaptureQueriesContext(connection) as queries:
        assert as_alice.get(f"/api/patients/{patients[0].pk}/").status_code == 410
    found = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))]
    assert len(found) == len(named), found


@pytest.mark.parametrize("rows", [2, 40])
def test_the_query_count_of_a_merge_does_not_grow_with_the_assignments(
    as_alice: LoggedInClient, alice: User, rows: int
) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice, phone="1")
    for _ in range(rows):
        doctor = make_doctor(alice)
        make_mapping(survivor, doctor)
        make_mapping(duplicate, doctor)
    both = ["session and user of the token", "both patients, locked"]
    end = ["the survivor", "the duplicate", "the survivor as it is now"]
    costs = {
        "merge": [*both, "their assignments, locked", "the duplicate's moved", *end, "the merge", "the access log"],
        "unmerge": [
            *both,
            "the merge",
            "its assignments, locked",
            "moved back",
            "later merges, whose fields stay",
            "later merges, to pass on what was replaced",
            *end,
            "the merge",
            "the access log",
        ],
    }
    for verb, named in costs.items():
        with CaptureQueriesContext(connection) as queries:
            answer = as_alice.post(f"/api/patients/{survivor.pk}/{verb}/", {"duplicate": duplicate.pk})
        assert answer.status_code == 200
        found = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
        assert len(found) == len(named), found


def test_the_admin_displays_only_the_survivors_id(staff: User, chain: list[Patient]) -> None:
    page = AdminClient(staff).page(f"/admin/patients/patient/{chain[0].pk}/change/")
    displayed = re.search(r"Merged into:.*?readonly\">(\d+)<", page, re.DOTALL)
    assert displayed is not None
    assert (int(displayed[1]), "Second" in re.sub("Second (phone|factor)", "", page)) == (chain[1].pk, False)
