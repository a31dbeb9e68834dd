from django.db import migrations

from healthcare.rls.operations import RowSecurity

CALLER = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
OWNER = (
    "(SELECT coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "nullif(current_setting('app.user_id', true), ''))::bigint)"
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
