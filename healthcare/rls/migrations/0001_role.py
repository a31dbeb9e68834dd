from django.db import migrations

from healthcare.migration_operations import RunSQLWithMessages

# The role of API requests: it cannot log in and owns nothing. Roles belong to the server, not to the database, so
# reversing leaves it.
CREATE_ROLE = """
DO $$
DECLARE
    may_create boolean;
    may_use boolean;
    may_grant boolean;
    is_there boolean;
BEGIN
    SELECT rolsuper OR rolcreaterole, role.oid IS NOT NULL,
        rolsuper OR coalesce(pg_has_role(login.oid, role.oid, 'MEMBER'), false),
        rolsuper OR coalesce(pg_has_role(login.oid, role.oid, 'MEMBER WITH ADMIN OPTION'), false)
    INTO may_create, is_there, may_use, may_grant
    FROM pg_roles login LEFT JOIN (SELECT oid FROM pg_roles WHERE rolname = 'healthcare_api') role ON true
    WHERE rolname = current_user;
    IF NOT (may_use OR may_grant OR (may_create AND NOT is_there)) THEN
        RAISE EXCEPTION USING ERRCODE = 'HC001', MESSAGE = format(
            'The database user %s may not %s the role healthcare_api. Have an administrator of the database run once: '
            '%sGRANT healthcare_api TO "%s"; then migrate again.',
            current_user, CASE WHEN is_there THEN 'use' ELSE 'create' END,
            CASE WHEN is_there THEN '' ELSE 'CREATE ROLE healthcare_api NOLOGIN; ' END, current_user);
    END IF;
    IF NOT is_there THEN
        BEGIN
            CREATE ROLE healthcare_api NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another database of this server created it at the same time
        END;
    END IF;
    IF NOT may_use THEN
        GRANT healthcare_api TO CURRENT_USER;
    END IF;
    GRANT USAGE ON SCHEMA public TO healthcare_api;
END $$;
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [RunSQLWithMessages(CREATE_ROLE, migrations.RunSQL.noop)]
