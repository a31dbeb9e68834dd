from django.db import migrations

from healthcare.isolation.operations import RowSecurity

# Runs with its owner's rights: whether somebody else's patient is treated is none of the caller's business, but counts.
REFUSE = """
CREATE FUNCTION refuse_to_delete_a_treating_doctor() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM mappings_mapping WHERE doctor_id = NEW.id AND ended_at IS NULL) THEN
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
    ]
