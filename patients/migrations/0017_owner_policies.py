from django.db import migrations

from healthcare.rls.operations import RowSecurity

CALLER = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
OWNER = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) "
    "THEN nullif(current_setting('app.user_id', true), '')::bigint "
    "WHEN current_setting('app.user_id', true) <> '' "
    "AND current_setting('app.owner_role', true) IN ('read', 'write', 'manage') "
    "THEN current_setting('app.owner_id', true)::bigint END)"
)
# What the caller may do with the owner's records.
ROLE = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) THEN 'manage' "
    "ELSE coalesce(current_setting('app.owner_role', true), '') END)"
)
# Records belong to the owner whom the request acts for, which is the caller unless a delegate acts. The restrictive
# policies admit what the delegate's role allows: `write` creates and changes, `manage` also deletes and restores.


class Migration(migrations.Migration):
    dependencies = [("patients", "0016_acting_for")]
    operations = [
        RowSecurity(
            "Patient",
            f"""
            CREATE OR REPLACE FUNCTION is_own_patient(patient bigint) RETURNS boolean
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
                SELECT EXISTS (
                    SELECT FROM patients_patient
                    WHERE id = patient AND created_by_id = {OWNER}
                );
            $$;
            DROP POLICY own ON patients_patient;
            CREATE POLICY own ON patients_patient TO healthcare_api
                USING (created_by_id = {OWNER})
                WITH CHECK (
                    created_by_id = {OWNER}
                    AND (merged_into_id IS NULL OR is_own_patient(merged_into_id))
                );
            CREATE POLICY role_of_insert ON patients_patient AS RESTRICTIVE FOR INSERT TO healthcare_api
                WITH CHECK ({ROLE} IN ('write', 'manage'));
            CREATE POLICY role_of_update ON patients_patient AS RESTRICTIVE FOR UPDATE TO healthcare_api
                USING ({ROLE} = 'manage' OR ({ROLE} = 'write' AND deleted_at IS NULL));
            """,
            f"""
            DROP POLICY role_of_update ON patients_patient;
            DROP POLICY role_of_insert ON patients_patient;
            DROP POLICY own ON patients_patient;
            CREATE OR REPLACE FUNCTION is_own_patient(patient bigint) RETURNS boolean
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
                SELECT EXISTS (
                    SELECT FROM patients_patient
                    WHERE id = patient AND created_by_id = {CALLER}
                );
            $$;
            CREATE POLICY own ON patients_patient TO healthcare_api
                USING (created_by_id = {CALLER})
                WITH CHECK (
                    created_by_id = {CALLER}
                    AND (merged_into_id IS NULL OR is_own_patient(merged_into_id))
                );
            """,
        ),
        RowSecurity(
            "PatientMerge",
            f"""
            DROP POLICY own ON patients_patientmerge;
            CREATE POLICY own ON patients_patientmerge TO healthcare_api
                USING (created_by_id = {OWNER})
                WITH CHECK (
                    created_by_id = {OWNER}
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = survivor_id)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = duplicate_id)
                );
            CREATE POLICY role_of_insert ON patients_patientmerge AS RESTRICTIVE FOR INSERT TO healthcare_api
                WITH CHECK ({ROLE} = 'manage');
            CREATE POLICY role_of_update ON patients_patientmerge AS RESTRICTIVE FOR UPDATE TO healthcare_api
                USING ({ROLE} = 'manage');
            """,
            f"""
            DROP POLICY role_of_update ON patients_patientmerge;
            DROP POLICY role_of_insert ON patients_patientmerge;
            DROP POLICY own ON patients_patientmerge;
            CREATE POLICY own ON patients_patientmerge TO healthcare_api
                USING (created_by_id = {CALLER})
                WITH CHECK (
                    created_by_id = {CALLER}
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = survivor_id)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = duplicate_id)
                );
            """,
        ),
        RowSecurity(
            "PatientTerm",
            f"""
            DROP POLICY own ON patients_patientterm;
            CREATE POLICY own ON patients_patientterm FOR SELECT TO healthcare_api
                USING (owner = {OWNER});
            """,
            f"""
            DROP POLICY own ON patients_patientterm;
            CREATE POLICY own ON patients_patientterm FOR SELECT TO healthcare_api
                USING (owner = {CALLER});
            """,
        ),
        RowSecurity(
            "PatientWord",
            f"""
            DROP POLICY own ON patients_patientword;
            CREATE POLICY own ON patients_patientword FOR SELECT TO healthcare_api
                USING (owner = {OWNER});
            """,
            f"""
            DROP POLICY own ON patients_patientword;
            CREATE POLICY own ON patients_patientword FOR SELECT TO healthcare_api
                USING (owner = {CALLER});
            """,
        ),
    ]
