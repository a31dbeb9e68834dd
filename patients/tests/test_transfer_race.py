"""Transfers that meet other transactions at the same patients."""

from collections.abc import Callable

import pytest
from django.db import transaction

from accounts.models import User
from conftest import LoggedInClient
from healthcare.tests.waiting import Waiting
from patients.erasure import erase
from patients.merges import merge, unmerge
from patients.models import Patient, PatientEvent, PatientTransfer
from patients.tests.factories import make_patient
from patients.transfers import NO_OWNER, move_patients

pytestmark = pytest.mark.django_db(transaction=True)


def move(patient: Patient, giver: User, to: User) -> int:
    with transaction.atomic():
        return move_patients([patient.pk], giver, to, None)


def test_two_patients_who_move_apart_at_once_show_no_version_that_they_share(
    as_alice: LoggedInClient, alice: User, bob: User, make_user: Callable[..., User]
) -> None:
    """bob gives the one back to alice, while she gives the other one to carol."""
    carol = make_user("carol")
    patient, other = make_patient(alice), make_patient(alice, name="Other", phone="080 5550 0100")
    with transaction.atomic():
        merge(patient, other)
        unmerge(Patient.objects.get(pk=patient.pk), Patient.objects.get(pk=other.pk))
    move(patient, alice, bob)
    with transaction.atomic():
        move(patient, bob, alice)
        waiting = Waiting(lambda: move(other, alice, carol))
    assert waiting.finish() == 1
    shared = PatientEvent.objects.filter(id=patient.pk, phone="080 5550 0100")
    assert {event.pgh_owner_id for event in shared} == {NO_OWNER}
    history = as_alice.get(f"/api/patients/{patient.pk}/history/")
    assert (history.status_code, "5550 0100" in history.content.decode()) == (200, False)


def test_an_acceptance_that_waits_for_an_erasure_is_refused(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User
) -> None:
    patient = make_patient(alice)
    transfer = as_alice.post(f"/api/patients/{patient.pk}/transfer/", {"to": "bob"}).json()["id"]
    with transaction.atomic():
        erase(patient.pk, reason="asked for", account="root")
        waiting = Waiting(lambda: as_bob.post(f"/api/transfers/{transfer}/accept/"))
    assert waiting.finish().status_code == 409
    assert not PatientTransfer.objects.exists()


def test_a_patient_who_has_been_erased_meanwhile_is_not_handed_over(alice: User, bob: User) -> None:
    patient = make_patient(alice)
    with transaction.atomic():
        erase(patient.pk, reason="asked for", account="root")
        waiting = Waiting(lambda: move(patient, alice, bob))
    assert waiting.finish() == 0
