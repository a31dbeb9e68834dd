"""Row-level security protects merges if a scope in the code is missing or bypassed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection, transaction

from accounts.models import User
from conftest import LoggedInClient
from healthcare.ownership import OwnedQuerySet
from healthcare.rls.context import enter
from patients.models import Patient, PatientMerge
from patients.tests.factories import make_patient
from patients.tests.merging import errors, merge, unmerge


@contextmanager
def entered(user_id: int | None) -> Iterator[None]:
    """Runs the block with the caller's role and rolls it back."""
    with transaction.atomic():
        enter(user_id)
        yield
        transaction.set_rollback(True)


def test_row_level_security_stops_a_merge_without_a_scope(
    as_alice: LoggedInClient,
    as_bob: LoggedInClient,
    bob: User,
    survivor: Patient,
    duplicate: Patient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
    assert merge(as_bob, survivor, duplicate).status_code == 404
    assert errors(merge(as_bob, make_patient(bob), duplicate))[0]["pointer"] == "/duplicate"
    assert merge(as_alice, survivor, duplicate).status_code == 200
    assert unmerge(as_bob, survivor, duplicate).status_code == 404
    assert as_bob.get(f"/api/patients/{duplicate.pk}/").status_code == 404


def test_row_level_security_shows_a_merge_to_its_owner_only(
    as_alice: LoggedInClient, alice: User, bob: User, survivor: Patient, duplicate: Patient
) -> None:
    merge(as_alice, survivor, duplicate)
    for user_id, seen in ((alice.pk, 1), (bob.pk, 0), (None, 0)):
        with entered(user_id):
            assert PatientMerge.objects.count() == seen


@pytest.mark.parametrize("statement", [
    "INSERT INTO patients_patientmerge (created_by_id, survivor_id, duplicate_id, filled, moved, version, created_at,"
    " updated_at) SELECT %(bob)s, %(bobs)s, %(alices)s, '{}', '{}', 1, now(), now()",
    "INSERT INTO patients_patientmerge (created_by_id, survivor_id, duplicate_id, filled, moved, version, created_at,"
    " updated_at) SELECT %(bob)s, %(alices)s, %(bobs)s, '{}', '{}', 1, now(), now()",
    "DELETE FROM patients_patientmerge",
])  # fmt: skip
def test_a_caller_can_neither_insert_nor_delete_merges_of_others(bob: User, survivor: Patient, statement: str) -> None:
    ids = {"bob": bob.pk, "bobs": make_patient(bob).pk, "alices": survivor.pk}
    refused = pytest.raises(DatabaseError, match="permission denied|row-level security")
    with entered(bob.pk), refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, ids)
