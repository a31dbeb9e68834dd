"""/api/imports/ lists imports, and undoes them."""

from typing import Any

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import
from healthcare.imports.tests.factories import make_import
from healthcare.imports.undo import undo as undo_import
from healthcare.tests.waiting import Waiting, call_in_thread
from mappings.models import Mapping
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.legal_hold import set_hold
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db
COUNTED = ["created", "updated", "unchanged", "skipped", "likely", "failed"]


def created(*records: Any) -> list[dict[str, Any]]:
    return [{"record_id": record.pk} for record in records]


def undo(client: APIClient, record: Import) -> Any:
    answer = client.post(f"/api/imports/{record.pk}/undo/")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_an_import_is_read_with_a_page_of_its_lines(as_alice: LoggedInClient, alice: User) -> None:
    failed = {"status": "failed", "errors": [{"pointer": "/name", "code": "blank", "detail": "Required."}]}
    patient, likely = make_patient(alice).pk, make_patient(alice).pk
    held: dict[str, Any] = {"status": "likely", "likely": [{"id": likely}, {"line": 2}], "server": "s", "old_id": 4}
    record = make_import(alice, "patients", {"record_id": patient}, failed, held)
    Import.objects.update(parameters={"match": "none"}, summary={"created": 1, "likely": 1, "failed": 1})
    path = f"/api/imports/{record.pk}/"
    first = as_alice.get(path, {"limit": 2})
    [listed] = as_alice.get("/api/imports/").json()
    assert listed == {
        "id": record.pk, "kind": "patients", "created_at": listed["created_at"], "created_by": alice.pk,
        "caller": alice.pk, "parameters": {"match": "none"}, "undone_at": None,
        "summary": dict.fromkeys(COUNTED, 0) | {"created": 1, "likely": 1, "failed": 1},
    }  # fmt: skip
    created_line, failed_line = first.json()["results"]
    assert first.json() == listed | {"results": [created_line, failed_line]}
    assert created_line == {"line": 2, "status": "created", "id": patient, "errors": [], "likely": []}
    assert failed_line == {"line": 3, "status": "failed", "id": None, "errors": failed["errors"], "likely": []}
    rest = as_alice.get(first["Link"].split(">")[0][1:])
    assert rest.json()["results"] == [
        {"line": 4, "status": "likely", "id": None, "errors": [], "likely": held["likely"]}
    ]
    read = AccessLog.objects.filter(action="import.retrieve").order_by("id").values_list("patient_ids", "actor")
    assert list(read) == [([patient], alice.pk), ([likely], alice.pk)]


def test_imports_are_listed_with_the_newest_first_and_paged(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    keys = [make_import(owner, "doctors").pk for owner in (alice, bob, alice, alice)]
    first = as_alice.get("/api/imports/", {"limit": "2", "count": "true"})
    assert ([row["id"] for row in first.json()], first["X-Total-Count"]) == ([keys[3], keys[2]], "3")
    second = as_alice.get(first["Link"].split(">")[0][1:])
    assert [row["id"] for row in second.json()] == [keys[0]]


def test_an_undone_import_has_deleted_the_patients_that_it_created(as_alice: LoggedInClient, alice: User) -> None:
    patients = [make_patient(alice) for _ in range(3)]
    updated = make_patient(alice)
    lines = [*created(*patients), {"record_id": updated.pk, "status": "updated"}, {"status": "failed", "version": None}]
    record = make_import(alice, "patients", *lines)
    keys = [patient.pk for patient in patients]
    assert undo(as_alice, record) == {"deleted": keys, "left": [], "updated": [updated.pk]}
    assert [row["id"] for row in as_alice.get("/api/patients/").json()] == [updated.pk]
    assert as_alice.get(f"/api/imports/{record.pk}/").json()["undone_at"] is not None
    log = AccessLog.objects.get(action="import.undo")
    assert (log.patient_ids, log.actor, log.basis, log.outcome) == ([*keys, updated.pk], alice.pk, "owner", 200)
    assert as_alice.post(f"/api/patients/{keys[0]}/restore/").status_code == 200
    history = as_alice.get(f"/api/patients/{keys[0]}/history/").json()
    assert [event["action"] for event in history] == ["restore", "delete", "create"]


def test_the_second_time_is_refused_and_deletes_nothing(as_alice: LoggedInClient, alice: User) -> None:
    record = make_import(alice, "patients", *created(make_patient(alice)))
    undo(as_alice, record)
    Patient.objects.restore()
    again = as_alice.post(f"/api/imports/{record.pk}/undo/")
    assert (again.status_code, again.json()["code"]) == (409, "already_undone")
    assert Patient.objects.active().count() == 1


def test_what_was_changed_assigned_merged_held_or_given_away_since_is_left(
    as_alice: LoggedInClient, alice: User, bob: User
) -> None:
    changed, assigned, survivor, duplicate, held, given, deleted, unused = (make_patient(alice) for _ in range(8))
    record = make_import(
        alice, "patients", *created(changed, assigned, survivor, duplicate, held, given, deleted, unused)
    )
    make_mapping(assigned, make_doctor(alice))
    make_past_mapping(unused, make_doctor(alice))
    calls = [
        as_alice.patch(f"/api/patients/{changed.pk}/", {"address": "Pune"}),
        as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk}),
        as_alice.delete(f"/api/patients/{deleted.pk}/"),
    ]
    assert [answer.status_code for answer in calls] == [200, 200, 204]
    set_hold(held.pk, reason="asked for")
    Patient.objects.filter(pk=given.pk).update(created_by=bob)
    left = [patient.pk for patient in (changed, assigned, survivor, duplicate, held, given, deleted)]
    assert undo(as_alice, record) == {"deleted": [unused.pk], "left": left, "updated": []}
    active = {changed.pk, assigned.pk, survivor.pk, held.pk, given.pk}
    assert {*Patient.objects.active().values_list("pk", flat=True)} == active


