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
# policies admit what the delegate's role allows.


class Migration(migrations.Migration):
    dependencies = [("mappings", "0010_called_assignment"), ("patients", "0017_owner_policies")]
    operations = [
        RowSecurity(
            "Mapping",
            f"""
            DROP POLICY own ON mappings_mapping;
            CREATE POLICY own ON mappings_mapping TO healthcare_api
                USING (created_by_id = {OWNER})
                WITH CHECK (
                    created_by_id = {OWNER}
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id)
                );
            CREATE POLICY role_of_insert ON mappings_mapping AS RESTRICTIVE FOR INSERT TO healthcare_api
                WITH CHECK ({ROLE} IN ('write', 'manage'));
            CREATE POLICY role_of_update ON mappings_mapping AS RESTRICTIVE FOR UPDATE TO healthcare_api
                USING ({ROLE} IN ('write', 'manage'));
            """,
            f"""
            DROP POLICY role_of_update ON mappings_mapping;
            DROP POLICY role_of_insert ON mappings_mapping;
            DROP POLICY own ON mappings_mapping;
            CREATE POLICY own ON mappings_mapping TO healthcare_api
                USING (created_by_id = {CALLER})
                WITH CHECK (
                    created_by_id = {CALLER}
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id)
                );
            """,
        ),
    ]
