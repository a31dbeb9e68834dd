from django.db import migrations

from healthcare.rls.operations import RowSecurity

OWNER = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) "
    "THEN nullif(current_setting('app.user_id', true), '')::bigint "
    "WHEN current_setting('app.user_id', true) <> '' "
    "AND current_setting('app.owner_role', true) IN ('read', 'write', 'manage') "
    "THEN current_setting('app.owner_id', true)::bigint END)"
)
# Both sides see a transfer. The API changes it, and moves the patient, with the rights of the tables' owner, after its
# own checks.


class Migration(migrations.Migration):
    dependencies = [("patients", "0022_transfers"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "PatientTransfer",
            f"""
            ALTER TABLE patients_patienttransfer ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patienttransfer FOR SELECT TO healthcare_api
                USING (from_owner_id = {OWNER} OR to_owner_id = {OWNER});
            GRANT SELECT ON patients_patienttransfer TO healthcare_api;
            """,
        ),
    ]
