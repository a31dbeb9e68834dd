from django.db import migrations

from healthcare.rls.operations import RowSecurity

CALLER = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
# Whose records the request works on: the caller's, or those of the owner for whom a delegate acts.
OWNER = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) "
    "THEN nullif(current_setting('app.user_id', true), '')::bigint "
    "WHEN current_setting('app.user_id', true) <> '' "
    "AND current_setting('app.owner_role', true) IN ('read', 'write', 'manage') "
    "THEN current_setting('app.owner_id', true)::bigint END)"
)


class Migration(migrations.Migration):
    dependencies = [("fhir", "0001_initial"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "BulkExport",
            f"""
            ALTER TABLE fhir_bulkexport ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON fhir_bulkexport TO healthcare_api
                USING (created_by_id = {OWNER})
                WITH CHECK (created_by_id = {OWNER});
            CREATE POLICY of_caller ON fhir_bulkexport AS RESTRICTIVE TO healthcare_api
                USING (caller_id = {CALLER})
                WITH CHECK (caller_id = {CALLER});
            GRANT SELECT, INSERT, DELETE ON fhir_bulkexport TO healthcare_api;
            ALTER TABLE fhir_bulkexport ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
    ]
