from django.db import migrations

from healthcare.rls.operations import RowSecurity

# The planner must not expect to meet one owner's rows by chance, however few owners there are yet. With two owners in
# its statistics it would read the rows of both, newest first, until a page is full. Hence n_distinct.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "User",
            """
            ALTER TABLE accounts_user ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON accounts_user TO healthcare_api
                USING (id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT, UPDATE (name, email, username, password) ON accounts_user TO healthcare_api;
            """,
        ),
        RowSecurity(
            "LoginSession",
            """
            ALTER TABLE accounts_loginsession ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON accounts_loginsession TO healthcare_api
                USING (user_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT, UPDATE (revoked_at) ON accounts_loginsession TO healthcare_api;
            ALTER TABLE accounts_loginsession ALTER COLUMN user_id SET (n_distinct = 100);
            """,
        ),
    ]
