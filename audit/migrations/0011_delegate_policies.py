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
# The actor is the caller; the basis says whether the records are the caller's own.


class Migration(migrations.Migration):
    dependencies = [("audit", "0010_delegates")]
    operations = [
        RowSecurity(
            "AccessLog",
            f"""
            DROP POLICY own ON audit_accesslog;
            CREATE POLICY own ON audit_accesslog TO healthcare_api
                USING (actor = {CALLER})
                WITH CHECK (
                    actor = {CALLER}
                    AND basis = CASE WHEN {OWNER} = {CALLER} THEN 'owner' ELSE 'delegate' END
                );
            """,
            f"""
            DROP POLICY own ON audit_accesslog;
            CREATE POLICY own ON audit_accesslog TO healthcare_api
                USING (actor = {CALLER})
                WITH CHECK (actor = {CALLER} AND basis = 'owner');
            """,
        ),
    ]
