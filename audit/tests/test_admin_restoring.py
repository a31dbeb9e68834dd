"""Restoring a version of a record from its history in the admin."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from audit.admin.restoring import CHANGED_MEANWHILE
from audit.history import event_model_of
from audit.models import AccessLog, UserEvent
from audit.tests.test_admin_history import changes, history, words
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient, Page, allow
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

BOOKKEEPING = {"updated_at", "version"}


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def restoring(record: Any, version: int) -> str:
    """The path that restores a version of the record."""
    event = event_model_of(type(record)).objects.get(id=record.pk, version=version)
    name = f"admin:{record._meta.app_label}_{record._meta.model_name}_restore_version"
    return reverse(name, args=[record.pk, event.pk])


def columns(record: Any) -> dict[str, Any]:
    """The values of the record's row but for what every change sets."""
    return {
        name: value
        for name, value in type(record)._base_manager.filter(pk=record.pk).values().get().items()
        if name not in BOOKKEEPING
    }


def change(record: Any, **values: Any) -> None:
    type(record)._default_manager.filter(pk=record.pk).update(**values)


def whole_patient(alice: User) -> Patient:
    return make_patient(
        alice, name="Asha Rao", gender="F", birth_date=datetime.date(1990, 2, 28), birth_year=1990, deceased=True,
        deceased_on=datetime.date(2020, 1, 1), identifier="A 1", identifiers=[{"system": "uid", "value": "7"}],
        phone="+91 80 5550 0100", alternate_phone="5550", email="asha@example.org", address="1 MG Road\nBengaluru",
        language="kn", contacts=[{"name": "Eva", "relationship": "aunt", "phone": "55"}],
        medical_history="2019 asthma\n2020 fracture",
    )  # fmt: skip


def test_a_preview_compares_and_changes_nothing(admin: AdminClient, alice: User):
    patient = make_patient(alice, name="Ana", gender="F", phone="1")
    change(patient, name="Anna", gender="M")
    change(patient, deleted_at=timezone.now())
    change(patient, deleted_at=None)
    before = columns(patient)
    page = admin.page(restoring(patient, 1))
    for row in ("Name Anna Ana", "Gender male female"):
        assert row in words(page)
    assert "Phone" not in words(page)
    assert columns(patient) == before
    reads = AccessLog.objects.filter(action="admin.patient.restore_version")
    assert list(reads.values_list("patient_ids", "outcome")) == [([patient.pk], 200)]


def test_every_field_of_the_form_comes_back_exactly(admin: AdminClient, alice: User):
    patient, doctor = whole_patient(alice), make_doctor(alice, name="Dr. Rao", experience_since=2001, hospital="City")
    mapping = make_mapping(patient, doctor, role="surgeon", is_primary=True, reason="hip", notes="one\ntwo")
    change(mapping, started_at=timezone.now().replace(microsecond=123456) - datetime.timedelta(days=3))
    emptied: dict[Any, dict[str, Any]] = {
        Patient: {
            "name": "X", "gender": "U", "birth_date": None, "birth_year": None, "deceased": None, "deceased_on": None,
            "identifier": "", "identifiers": [], "phone": "", "alternate_phone": "", "email": "", "address": "",
            "language": "", "contacts": [], "medical_history": "",
        },
        Doctor: {"name": "X", "experience_since": None, "hospital": ""},
        Mapping: {
            "role": "", "is_primary": False, "reason": "", "notes": "",
            "started_at": timezone.now().replace(microsecond=654321) - datetime.timedelta(days=2),
        },
    }  # fmt: skip
    for record, version in ((patient, 1), (doctor, 1), (mapping, 2)):
        before = columns(record)
        change(record, **emptied[type(record)])
        assert columns(record) != before
        answer = admin.submit(restoring(record, version))
        assert (answer.status_code, answer["Location"]) == (302, history(record))
        assert columns(record) == before
        change(record, version=0)  # an unchanged field with microseconds is no difference
        assert "has the values of this version already" in admin.page(restoring(record, version))


