"""Restoring a version of a patient from the time of a merge: another patient's data must not come back with it."""

from typing import Any

import pytest

from accounts.models import User
from audit.tests.test_admin_restoring import restoring
from healthcare.tests.admin_pages import AdminClient, Page, allow
from patients.erasure import erase
from patients.merges import merge, unmerge
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.tests.test_erasure import CANARY, tables_that_say


@pytest.fixture
def admin(make_user: Any) -> AdminClient:
    return AdminClient(allow(make_user("clerk", is_staff=True), "change_patient", "restore_patient"))


@pytest.fixture
def survivor(alice: User) -> Patient:
    return make_patient(alice, name="Ana", phone="111")


@pytest.fixture
def duplicate(alice: User) -> Patient:
    return make_patient(alice, name="Anna", address=CANARY, email="anna@example.org")


def now(patient: Patient) -> Patient:
    return Patient.objects.get(pk=patient.pk)


def write(patient: Patient, **values: Any) -> None:
    Patient.objects.filter(pk=patient.pk).update(**values)


def restore(admin: AdminClient, patient: Patient, version: int) -> Any:
    return admin.post(restoring(patient, version), {"compared_with": now(patient).version})


def assert_refused(admin: AdminClient, patient: Patient, version: int, duplicate: Patient) -> None:
    reason = f"This version may hold data of patient {duplicate.pk}, which was merged into this one then."
    before = Patient.objects.values().get(pk=patient.pk)
    page = admin.page(restoring(patient, version))
    assert reason in page
    assert "compared_with" not in Page(page).fields
    answer = restore(admin, patient, version)
    assert answer.status_code == 200
    assert reason in answer.content.decode()
    assert Patient.objects.values().get(pk=patient.pk) == before


def test_an_undone_merge_does_not_come_back_and_an_erasure_finds_all_of_the_other_patient(
    admin: AdminClient, survivor: Patient, duplicate: Patient
):
    write(survivor, phone="222")
    merge(now(survivor), now(duplicate))
    write(survivor, phone="333")  # version 4, while they are merged
    unmerge(now(survivor), now(duplicate))
    write(survivor, phone="444")
    for version in (3, 4):
        assert_refused(admin, survivor, version, duplicate)
    for version, phone in ((1, "111"), (2, "222"), (5, "333"), (6, "444")):
        assert restore(admin, survivor, version).status_code == 302
        assert (now(survivor).phone, now(survivor).address) == (phone, "")
    erase(duplicate.pk, reason="Request 17", account="root")
    assert tables_that_say(CANARY) == set()


def test_a_value_that_a_later_merge_has_replaced_does_not_come_back(
    admin: AdminClient, survivor: Patient, duplicate: Patient, alice: User
):
    """Undoing the first merge would leave it: the second one has given the field a value since."""
    later = make_patient(alice, name="Anne", address="Mysuru")
    merge(survivor, duplicate)
    merge(now(survivor), later, {"address"})
    assert_refused(admin, survivor, 2, duplicate)
    assert restore(admin, survivor, 1).status_code == 302
    assert now(survivor).address == ""


def test_a_version_of_a_merge_that_is_not_undone_can_be_restored_and_the_merge_undone(
    admin: AdminClient, survivor: Patient, duplicate: Patient
):
    merge(survivor, duplicate)
    write(survivor, address="Mysuru")
    assert restore(admin, survivor, 2).status_code == 302
    assert now(survivor).address == CANARY
    unmerge(now(survivor), now(duplicate))
    assert now(survivor).address == ""
