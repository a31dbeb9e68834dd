from django.db import migrations

from healthcare.rls.operations import RowSecurity

# The planner must not expect to meet one owner's rows by chance, however few owners there are yet. With two owners in
# its statistics it would read the rows of both, newest first, until a page is full. Hence n_distinct.


class Migration(migrations.Migration):
    dependencies = [("api", "0001_initial"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "IdempotencyRecord",
            """
            ALTER TABLE api_idempotencyrecord ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON api_idempotencyrecord TO healthcare_api
                USING (user_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT, INSERT, DELETE ON api_idempotencyrecord TO healthcare_api;
            ALTER TABLE api_idempotencyrecord ALTER COLUMN user_id SET (n_distinct = 100);
            """,
        ),
    ]
