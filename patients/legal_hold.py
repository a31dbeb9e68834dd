"""Setting and releasing a legal hold on a patient, and the triggers that refuse to delete or merge a held one."""

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from audit.models import LegalHold
from healthcare.database_objects import DatabaseObject, declare
from patients.models import Patient

# SECURITY DEFINER: the role of API requests may not read holds. The search path is pinned, so that a caller's temporary
# table cannot stand in for a real one. An UPDATE has locked the row before its BEFORE trigger runs, and setting a hold
# locks the row as well, so one of two concurrent transactions sees what the other has committed.
REFUSE_TO_REMOVE_A_HELD_PATIENT = """
CREATE OR REPLACE FUNCTION refuse_to_remove_a_held_patient() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    records bigint[] := ARRAY[OLD.id];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        records := array_remove(records || OLD.merged_into_id || NEW.merged_into_id, NULL);
    END IF;
    IF EXISTS (SELECT FROM audit_legalhold WHERE released_at IS NULL AND record_ids && records) THEN
        RAISE restrict_violation USING MESSAGE = CASE
            WHEN cardinality(records) > 1 THEN 'A patient of this merge is under a legal hold, and is neither merged '
                'nor unmerged until the hold is released; ask a member of staff.'
            ELSE 'This patient is under a legal hold and is not deleted until the hold is released; ask a member of '
                'staff.' END;
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE OR REPLACE TRIGGER refuse_to_delete_a_held_patient BEFORE DELETE ON patients_patient
FOR EACH ROW EXECUTE FUNCTION refuse_to_remove_a_held_patient();
CREATE OR REPLACE TRIGGER refuse_to_hide_a_held_patient BEFORE UPDATE OF deleted_at, merged_into_id ON patients_patient
FOR EACH ROW WHEN (
    OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL OR OLD.merged_into_id IS DISTINCT FROM NEW.merged_into_id)
EXECUTE FUNCTION refuse_to_remove_a_held_patient();
"""
DROP_HOLDING = """
DROP TRIGGER refuse_to_hide_a_held_patient ON patients_patient;
DROP TRIGGER refuse_to_delete_a_held_patient ON patients_patient;
DROP FUNCTION refuse_to_remove_a_held_patient();
"""
# While a patient is held no record is merged into it, so the ids of the merged ones stay complete.
FIND_RECORDS_OF_HOLD = """
CREATE OR REPLACE FUNCTION find_records_of_hold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    survivor bigint;
BEGIN
    SELECT merged_into_id INTO survivor FROM patients_patient WHERE id = NEW.patient_id FOR NO KEY UPDATE;
    IF NOT FOUND OR survivor IS NOT NULL THEN
        RAISE restrict_violation USING MESSAGE = CASE
            WHEN survivor IS NULL THEN format('There is no patient %s.', NEW.patient_id)
            ELSE format('Patient %s was merged into %s: hold that one, and this is held with it.', NEW.patient_id,
                survivor) END;
    END IF;
    NEW.record_ids := ARRAY(
        WITH RECURSIVE merged AS (
            SELECT NEW.patient_id AS id
            UNION ALL
            SELECT duplicate.id FROM patients_patient duplicate JOIN merged ON duplicate.merged_into_id = merged.id
        ) SELECT id FROM merged ORDER BY id);
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER find_records_of_hold BEFORE INSERT ON audit_legalhold
FOR EACH ROW EXECUTE FUNCTION find_records_of_hold();
"""
DROP_FINDING = """
DROP TRIGGER find_records_of_hold ON audit_legalhold;
DROP FUNCTION find_records_of_hold();
"""
declare(DatabaseObject("patients", "find_records_of_hold", FIND_RECORDS_OF_HOLD, DROP_FINDING))
declare(DatabaseObject("patients", "refuse_to_remove_a_held_patient", REFUSE_TO_REMOVE_A_HELD_PATIENT, DROP_HOLDING))


class HoldError(Exception):
    """A hold cannot be set or released; the message says why, in one sentence."""


def check_holdable(patient_id: int) -> None:
    """Lock the patient's row, after a transaction that changes it at the moment. Raises HoldError unless it can be
    put under a hold."""
    patient = Patient.objects.locked().filter(pk=patient_id).first()
    if patient is None:
        raise HoldError(f"There is no patient {patient_id}.")
    if patient.merged_into_id:
        raise HoldError(
            f"Patient {patient_id} was merged into {patient.merged_into_id}: hold that one, and this is held with it."
        )
    if LegalHold.objects.active().filter(patient_id=patient_id).exists():
        raise HoldError(f"Patient {patient_id} is already under a legal hold.")


@transaction.atomic
def set_hold(patient_id: int, *, reason: str, account: str = "", username: str = "") -> LegalHold:
    """Set a hold. Raises HoldError."""
    check_holdable(patient_id)
    hold = LegalHold.objects.create(patient_id=patient_id, reason=reason, set_account=account, set_username=username)
    hold.refresh_from_db()
    return hold


@transaction.atomic
def release_hold(patient_id: int, *, reason: str = "", account: str = "", username: str = "") -> LegalHold:
    """Release the active hold on a patient. Raises HoldError if there is none."""
    hold = LegalHold.objects.active().select_for_update().filter(patient_id=patient_id).first()
    if hold is None:
        raise HoldError(f"Patient {patient_id} is under no legal hold.")
    hold.released_at = timezone.now()
    hold.released_account, hold.released_username, hold.release_reason = account, username, reason
    hold.save(update_fields=["released_at", "released_account", "released_username", "release_reason"])
    return hold


def held_among(patients: Sequence[Patient]) -> list[Patient]:
    """Those of these patients who are under a legal hold."""
    held = LegalHold.objects.active().filter(record_ids__overlap=[patient.pk for patient in patients])
    records = {record for records in held.values_list("record_ids", flat=True) for record in records}
    return [patient for patient in patients if patient.pk in records]