def test_a_restoration_is_a_change_with_actor_reason_and_request(admin: AdminClient, staff: User, alice: User):
    patient = make_patient(alice, name="Ana")
    change(patient, name="Anna")
    answer = admin.submit(restoring(patient, 1))
    event = event_model_of(Patient).objects.latest("pgh_id")
    assert event.pgh_context == {
        "actor": staff.pk, "request_id": answer["X-Request-Id"], "reason": "Restored version 1",
    }  # fmt: skip
    assert (event.name, event.version) == ("Ana", 3)
    page = admin.page(history(patient))
    assert f"Version 1 of patient {patient.pk} was restored." in page
    assert "by staff Reason: Restored version 1" in changes(page)[0]
    (entry,) = LogEntry.objects.all()
    assert (entry.object_repr, entry.change_message) == (f"patient {patient.pk}", "Restored version 1.")
    assert admin.submit(restoring(patient, 2)).status_code == 302  # and back
    assert columns(patient)["name"] == "Anna"


def test_a_record_that_changed_since_the_preview_is_compared_again(admin: AdminClient, alice: User):
    patient = make_patient(alice, name="Ana")
    change(patient, name="Anna")
    form = admin.form(restoring(patient, 1))
    change(patient, name="Hanna")
    answer = admin.submit(restoring(patient, 1), form)
    page = answer.content.decode()
    assert (answer.status_code, columns(patient)["name"]) == (200, "Hanna")
    assert CHANGED_MEANWHILE in page
    assert "Name Hanna Ana" in words(page)
    assert admin.submit(restoring(patient, 1), Page(page).fields).status_code == 302
    assert columns(patient)["name"] == "Ana"


@pytest.mark.parametrize("sent", [{}, {"compared_with": "x"}, {"compared_with": "\0"}, {"compared_with": "9" * 30}])
def test_a_form_without_the_version_it_compared_changes_nothing(admin: AdminClient, alice: User, sent: dict[str, str]):
    patient = make_patient(alice, name="Ana")
    change(patient, name="Anna")
    assert admin.post(restoring(patient, 1), sent).status_code == 200
    assert columns(patient)["name"] == "Anna"


def test_what_is_deleted_merged_or_ended_has_to_be_restored_first(admin: AdminClient, alice: User):
    deleted, survivor, merged = (make_patient(alice, name=name) for name in ("Ana", "Bea", "Cleo"))
    mapping = make_mapping(survivor, make_doctor(alice), role="surgeon")
    records: list[Any] = [deleted, merged, mapping]
    reasons = [
        "This patient is deleted. Restore the patient first, then restore the version.",
        "This patient is merged. Undo the merge first, then restore the version.",
        f"This {mapping._meta.verbose_name} is ended. Restore the {mapping._meta.verbose_name} first,",
    ]
    for record in records:
        change(record, **({"role": "x"} if record is mapping else {"name": "X"}))
    merge(survivor, merged)
    Patient.objects.filter(pk=deleted.pk).end()
    Mapping.objects.end()
    for record, reason in zip(records, reasons, strict=True):
        before, path = columns(record), restoring(record, 1)
        assert "Restore version" not in admin.page(history(record))
        page = admin.page(path)
        assert reason in words(page)
        assert "compared_with" not in Page(page).fields
        answer = admin.post(path, {"compared_with": type(record).objects.get(pk=record.pk).version})
        assert (answer.status_code, columns(record)) == (200, before)


def test_a_legal_hold_does_not_prevent_it_because_nothing_is_removed(admin: AdminClient, alice: User):
    patient = make_patient(alice, name="Ana")
    change(patient, name="Anna")
    set_hold(patient.pk, reason="case 17")
    assert admin.submit(restoring(patient, 1)).status_code == 302
    assert columns(patient)["name"] == "Ana"


