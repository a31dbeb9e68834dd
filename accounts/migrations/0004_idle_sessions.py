import django.utils.timezone
from django.db import migrations, models

from healthcare.migration_operations import CreateDatabaseObject


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_login_addresses")]

    operations = [
        # For the sessions that exist, the grace of their last rotation begins once more.
        migrations.AddField(
            model_name="loginsession",
            name="rotated_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
            preserve_default=False,
        ),
        CreateDatabaseObject(
            "record_session_use",
            """
CREATE OR REPLACE FUNCTION record_session_use(session_id bigint) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE accounts_loginsession SET last_used_at = now() WHERE id IN (
        SELECT s.id FROM accounts_loginsession s WHERE s.id = session_id FOR NO KEY UPDATE SKIP LOCKED);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION record_session_use(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION record_session_use(bigint) TO healthcare_api;
""",
            "DROP FUNCTION record_session_use(bigint);",
        ),
        # Where an authentication follows another one in a transaction, the role is already the API's.
        migrations.RunSQL(
            "GRANT UPDATE (last_used_at) ON accounts_loginsession TO healthcare_api;",
            "REVOKE UPDATE (last_used_at) ON accounts_loginsession FROM healthcare_api;",
        ),
    ]
