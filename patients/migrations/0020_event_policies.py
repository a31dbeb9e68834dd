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
# An event belongs to the present owner of its record, whom a transfer writes to `pgh_owner_id`.


class Migration(migrations.Migration):
    dependencies = [("patients", "0019_event_owner_online")]
    operations = [
        RowSecurity(
            "PatientEvent",
            f"""
            DROP POLICY own ON patients_patientevent;
            CREATE POLICY own ON patients_patientevent FOR SELECT TO healthcare_api
                USING (coalesce(pgh_owner_id, created_by_id) = {OWNER});
            """,
            f"""
            DROP POLICY own ON patients_patientevent;
            CREATE POLICY own ON patients_patientevent FOR SELECT TO healthcare_api
                USING (created_by_id = {CALLER});
            """,
        ),
    ]
