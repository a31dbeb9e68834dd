from django.db import migrations

from healthcare.rls.operations import RowSecurity
from healthcare.search.operations import KeepTerms

# The planner must not expect to meet one owner's rows by chance, however few owners there are yet. With two owners in
# its statistics it would read the rows of both, newest first, until a page is full. Hence n_distinct.

# One access row may name several patients. The view shows it to the owner of each, once for each patient, without the
# others. It reads with the rights of its own owner, because callers may not read the log; security_barrier evaluates
# the caller's conditions after the view's.
ACCESSES = """
CREATE VIEW audit_patientaccess WITH (security_barrier) AS
SELECT access.id, patient.id AS patient_id, access.at, access.actor, access.action, access.basis, access.request_id,
    access.outcome
FROM patients_patient patient, LATERAL (
    SELECT * FROM audit_accesslog WHERE patient_ids @> ARRAY[patient.id] ORDER BY id DESC
) access
WHERE patient.created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint);
GRANT SELECT ON audit_patientaccess TO healthcare_api;
"""

# A patient is merged into another patient of the same owner. SECURITY DEFINER: a policy that queries its own table with
# the caller's rights recurses without end.
IS_OWN_PATIENT = """
CREATE FUNCTION is_own_patient(patient bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM patients_patient
        WHERE id = patient AND created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
    );
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("patients", "0001_initial"), ("audit", "0002_row_level_security"), ("rls", "0001_role"), ("search", "0001_initial")]
    operations = [
        migrations.RunSQL(IS_OWN_PATIENT, "DROP FUNCTION is_own_patient"),
        RowSecurity(
            "Patient",
            """
            ALTER TABLE patients_patient ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patient TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint))
                WITH CHECK (
                    created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
                    AND (merged_into_id IS NULL OR is_own_patient(merged_into_id))
                );
            GRANT SELECT, INSERT, UPDATE ON patients_patient TO healthcare_api;
            ALTER TABLE patients_patient ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "PatientEvent",
            """
            ALTER TABLE patients_patientevent ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientevent FOR SELECT TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON patients_patientevent TO healthcare_api;
            ALTER TABLE patients_patientevent ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "PatientMerge",
            """
            ALTER TABLE patients_patientmerge ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientmerge TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint))
                WITH CHECK (
                    created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = survivor_id)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = duplicate_id)
                );
            GRANT SELECT, INSERT, UPDATE ON patients_patientmerge TO healthcare_api;
            ALTER TABLE patients_patientmerge ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "PatientTerm",
            """
            ALTER TABLE patients_patientterm ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientterm FOR SELECT TO healthcare_api
                USING (owner = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON patients_patientterm TO healthcare_api;
            """,
        ),
        RowSecurity(
            "PatientWord",
            """
            ALTER TABLE patients_patientword ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientword FOR SELECT TO healthcare_api
                USING (owner = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON patients_patientword TO healthcare_api;
            """,
        ),
        migrations.RunSQL(ACCESSES, "DROP VIEW audit_patientaccess"),
        KeepTerms(
            table="patients_patient", terms="patients_patientterm", words="patients_patientword",
            owner="created_by_id", successor="merged_into_id", name="name", identifier="identifier", phone="phone", email="email",
        ),
    ]
