from django.db import migrations

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "UserEvent",
            """
            ALTER TABLE audit_userevent ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON audit_userevent FOR SELECT TO healthcare_api
                USING (id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON audit_userevent TO healthcare_api;
            """,
        ),
        RowSecurity(
            "AccessLog",
            """
            ALTER TABLE audit_accesslog ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON audit_accesslog TO healthcare_api
                USING (actor = (SELECT nullif(current_setting('app.user_id', true), '')::bigint))
                WITH CHECK (actor = (SELECT nullif(current_setting('app.user_id', true), '')::bigint) AND basis = 'owner');
            GRANT INSERT ON audit_accesslog TO healthcare_api;
            """,
        ),
    ]