def test_a_value_that_the_form_refuses_today_is_reported_beside_its_field(admin: AdminClient, alice: User):
    patient = make_patient(alice, name="Ana", phone="letters", birth_year=1850)
    change(patient, name="Anna", phone="555", birth_year=1990)
    path, before = restoring(patient, 1), columns(patient)
    for answer in (admin.get(path), admin.post(path, {"compared_with": "2"})):
        page = answer.content.decode()
        assert "Phone 555 letters Enter a phone number" in words(page)
        assert "Year of birth 1990 1850 Enter a" in words(page)
        assert "compared_with" not in Page(page).fields
    assert columns(patient) == before


def test_a_constraint_that_refuses_is_reported_beside_its_field(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    mapping = make_mapping(patient, make_doctor(alice), is_primary=True)
    change(mapping, is_primary=False)
    other = make_mapping(patient, make_doctor(alice, name="Dr. Other"), is_primary=True)
    answer = admin.submit(restoring(mapping, 1))
    assert answer.status_code == 200
    assert "Primary doctor No Yes This patient already has a primary doctor." in words(answer.content.decode())
    assert not columns(mapping)["is_primary"]
    assert columns(other)["is_primary"]


def test_what_other_actions_change_is_named_and_not_restored(admin: AdminClient, alice: User, bob: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice), role="surgeon")
    doctor = make_doctor(alice, name="Dr. Other")
    change(mapping, role="x", doctor=doctor, created_by=bob)
    page = admin.page(restoring(mapping, 1))
    assert "Not restored, because other actions change it: Doctor." in words(page)
    assert admin.submit(restoring(mapping, 1)).status_code == 302
    found = columns(mapping)
    assert (found["role"], found["doctor_id"], found["created_by_id"]) == ("surgeon", doctor.pk, bob.pk)


@pytest.mark.parametrize("codenames", [["change_patient"], ["restore_patient"], ["change_patient", "restore_patient"]])
def test_it_takes_the_permissions_to_change_and_to_restore(
    make_user: Callable[..., User], alice: User, codenames: list[str]
):
    patient = make_patient(alice, name="Ana")
    change(patient, name="Anna")
    client = AdminClient(allow(make_user("clerk", is_staff=True), "view_patient", *codenames))
    allowed = len(codenames) == 2
    assert ("Restore version" in client.page(history(patient))) == allowed
    assert client.get(restoring(patient, 1)).status_code == (200 if allowed else 403)
    assert client.post(restoring(patient, 1), {"compared_with": "2"}).status_code == (302 if allowed else 403)
    assert columns(patient)["name"] == ("Ana" if allowed else "Anna")


def test_a_post_needs_a_csrf_token(staff: User, alice: User):
    patient = make_patient(alice, name="Ana")
    change(patient, name="Anna")
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.post(restoring(patient, 1), {"compared_with": "2"}).status_code == 403
    assert columns(patient)["name"] == "Anna"


def test_a_version_of_another_record_is_not_found(admin: AdminClient, alice: User):
    patient, other = make_patient(alice), make_patient(alice)
    path = restoring(other, 1).replace(f"/{other.pk}/", f"/{patient.pk}/")
    assert (admin.get(path).status_code, admin.post(path).status_code) == (404, 404)
    assert admin.get(f"/admin/patients/patient/{patient.pk}/history/{10**17}/restore/").status_code == 404
    assert admin.get("/admin/patients/patient/x/history/1/restore/").status_code == 302


def test_versions_of_users_are_not_restored_because_they_hold_permissions(admin: AdminClient, alice: User):
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    event = UserEvent.objects.filter(id=alice.pk).earliest("pgh_id")
    assert "restore" not in admin.page(history(alice)).lower()
    assert admin.get(f"/admin/accounts/user/{alice.pk}/history/{event.pk}/restore/").status_code in {302, 404}
    assert User.objects.get(pk=alice.pk).is_staff
