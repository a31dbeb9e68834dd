from django.db import migrations

from healthcare.migration_operations import CreateDatabaseObject
from healthcare.rls.operations import RowSecurity

# The planner must not expect to meet one owner's rows by chance, however few owners there are yet. With two owners in
# its statistics it would read the rows of both, newest first, until a page is full. Hence n_distinct.



class Migration(migrations.Migration):
    dependencies = [("mappings", "0001_initial"), ("patients", "0002_row_level_security"), ("doctors", "0002_row_level_security")]
    operations = [
        RowSecurity(
            "Mapping",
            """
            ALTER TABLE mappings_mapping ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON mappings_mapping TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint))
                WITH CHECK (
                    created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id)
                );
            GRANT SELECT, INSERT, UPDATE ON mappings_mapping TO healthcare_api;
            ALTER TABLE mappings_mapping ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "MappingEvent",
            """
            ALTER TABLE mappings_mappingevent ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON mappings_mappingevent FOR SELECT TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON mappings_mappingevent TO healthcare_api;
            ALTER TABLE mappings_mappingevent ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        # Database objects
        CreateDatabaseObject("refuse_to_delete_a_treating_doctor", """
CREATE OR REPLACE FUNCTION refuse_to_delete_a_treating_doctor() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM mappings_mapping m JOIN patients_patient p ON p.id = m.patient_id
        WHERE m.doctor_id = NEW.id AND m.ended_at IS NULL AND p.deleted_at IS NULL
    ) THEN
        RAISE restrict_violation USING MESSAGE = 'This doctor treats patients; end those assignments first.';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER refuse_to_delete_a_treating_doctor BEFORE UPDATE OF deleted_at ON doctors_doctor
FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
EXECUTE FUNCTION refuse_to_delete_a_treating_doctor();
""", """
DROP TRIGGER refuse_to_delete_a_treating_doctor ON doctors_doctor;
DROP FUNCTION refuse_to_delete_a_treating_doctor();
"""),
        CreateDatabaseObject("end_assignments_to_deleted_doctors", """
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
""", """
DROP TRIGGER end_assignments_to_deleted_doctors ON patients_patient;
DROP FUNCTION end_assignments_to_deleted_doctors();
"""),
    ]
