"""Keyset pagination: alice pages through a long list in both directions by its Link headers (RFC 8288)."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from patients.models import Patient
from patients.tests.factories import make_patient

LINK = re.compile(r'<(?P<target>[^<>\s"]+)>; rel="(?P<relation>[a-z]+)"')


def links(answer: Any) -> dict[str, str]:
    """The targets by their relation; fails on a header that is not a list of link-values of RFC 8288 section 3."""
    header = answer.headers.get("Link", "")
    assert not header or re.fullmatch(f"{LINK.pattern}(, {LINK.pattern.replace('?P<', '?P<second_')})?", header)
    return {match["relation"]: match["target"] for match in LINK.finditer(header)}


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200
    return [row["id"] for row in answer.json()]


@pytest.fixture
def patients(alice: User) -> list[int]:
    """The ids of 250 patients of alice, newest first."""
    made = Patient.objects.bulk_create(Patient(created_by=alice, name=f"P{number}") for number in range(250))
    return sorted((patient.pk for patient in made), reverse=True)


@pytest.mark.parametrize("limit", [1, 7, 50, 125, 249, 250])
def test_pages_return_every_row_once_in_both_directions(
    as_alice: LoggedInClient, patients: list[int], limit: int
) -> None:
    shown = patients[:60] if limit == 1 else patients
    answer, forth = as_alice.get(f"/api/patients/?limit={limit}"), []
    while True:
        forth.append(ids(answer))
        if "next" not in links(answer) or len(forth) * limit >= len(shown):
            break
        answer = as_alice.get(links(answer)["next"])
    assert sum(forth, []) == shown
    back = [forth[-1]]
    while "prev" in links(answer):
        answer = as_alice.get(links(answer)["prev"])
        back.insert(0, ids(answer))
    assert back == forth


def test_the_first_page_links_next_only_and_the_last_prev_only(as_alice: LoggedInClient, patients: list[int]) -> None:
    first = as_alice.get("/api/patients/?limit=200")
    last = as_alice.get(links(first)["next"])
    assert ([*links(first)], [*links(last)]) == (["next"], ["prev"])
    assert [*links(as_alice.get(links(last)["prev"]))] == ["next"]


def test_a_list_that_fits_one_page_has_no_link(as_alice: LoggedInClient, patients: list[int]) -> None:
    answer = as_alice.get("/api/patients/?limit=250")
    assert (ids(answer), "Link" in answer.headers) == (patients, False)
    assert "Link" not in as_alice.get("/api/mappings/").headers


def test_inserts_and_deletes_between_pages_repeat_and_skip_nothing(
    as_alice: LoggedInClient, alice: User, patients: list[int]
) -> None:
    first = as_alice.get("/api/patients/?limit=100")
    new = make_patient(alice).pk
    gone = [patients[0], patients[99], patients[100], patients[150]]  # the borders of the pages too
    Patient.objects.filter(pk__in=gone).end()
    second = as_alice.get(links(first)["next"])
    third = as_alice.get(links(second)["next"])
    left = [patient for patient in patients if patient not in gone]
    assert ids(first) == patients[:100]
    assert ids(second) + ids(third) == left[98:]
    back = as_alice.get(links(second)["prev"])
    assert ids(back) == [new, *left[:98]]


def test_without_a_limit_a_page_has_100_rows_and_500_is_the_most(as_alice: LoggedInClient, patients: list[int]) -> None:
    assert ids(as_alice.get("/api/patients/")) == patients[:100]
    assert ids(as_alice.get("/api/patients/?limit=500")) == patients
    assert as_alice.get("/api/patients/?limit=501").status_code == 400


@pytest.mark.parametrize("value", ["0", "-1", "501", "1e3", "", "abc", "5.0", "\u0665"])
def test_a_limit_out_of_bounds_is_a_400(as_alice: LoggedInClient, value: str) -> None:
    answer = as_alice.get("/api/patients/", {"limit": value})
    assert (answer.status_code, answer.json()["errors"]) == (
        400,
        [{"pointer": "/limit", "code": "invalid", "detail": "Enter a whole number from 1 to 500."}],
    )


@pytest.mark.parametrize("value", ["", "garbage", "PA", "PDE=PDE", "é", "\0", "PC0x", "A" * 3000])
def test_an_invalid_cursor_is_a_400(as_alice: LoggedInClient, value: str) -> None:
    answer = as_alice.get("/api/patients/", {"cursor": value})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/cursor"]


@pytest.mark.parametrize("fast_path", ["on", "off"])
@pytest.mark.parametrize("moment", [5, "2026-01-01T00:00:00", "2026-01-01", "", "infinity", "2026-02-30T00:00:00Z"])
def test_a_cursor_with_another_kind_of_time_is_a_400(
    as_alice: LoggedInClient, settings: Any, fast_path: str, moment: Any
) -> None:
    settings.FAST_PATH = fast_path
    cursor = base64.urlsafe_b64encode(json.dumps([False, moment, 3]).encode()).decode().rstrip("=")
    answer = as_alice.get("/api/patients/", {"ordering": "updated_at", "cursor": cursor})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/cursor"]


def test_the_total_is_counted_on_request_only(as_alice: LoggedInClient, patients: list[int], bob: User) -> None:
    make_patient(bob)
    assert as_alice.get("/api/patients/?count=true&limit=3").headers["X-Total-Count"] == "250"
    assert "X-Total-Count" not in as_alice.get("/api/patients/?count=false").headers
    assert "X-Total-Count" not in as_alice.get("/api/patients/").headers
    answer = as_alice.get("/api/patients/?count=banana")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/count")


def test_a_link_keeps_every_other_parameter(as_alice: LoggedInClient, patients: list[int]) -> None:
    text = 'P, rel="next" <x> é&c'
    Patient.objects.update(identifier=text)
    sent = {"limit": "2", "count": "true", "identifier": text, "fields": "id,name"}
    target = urlsplit(links(as_alice.get("/api/patients/", sent))["next"])
    assert (target.scheme, target.netloc, target.path) == ("http", "testserver", "/api/patients/")
    parameters = parse_qs(target.query)
    assert parameters.pop("cursor")
    assert parameters == {name: [value] for name, value in sent.items()}
    further = urlsplit(links(as_alice.get(target.geturl()))["next"])
    assert len(parse_qs(further.query)["cursor"]) == 1


def test_a_cursor_of_another_user_lists_only_the_callers_rows(
    as_alice: LoggedInClient, as_bob: LoggedInClient, bob: User
) -> None:
    for number in range(3):
        make_patient(bob, name=f"B{number}")
    target = links(as_bob.get("/api/patients/?limit=1"))["next"]
    assert ids(as_alice.get(target)) == []


def test_doctors_and_the_doctors_of_a_patient_are_paged_too(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    doctors = [make_doctor(alice).pk for _ in range(3)]
    for doctor in doctors:
        as_alice.post("/api/mappings/", {"patient": patient.pk, "doctor": doctor})
    for path in ("/api/doctors/", f"/api/mappings/{patient.pk}/", f"/api/patients/{patient.pk}/doctors/"):
        first = as_alice.get(f"{path}?limit=2")
        assert ids(first) + ids(as_alice.get(links(first)["next"])) == doctors[::-1]
