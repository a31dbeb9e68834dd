from django.db import migrations

from healthcare.rls.operations import RowSecurity

# Runs with its owner's rights: whether somebody else's patient is treated is none of the caller's business, but counts.
REFUSE = """
CREATE FUNCTION refuse_to_delete_a_treating_doctor() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (
        SELECT FROM mappings_mapping m JOIN patients_patient p ON p.id = m.patient_id
        WHERE m.doctor_id = NEW.id AND m.ended_at IS NULL AND p.deleted_at IS NULL
    ) THEN
        RAISE restrict_violation USING MESSAGE = 'This doctor treats patients; end those assignments first.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_to_delete_a_treating_doctor BEFORE UPDATE OF deleted_at ON doctors_doctor
FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
EXECUTE FUNCTION refuse_to_delete_a_treating_doctor();
"""
ALLOW = """
DROP TRIGGER refuse_to_delete_a_treating_doctor ON doctors_doctor;
DROP FUNCTION refuse_to_delete_a_treating_doctor();
"""
# A patient comes back with the assignments as they would be had the patient stayed: not with a doctor who has left since.
# The doctors are locked first, so that none leaves in between.
END_STALE = """
CREATE FUNCTION end_assignments_to_deleted_doctors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM doctors_doctor d JOIN mappings_mapping m ON m.doctor_id = d.id
    WHERE m.patient_id = NEW.id AND m.ended_at IS NULL ORDER BY d.id FOR NO KEY UPDATE OF d;
    UPDATE mappings_mapping m
    SET ended_at = greatest(d.deleted_at, m.started_at), updated_at = now(), version = m.version + 1
    FROM doctors_doctor d
    WHERE d.id = m.doctor_id AND m.patient_id = NEW.id AND m.ended_at IS NULL AND d.deleted_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER end_assignments_to_deleted_doctors AFTER UPDATE OF deleted_at ON patients_patient
FOR EACH ROW WHEN (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL)
EXECUTE FUNCTION end_assignments_to_deleted_doctors();
"""
KEEP_STALE = """
DROP TRIGGER end_assignments_to_deleted_doctors ON patients_patient;
DROP FUNCTION end_assignments_to_deleted_doctors();
"""


class Migration(migrations.Migration):
    dependencies = [("mappings", "0001_initial"), ("patients", "0002_wall"), ("doctors", "0002_wall")]
    operations = [
        RowSecurity(
            "Mapping",
            "created_by",
            grants=["SELECT", "INSERT", "UPDATE"],
            # The subquery sees through the caller's eyes: only a patient of their own can be assigned.
            rows="EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id)",
        ),
        migrations.RunSQL(REFUSE, ALLOW),
        migrations.RunSQL(END_STALE, KEEP_STALE),
    ]
