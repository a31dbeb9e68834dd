"""The notes of an assignment: plain text of several lines."""

from typing import Any

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient
from patients.tests.merging import merge, unmerge

NOTES = 'Weekly visits\n\tcalls first, "please" é'


@pytest.mark.parametrize("mode", ["on", "off"])
def test_notes_are_stored_changed_and_answered(as_alice: LoggedInClient, alice: User, settings: Any, mode: str) -> None:
    settings.FAST_PATH = mode
    body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    created = as_alice.post("/api/mappings/", {**body, "notes": NOTES.replace("\n", "\r\n")})
    assert (created.status_code, created.json()["notes"]) == (201, NOTES)
    assert as_alice.get("/api/mappings/").json() == [created.json()]
    assert as_alice.get("/api/mappings/?fields=notes").json() == [{"notes": NOTES}]
    path = f"/api/mappings/{created.json()['id']}/"
    assert as_alice.patch(path, {"notes": ""}).json()["notes"] == ""
    history = as_alice.get(f"{path}history/").json()
    assert [row["changes"].get("notes") for row in history] == [[NOTES, ""], [None, NOTES]]
    assert as_alice.get("/api/mappings/", {"as_of": history[1]["at"]}).json()[0]["notes"] == NOTES


@pytest.mark.parametrize("bad", ["x" * 20_001, "a\x07b", 1, ["x"]])
def test_notes_are_plain_text(as_alice: LoggedInClient, alice: User, bad: Any) -> None:
    body = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk, "notes": bad}
    refused = as_alice.post("/api/mappings/", body)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/notes")


def test_notes_move_with_the_assignment_in_a_merge(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice)
    mapping = make_mapping(duplicate, make_doctor(alice), notes=NOTES)
    merge(as_alice, survivor, duplicate)
    mapping.refresh_from_db()
    assert (mapping.patient_id, mapping.notes) == (survivor.pk, NOTES)
    unmerge(as_alice, survivor, duplicate)
    mapping.refresh_from_db()
    assert (mapping.patient_id, mapping.notes) == (duplicate.pk, NOTES)


def test_search_does_not_look_into_notes(as_alice: LoggedInClient, alice: User) -> None:
    make_mapping(make_patient(alice), make_doctor(alice), notes="Zebulon")
    assert as_alice.get("/api/patients/?search=Zebulon").json() == []


def test_staff_edit_notes_in_the_admin(staff: User, alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    client = AdminClient(staff)
    assert client.submit(f"/admin/mappings/mapping/{mapping.pk}/change/", notes="a\r\nb").status_code == 302
    assert Mapping.objects.get().notes == "a\nb"