def test_a_record_that_the_same_import_created_and_changed_is_deleted(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    Patient.objects.filter(pk=patient.pk).update(address="Pune")
    record = make_import(
        alice, "patients", *created(patient), {"record_id": patient.pk, "status": "updated", "version": 2}
    )
    assert undo(as_alice, record) == {"deleted": [patient.pk], "left": [], "updated": []}


def test_assignments_end_and_past_ones_are_left(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    mapping = make_mapping(patient, make_doctor(alice))
    past = make_past_mapping(patient, make_doctor(alice))
    record = make_import(alice, "mappings", *created(mapping, past))
    assert undo(as_alice, record) == {"deleted": [mapping.pk], "left": [past.pk], "updated": []}
    assert not Mapping.objects.active().exists()
    assert AccessLog.objects.get(action="import.undo").patient_ids == [patient.pk]


def test_doctors_who_treat_somebody_are_left(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    doctors = [make_doctor(alice) for _ in range(4)]
    make_mapping(make_patient(alice), doctors[0])
    make_mapping(make_patient(bob), doctors[2])
    record = make_import(alice, "doctors", *created(*doctors))
    keys = [doctor.pk for doctor in doctors]
    assert undo(as_alice, record) == {"deleted": [keys[1], keys[3]], "left": [keys[0], keys[2]], "updated": []}
    assert {*Doctor.objects.active().values_list("pk", flat=True)} == {keys[0], keys[2]}


def test_only_who_may_delete_doctors_undoes_an_import_of_them(
    as_alice: LoggedInClient, alice: User, settings: Any
) -> None:
    record = make_import(alice, "doctors", *created(make_doctor(alice)))
    settings.DIRECTORY_EDITORS = "staff"
    assert as_alice.post(f"/api/imports/{record.pk}/undo/").status_code == 403
    assert Doctor.objects.active().count() == 1
    settings.DIRECTORY_EDITORS = "creator"
    assert as_alice.post(f"/api/imports/{record.pk}/undo/").status_code == 200


def test_a_stored_answer_is_repeated(as_alice: LoggedInClient, alice: User) -> None:
    record = make_import(alice, "patients", *created(make_patient(alice)))
    answers = [as_alice.post(f"/api/imports/{record.pk}/undo/", headers={"Idempotency-Key": "1"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert (answers[1].status_code, answers[1]["Idempotency-Replayed"]) == (200, "true")


def test_a_manager_undoes_imports_of_the_owner_and_the_owners_alone(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    delegation = Delegation.objects.create(owner=alice, delegate=bob, role="write")
    record = make_import(alice, "patients", *created(make_patient(alice)))
    path = f"/api/imports/{record.pk}/undo/"
    assert as_bob.post(path).status_code == 404
    acting = {"X-Acting-For": "alice"}
    assert as_bob.post(path, headers=acting).json()["code"] == "role_too_low"
    Delegation.objects.filter(pk=delegation.pk).update(role="manage")
    assert as_bob.post(path, headers=acting).status_code == 200
    log = AccessLog.objects.get(action="import.undo")
    assert (log.actor, log.basis) == (bob.pk, "delegate")


def test_more_records_than_one_batch_are_deleted(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthcare.imports.undo.RECORDS_PER_UNDO_BATCH", 2)
    patients = [make_patient(alice) for _ in range(5)]
    make_mapping(patients[3], make_doctor(alice))
    record = make_import(alice, "patients", *created(*patients))
    result = undo(as_alice, record)
    keys = [patient.pk for patient in patients]
    assert result == {"deleted": [*keys[:3], keys[4]], "left": [keys[3]], "updated": []}
    assert Import.objects.get().undone_at is not None


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_the_second_is_refused_without_waiting(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    record = make_import(alice, "patients", *created(patient))
    with transaction.atomic():
        first = undo_import(record, Patient)
        second = call_in_thread(lambda: as_alice.post(f"/api/imports/{record.pk}/undo/"))
    assert (first.deleted, second.status_code, second.json()["code"]) == ([patient.pk], 409, "already_undone")
    assert not Patient.objects.active().exists()


@pytest.mark.django_db(transaction=True)
def test_a_patient_who_is_changed_at_the_same_time_is_left(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    record = make_import(alice, "patients", *created(patient))
    with transaction.atomic():
        Patient.objects.filter(pk=patient.pk).update(address="Pune")
        waiting = Waiting(lambda: as_alice.post(f"/api/imports/{record.pk}/undo/"))
    assert waiting.finish().json() == {"deleted": [], "left": [patient.pk], "updated": []}
    assert Patient.objects.active().exists()
