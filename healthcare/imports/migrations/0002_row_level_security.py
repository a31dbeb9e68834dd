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
# What the caller may do with them.
ROLE = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) THEN 'manage' "
    "ELSE coalesce(current_setting('app.owner_role', true), '') END)"
)


class Migration(migrations.Migration):
    dependencies = [("imports", "0001_initial"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "Import",
            f"""
            ALTER TABLE imports_import ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON imports_import TO healthcare_api
                USING (created_by_id = {OWNER})
                WITH CHECK (created_by_id = {OWNER});
            CREATE POLICY role_of_insert ON imports_import AS RESTRICTIVE FOR INSERT TO healthcare_api
                WITH CHECK (caller = {CALLER} AND {ROLE} = 'manage');
            CREATE POLICY role_of_update ON imports_import AS RESTRICTIVE FOR UPDATE TO healthcare_api
                USING ({ROLE} = 'manage');
            GRANT SELECT, INSERT, UPDATE (summary, undone_at) ON imports_import TO healthcare_api;
            ALTER TABLE imports_import ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "ImportedLine",
            f"""
            ALTER TABLE imports_importedline ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON imports_importedline TO healthcare_api
                USING (created_by_id = {OWNER})
                WITH CHECK (
                    created_by_id = {OWNER}
                    AND EXISTS (SELECT FROM imports_import i WHERE i.id = parent_id)
                );
            CREATE POLICY role_of_insert ON imports_importedline AS RESTRICTIVE FOR INSERT TO healthcare_api
                WITH CHECK ({ROLE} = 'manage');
            GRANT SELECT, INSERT ON imports_importedline TO healthcare_api;
            ALTER TABLE imports_importedline ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
    ]
