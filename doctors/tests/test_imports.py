"""POST /api/doctors/import/: the directory is of all. Alice has added the doctor, bob has not."""

from typing import Any

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor


def send(client: Any, body: str, query: str = "") -> Any:
    return client.generic("POST", f"/api/doctors/import/{query}", body, content_type="text/csv")


def statuses(answer: Any) -> list[tuple[str, int | None]]:
    assert answer.status_code == 200, answer.content
    return [(one["status"], one["id"]) for one in answer.json()["results"]]


def test_doctors_are_created_and_found_again_by_their_license(as_alice: LoggedInClient, alice: User) -> None:
    body = "name,license_number,experience_years\nDr. Rao,KMC-1,7\nDr. Iyer,,\n"
    first = send(as_alice, body, "?mode=apply")
    rao, iyer = Doctor.objects.order_by("id")
    assert statuses(first) == [("created", rao.pk), ("created", iyer.pk)]
    assert (rao.created_by, rao.experience_years, rao.license_number) == (alice, 7, "KMC-1")
    again = send(as_alice, "name,license_number\nDr. M. Rao,kmc-1\n", "?mode=apply&on_match=update")
    assert statuses(again) == [("updated", rao.pk)]
    rao.refresh_from_db()
    assert (rao.name, rao.license_number, rao.version) == ("Dr. M. Rao", "kmc-1", 2)
    assert [one["name"] for one in as_alice.get("/api/doctors/?search=rao").json()] == ["Dr. M. Rao"]


def test_an_equal_license_is_likely_the_same_without_a_match(as_alice: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice, license_number="KMC-1")
    answer = send(as_alice, "name,license_number\nA,kmc-1\nB,KMC-2\nC,KMC-2\nD,\nE,\n", "?match=none")
    assert [one["likely"] for one in answer.json()["results"]] == [[{"id": doctor.pk}], [], [{"line": 3}], [], []]


@pytest.mark.parametrize("match", ["identifier", "none"])
def test_licenses_that_the_database_tells_apart_are_of_two_doctors(as_alice: LoggedInClient, match: str) -> None:
    body = "name,license_number\nDr. Groß,ß1\nDr. Rao,SS1\nDr. Iyer,ss1\n"
    answer = send(as_alice, body, f"?match={match}").json()["results"]
    assert [(one["status"], one["likely"]) for one in answer] == [
        ("created", []),
        ("created", []),
        ("likely", [{"line": 3}]),
    ]


@pytest.mark.parametrize(("match", "status"), [("identifier", "skipped"), ("none", "likely")])
def test_what_nobody_sees_in_a_license_does_not_count(
    as_alice: LoggedInClient, alice: User, match: str, status: str
) -> None:
    make_doctor(alice, license_number="KMC-1")
    body = "name,license_number\nA,KMC\u200b-1\nB,KMC-2\nC,\ufeffKMC-2\u00ad \n"
    answer = send(as_alice, body, f"?match={match}")
    assert [one["status"] for one in answer.json()["results"]] == [status, "created", "likely"]


def test_a_license_of_two_doctors_is_ambiguous(as_alice: LoggedInClient, alice: User) -> None:
    both = [make_doctor(alice, license_number="KMC-1").pk for _ in range(2)]
    result = send(as_alice, "name,license_number\nA,KMC-1\n").json()["results"][0]
    assert ([one["code"] for one in result["errors"]], result["likely"]) == (
        ["ambiguous"],
        [{"id": key} for key in both],
    )


def test_a_deleted_doctor_is_not_found(as_alice: LoggedInClient, alice: User) -> None:
    Doctor.objects.filter(pk=make_doctor(alice, license_number="KMC-1").pk).end()
    assert statuses(send(as_alice, "name,license_number\nA,KMC-1\n")) == [("created", None)]


@pytest.mark.parametrize(("editors", "status"), [("anyone", "updated"), ("creator", "failed")])
def test_directory_editors_say_who_updates_the_doctors_of_others(
    as_bob: LoggedInClient, as_staff: LoggedInClient, alice: User, settings: Any, editors: str, status: str
) -> None:
    settings.DIRECTORY_EDITORS = editors
    make_doctor(alice, license_number="KMC-1")
    answer = send(as_bob, "name,license_number\nA,KMC-1\n", "?on_match=update&partial=true")
    assert [one for one, _ in statuses(answer)] == [status]
    codes = [error["code"] for one in answer.json()["results"] for error in one["errors"]]
    assert codes == ([] if status == "updated" else ["permission_denied"])
    assert statuses(send(as_staff, "name,license_number\nA,KMC-1\n", "?on_match=update"))[0][0] == "updated"


def test_only_staff_imports_doctors_where_only_staff_writes_them(as_bob: LoggedInClient, settings: Any) -> None:
    settings.DIRECTORY_EDITORS = "staff"
    assert send(as_bob, "name\nA\n").status_code == 403
