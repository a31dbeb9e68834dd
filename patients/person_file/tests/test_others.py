"""The file of a person says nothing about anybody else."""

import io
import json
import re
from typing import Any

import pytest
from django.core.management import call_command

from accounts.models import User
from audit.models import AccessLog, Basis, Seal
from audit.seals import row_code
from audit.tables import Table
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.person_file.contents import OTHERS_VALUES
from patients.person_file.parts import ANOTHER
from patients.person_file.tests.reading import read_file
from patients.tests.factories import make_patient
from patients.tests.merging import merge, unmerge

pytestmark = pytest.mark.django_db
KEY = "k" * 32
OTHER_ID = 777_777


@pytest.fixture
def ana(alice: User) -> Patient:
    return make_patient(alice, name="Ana Rao", address="Mysuru")


@pytest.fixture
def eve(alice: User) -> Patient:
    """Somebody else, whose id and values are in no other text of these tests."""
    return make_patient(alice, id=OTHER_ID, name="Eve Xu", phone="+91 80 7654 3210", medical_history="Quokka fever")


def names_eve(document: dict[str, Any]) -> list[str]:
    # Digits as words of their own: the codes of seals hold any.
    return re.findall(rf"\b{OTHER_ID}\b|Eve|7654 ?3210|Quokka", json.dumps(document))


def test_the_values_of_a_record_that_was_merged_by_mistake_are_in_neither_history(
    as_alice: LoggedInClient, ana: Patient, eve: Patient
):
    doctor = make_doctor(ana.created_by)
    mapping = make_mapping(eve, doctor, notes="Quokka bite")
    as_alice.patch(f"/api/patients/{ana.pk}/", {"address": "Hubballi"})
    assert merge(as_alice, ana, eve).status_code == 200
    as_alice.patch(f"/api/patients/{ana.pk}/", {"language": "kn"})
    assert Mapping.objects.get(pk=mapping.pk).patient_id == ana.pk
    assert unmerge(as_alice, ana, eve).status_code == 200
    as_alice.patch(f"/api/patients/{ana.pk}/", {"language": "hi"})
    document = read_file(as_alice, ana)
    assert names_eve(document) == []
    shown = [(change["changes"], change["left_out"]) for change in document["history"]["changes"]]
    hidden = (None, OTHERS_VALUES)
    assert shown[:5] == [
        ({"language": ["kn", "hi"]}, None), hidden, hidden, hidden, ({"address": ["Mysuru", "Hubballi"]}, None),
    ]  # fmt: skip
    assert [(row["kept"], row["merged"], row["filled"]) for row in document["history"]["merges"]] == [
        (ana.pk, ANOTHER, {})
    ]
    assert document["care_team"] == {"assignments": [], "changes": [], "admin_log": [], "imports": []}
    of_eve = read_file(as_alice, eve)
    assert str(ana.pk) not in re.findall(r"\d+", json.dumps(of_eve["history"]["merges"]))
    merged, split = [
        change["changes"]["merged_into"]
        for change in reversed(of_eve["history"]["changes"])
        if "merged_into" in change["changes"]
    ]
    assert (merged, split) == ([None, ANOTHER], [ANOTHER, None])
    moves = [change["changes"]["patient"] for change in of_eve["care_team"]["changes"] if change["action"] == "update"]
    assert moves == [[ANOTHER, OTHER_ID], [OTHER_ID, ANOTHER]]


def test_an_access_to_several_patients_names_the_own_records_alone(
    as_alice: LoggedInClient, alice: User, ana: Patient, eve: Patient
):
    AccessLog.objects.record(
        alice.pk, "patient.list", [ana.pk, eve.pk], basis=Basis.OWNER, request_id="r", outcome=200, pure_read=True
    )
    document = read_file(as_alice, ana)
    assert [access["records"] for access in document["accesses"]["accesses"]] == [[ana.pk]]
    assert names_eve(document) == []


def test_a_request_for_the_id_before_there_was_a_patient_is_no_access(as_alice: LoggedInClient, alice: User):
    AccessLog.objects.record(
        alice.pk, "patient.retrieve", [OTHER_ID], basis=Basis.OWNER, request_id="r", outcome=404, pure_read=True
    )
    assert read_file(as_alice, make_patient(alice, id=OTHER_ID))["accesses"]["accesses"] == []


def test_the_ids_of_users_are_in_no_file(as_alice: LoggedInClient, alice: User, staff: User, ana: Patient):
    User.objects.filter(pk=staff.pk).update(name="Zebulon")
    AccessLog.objects.record(
        staff.pk, "admin.patient.change", [ana.pk], basis=Basis.STAFF, request_id="chosen", outcome=200, pure_read=True
    )
    Patient.objects.filter(pk=ana.pk).update(created_by=alice)
    document = read_file(as_alice, ana)
    assert document["accesses"]["accesses"][0].keys() == {"row", "records", "at", "action", "by", "outcome"}
    assert "created_by" not in json.dumps(document)
    assert "Zebulon" not in json.dumps(document)


def test_the_seals_have_the_code_of_each_own_row_and_no_other_row(
    as_alice: LoggedInClient, ana: Patient, eve: Patient, settings: Any
):
    settings.AUDIT_SEAL_KEY = KEY
    as_alice.get(f"/api/patients/{ana.pk}/")
    as_alice.get(f"/api/patients/{eve.pk}/")
    call_command("seal_audit", stdout=io.StringIO(), stderr=io.StringIO())
    as_alice.get(f"/api/patients/{ana.pk}/")
    document = read_file(as_alice, ana)
    rows = document["seals"]["rows"]
    events = [(PatientEvent._meta.db_table, event.pgh_id) for event in PatientEvent.objects.filter(id=ana.pk)]
    accesses = AccessLog.objects.filter(patient_ids__contains=[ana.pk], action="patient.retrieve").order_by("id")
    sealed, unsealed = [("audit_accesslog", access.pk) for access in accesses]
    assert {(row["table"], row["row"]) for row in rows} == {*events, sealed, unsealed}
    assert [(row["table"], row["row"]) for row in rows if row["seal"] is None] == [unsealed]
    seals = {seal["seal"]: seal for seal in document["seals"]["seals"]}
    for row in rows:
        if row["seal"] is not None:
            model = PatientEvent if row["table"] == PatientEvent._meta.db_table else AccessLog
            table = Table.of(model)
            (stored,) = table.rows(row["row"] - 1, row["row"], table.columns)
            assert row["code"] == row_code(KEY.encode(), table.name, stored).hex()
            assert seals[row["seal"]]["code"] == Seal.objects.get(pk=row["seal"]).code
    assert seals.keys() == {row["seal"] for row in rows} - {None}
    assert names_eve(document) == []


def test_a_patient_who_was_handed_over_shows_no_former_owner(as_bob: LoggedInClient, bob: User, ana: Patient):
    Patient.objects.filter(pk=ana.pk).update(created_by=bob)
    document = read_file(as_bob, ana)
    newest = document["history"]["changes"][0]
    assert (newest["changes"], newest["new_owner"]) == ({}, True)
    assert [change["by"] for change in document["history"]["changes"]] == ["command", "command"]
