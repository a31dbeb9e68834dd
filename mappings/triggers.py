"""Triggers on the tables of doctors and patients that concern assignments."""

from healthcare.database_objects import DatabaseObject, declare

# SECURITY DEFINER: the assignments of other callers, whom this one does not see, count too. The search path is pinned,
# so that a caller's temporary table cannot stand in for a real one.
REFUSE_TO_DELETE_A_TREATING_DOCTOR = """
CREATE OR REPLACE FUNCTION refuse_to_delete_a_treating_doctor() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    caller CONSTANT bigint := nullif(current_setting('app.user_id', true), '')::bigint;
    of_caller boolean;
    of_others boolean;
BEGIN
    SELECT coalesce(bool_or(m.created_by_id = caller), false),
        coalesce(bool_or(m.created_by_id IS DISTINCT FROM caller), false)
    INTO of_caller, of_others FROM (
        SELECT DISTINCT m.created_by_id FROM mappings_mapping m JOIN patients_patient p ON p.id = m.patient_id
        WHERE m.doctor_id = NEW.id AND m.ended_at IS NULL AND p.deleted_at IS NULL
    ) m;
    IF of_caller OR of_others THEN
        RAISE restrict_violation USING MESSAGE = CASE
            WHEN caller IS NULL OR NOT of_others THEN 'This doctor treats patients; end those assignments first.'
            WHEN of_caller THEN 'This doctor treats patients of yours and of other accounts; end your assignments, and '
                'ask a member of staff about the others.'
            ELSE 'This doctor treats patients of other accounts, who have to end those assignments first; ask a member '
                'of staff.' END;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER refuse_to_delete_a_treating_doctor BEFORE UPDATE OF deleted_at ON doctors_doctor
FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
EXECUTE FUNCTION refuse_to_delete_a_treating_doctor();
"""
DROP_REFUSAL = """
DROP TRIGGER refuse_to_delete_a_treating_doctor ON doctors_doctor;
DROP FUNCTION refuse_to_delete_a_treating_doctor();
"""
# When a deleted patient is restored, assignments to doctors who were deleted meanwhile end. The doctors' rows are
# locked first, so that none is deleted in between.
END_ASSIGNMENTS_TO_DELETED_DOCTORS = """
CREATE OR REPLACE FUNCTION end_assignments_to_deleted_doctors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM doctors_doctor d JOIN mappings_mapping m ON m.doctor_id = d.id
    WHERE m.patient_id = NEW.id AND m.ended_at IS NULL ORDER BY d.id FOR NO KEY UPDATE OF d;
    UPDATE mappings_mapping m
    SET ended_at = greatest(d.deleted_at, m.started_at)
    FROM doctors_doctor d
    WHERE d.id = m.doctor_id AND m.patient_id = NEW.id AND m.ended_at IS NULL AND d.deleted_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER end_assignments_to_deleted_doctors AFTER UPDATE OF deleted_at ON patients_patient
FOR EACH ROW WHEN (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL)
EXECUTE FUNCTION end_assignments_to_deleted_doctors();
"""
DROP_ENDING = """
DROP TRIGGER end_assignments_to_deleted_doctors ON patients_patient;
DROP FUNCTION end_assignments_to_deleted_doctors();
"""

declare(
    DatabaseObject("mappings", "refuse_to_delete_a_treating_doctor", REFUSE_TO_DELETE_A_TREATING_DOCTOR, DROP_REFUSAL)
)
declare(
    DatabaseObject("mappings", "end_assignments_to_deleted_doctors", END_ASSIGNMENTS_TO_DELETED_DOCTORS, DROP_ENDING)
)
