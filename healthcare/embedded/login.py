"""The role that the application logs in as: no superuser, and the owner of the database and of everything in it.

A statement that an attacker gets into a request can then not read the server's files, run its programs or create roles.
A data directory of a version that logged in as the superuser gets the role on its first start, and so do objects that
the superuser has restored from a dump.
"""

import psycopg2

from healthcare.embedded.cluster import SUPERUSER
from healthcare.embedded.errors import EmbeddedError
from healthcare.embedded.home import POSTGRES_PORT, Home
from healthcare.embedded.url import DATABASE_NAME

LOGIN = "healthcare"

# One transaction; the lock lets one process at a time do it. The role of API requests is created here, because LOGIN
# may not create roles. Extensions, and the functions that belong to them, stay the superuser's. An identity sequence
# follows its table.
ENSURE_LOGIN = f"""
SELECT pg_advisory_xact_lock(7234150942);
DO $$
DECLARE
    statement text;
BEGIN
    IF to_regrole('{LOGIN}') IS NULL THEN
        CREATE ROLE {LOGIN} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
    IF to_regrole('healthcare_api') IS NULL THEN
        CREATE ROLE healthcare_api NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
    IF NOT pg_has_role('{LOGIN}', 'healthcare_api', 'MEMBER') THEN
        GRANT healthcare_api TO {LOGIN};
    END IF;
    FOR statement IN
        SELECT format('ALTER DATABASE %I OWNER TO {LOGIN}', datname) FROM pg_database
        WHERE datname = current_database() AND datdba = '{SUPERUSER}'::regrole
        UNION ALL
        SELECT format(
            'ALTER %s %s OWNER TO {LOGIN}',
            CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                ELSE 'TABLE' END,
            oid::regclass)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner = '{SUPERUSER}'::regrole
        AND relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT EXISTS (
            SELECT FROM pg_depend
            WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('a', 'e', 'i'))
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO {LOGIN}', oid::regprocedure)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner = '{SUPERUSER}'::regrole
        AND NOT EXISTS (
            SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
"""  # noqa: S608  (constants alone)


def ensure_login(home: Home) -> None:
    """Create the role on the running server, unless it exists, and make it the owner of what the superuser owns.

    Raises EmbeddedError if the server refuses.
    """
    try:
        session = psycopg2.connect(
            host=str(home.socket_folder), port=POSTGRES_PORT, user=SUPERUSER, dbname=DATABASE_NAME
        )
        try:
            with session, session.cursor() as cursor:
                cursor.execute(ENSURE_LOGIN)
        finally:
            session.close()
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise EmbeddedError(
            f"The embedded PostgreSQL in {home.folder} could not be prepared for its role {LOGIN}: {reason}."
        ) from error
