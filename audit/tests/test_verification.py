"""`verify_audit` reads what was sealed since the last run. The mark that says so cannot be moved without the key."""

from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from audit.models import Seal, VerificationMark
from audit.tests.test_seals import seal, superuser
from audit.tests.test_seals import verify as verify_fully
from conftest import LoggedInClient
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


def verify(**options: Any) -> str:
    return verify_fully(**{"full": False, **options})


def verified_rows(**options: Any) -> int:
    return int(verify(**options).partition(" ")[0])


@pytest.fixture
def patient(alice: User, as_alice: LoggedInClient) -> Patient:
    patient = make_patient(alice)
    change(as_alice, patient)
    return patient


def change(client: LoggedInClient, patient: Patient) -> str:
    """One more event, sealed; what seal_audit printed."""
    client.patch(f"/api/patients/{patient.pk}/", {"name": f"N{Seal.objects.count()}"})
    return seal()


def alter(version: int) -> None:
    with superuser() as cursor:
        cursor.execute("UPDATE patients_patientevent SET name = 'Eve' WHERE version = %s", [version])
        assert cursor.rowcount == 1


def test_only_what_came_after_the_last_verified_seal_is_read(patient: Patient, as_alice: LoggedInClient) -> None:
    first = verified_rows()
    assert first > 2
    assert verified_rows() == 0
    change(as_alice, patient)
    change(as_alice, patient)
    assert verified_rows() == 4  # two events and the accesses of two PATCH requests
    assert verified_rows(full=True) == first + 4
    assert "Those up to seal" in verify()


def test_the_cost_does_not_grow_with_what_was_verified(patient: Patient, as_alice: LoggedInClient) -> None:
    def queries() -> int:
        change(as_alice, patient)
        with CaptureQueriesContext(connection) as captured:
            verify()
        return len(captured)

    queries()
    costs = [queries() for _ in range(5)]
    assert len(set(costs)) == 1


def test_only_a_full_verification_finds_tampering_behind_the_mark(patient: Patient, as_alice: LoggedInClient) -> None:
    verify()
    alter(1)
    change(as_alice, patient)
    verify()
    with pytest.raises(CommandError, match="was altered"):
        verify(full=True)
    verify()  # the mark stays where it was


def test_tampering_since_the_mark_is_found_until_it_is_undone(patient: Patient, as_alice: LoggedInClient) -> None:
    verify()
    change(as_alice, patient)
    alter(3)
    for _ in range(2):
        with pytest.raises(CommandError, match="was altered"):
            verify()
    key = PatientEvent.objects.get(version=3).pk
    with superuser() as cursor:
        cursor.execute("DELETE FROM patients_patientevent WHERE pgh_id = %s", [key])
    with pytest.raises(CommandError, match=f"^patients_patientevent {key} is missing.$"):
        verify()


FORGERIES = {
    "a later seal": "UPDATE audit_verificationmark SET seal_id = s.id, seal_code = s.code FROM audit_seal s "
    "WHERE s.id = (SELECT max(id) FROM audit_seal)",
    "later positions": "UPDATE audit_verificationmark SET positions = jsonb_set(positions, "
    "'{patients_patientevent,0}', '99999999')",
    "another code": "UPDATE audit_verificationmark SET code = repeat('0', 64)",
    "earlier positions": "UPDATE audit_verificationmark SET positions = '{}'",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_mark_is_reported(patient: Patient, as_alice: LoggedInClient, forgery: str) -> None:
    verify()
    change(as_alice, patient)
    alter(3)
    with connection.cursor() as cursor:
        cursor.execute(FORGERIES[forgery])
        assert cursor.rowcount == 1
    with pytest.raises(CommandError, match="^The mark of the last verification was altered: run verify_audit --full.$"):
        verify()
    with pytest.raises(CommandError, match="patients_patientevent [0-9]+ was altered"):
        verify(full=True)


@pytest.mark.parametrize("what", ["removed", "put back"])
def test_a_mark_that_was_removed_or_put_back_hides_nothing(
    patient: Patient, as_alice: LoggedInClient, what: str
) -> None:
    verify()
    [old] = VerificationMark.objects.values()
    change(as_alice, patient)
    verify()
    alter(3)
    verify()  # behind the mark
    VerificationMark.objects.all().delete()
    if what == "put back":
        VerificationMark.objects.create(**old)
    with pytest.raises(CommandError, match="patients_patientevent [0-9]+ was altered"):
        verify()


def test_a_full_verification_replaces_a_forged_mark(patient: Patient, as_alice: LoggedInClient) -> None:
    verify()
    VerificationMark.objects.update(code="0" * 64)
    VerificationMark.objects.create(pk=0, seal_id=1, seal_code="", positions={}, code="0" * 64)
    verify(full=True)
    assert verified_rows() == 0


def test_the_removal_of_the_chains_end_behind_the_mark_is_found(patient: Patient, as_alice: LoggedInClient) -> None:
    printed = change(as_alice, patient)
    assert verified_rows(expect=printed) > 0
    assert verified_rows(expect=printed) == 0
    last = Seal.objects.latest("id")
    with superuser() as cursor:
        cursor.execute("DELETE FROM audit_seal WHERE id = %s", [last.pk])
    with pytest.raises(CommandError, match=f"^audit_seal {last.pk} was altered or removed since it was verified.$"):
        verify()
    with pytest.raises(CommandError, match=f"^audit_seal {last.pk} is missing: the chain's end was removed.$"):
        verify(full=True, expect=printed)


def test_expect_finds_a_seal_that_is_missing_and_was_never_verified(patient: Patient, as_alice: LoggedInClient) -> None:
    verify()
    printed = change(as_alice, patient)
    last = Seal.objects.latest("id")
    with superuser() as cursor:
        cursor.execute("DELETE FROM audit_seal WHERE id = %s", [last.pk])
    for expected in (printed, f"{10**30}:{'0' * 64}", f"1:{'0' * 64}"):
        with pytest.raises(CommandError, match="is missing: the chain's end was removed.$"):
            verify(expect=expected)


def test_a_mark_of_another_key_is_reported(patient: Patient, settings: Any) -> None:
    verify()
    settings.AUDIT_SEAL_KEY = "another key of at least 32 characters"
    with pytest.raises(CommandError, match="^The mark of the last verification was altered"):
        verify()


def test_a_database_that_can_only_be_read_is_verified_without_a_mark(patient: Patient) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL transaction_read_only = on")
        assert "are unaltered" in verify()
        assert "are unaltered" in verify(full=True)
        assert not VerificationMark.objects.exists()
        transaction.set_rollback(True)
