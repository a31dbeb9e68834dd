from django.db import migrations

from healthcare.rls.operations import RowSecurity

# An answer may hold health data and must not stay because its caller never comes back: each new answer and each login
# removes what has expired, whoever it belongs to. SECURITY DEFINER, since a caller sees only their own; at most 100
# rows at a time, and never waiting for another transaction that removes the same.
FORGET = """
CREATE FUNCTION forget_expired_answers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM api_idempotencyrecord WHERE digest IN (
        SELECT digest FROM api_idempotencyrecord WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;
CREATE TRIGGER forget_expired_answers AFTER INSERT ON api_idempotencyrecord
FOR EACH STATEMENT EXECUTE FUNCTION forget_expired_answers();
CREATE TRIGGER forget_expired_answers AFTER INSERT ON accounts_loginsession
FOR EACH STATEMENT EXECUTE FUNCTION forget_expired_answers();
"""
KEEP = """
DROP TRIGGER forget_expired_answers ON accounts_loginsession;
DROP TRIGGER forget_expired_answers ON api_idempotencyrecord;
DROP FUNCTION forget_expired_answers();
"""

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
        migrations.RunSQL(FORGET, KEEP),
    ]
