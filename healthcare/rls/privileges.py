"""What the role of API requests, and everybody else, may do in the database. Applied after every `migrate`.

Migrations grant the role SELECT, INSERT and UPDATE on tables. This narrows the grants to columns, for the tables and
functions that exist by then:

- No UPDATE of a record's id, its creator or its time of creation. No INSERT with an id of the caller's choice, nor with
  the time `at` of an access: the column's default is the database's clock.
- Privileges on columns allow no LOCK TABLE above ROW EXCLUSIVE, which blocks nobody. One UPDATE or DELETE on a table
  would allow every lock mode.
- PUBLIC executes no function and creates neither temporary tables nor objects in `public`. Nobody calls a trigger
  function; PostgreSQL checks its EXECUTE privilege when the trigger is created, not when it fires.

A restored dump has the grants of the database it comes from, except those on the database itself: hence every time.
`healthcare.rls.access` applies NARROW_RELATIONS to copies of the relations, and grants what these then have.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.migration_operations import execute_with_messages
from healthcare.rls import ROLE

# Of the functions of this project, those whose privileges differ from the rule.
UNRESTRICTED_FUNCTIONS = f"""
SELECT routine.oid::regprocedure::text AS name, prorettype = 'trigger'::regtype AS fires
FROM pg_proc routine
WHERE pronamespace = 'public'::regnamespace AND pg_has_role(proowner, 'USAGE')
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = routine.oid AND deptype = 'e')
AND (has_function_privilege('public', routine.oid, 'EXECUTE')
    OR has_function_privilege('{ROLE}', routine.oid, 'EXECUTE') = (prorettype = 'trigger'::regtype))
"""  # noqa: S608  (constants alone)
RESTRICT_FUNCTIONS = f"""
DO $$
DECLARE
    target record;
BEGIN
    FOR target IN {UNRESTRICTED_FUNCTIONS} LOOP
        EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', target.name);
        EXECUTE format(
            CASE WHEN target.fires THEN 'REVOKE EXECUTE ON ROUTINE %s FROM {ROLE}'
            ELSE 'GRANT EXECUTE ON ROUTINE %s TO {ROLE}' END, target.name);
    END LOOP;
END $$;
"""
# `{{namespace}}` is an SQL expression for the schema's oid.
NARROW_RELATIONS = f"""
DO $$
DECLARE
    target record;
    chosen text;
BEGIN
    FOR target IN
        SELECT tables.oid, tables.oid::regclass AS name, privilege, unset
        FROM pg_class tables,
            (VALUES ('INSERT', ARRAY['id', 'at']), ('UPDATE', ARRAY['id', 'created_by_id', 'created_at']))
                AS limits(privilege, unset)
        WHERE relnamespace = {{namespace}} AND relkind IN ('r', 'p')
        AND (
            has_table_privilege('{ROLE}', tables.oid, privilege)
            -- Granted on columns, which may have become more since. Only records have UPDATE on all columns.
            OR has_any_column_privilege('{ROLE}', tables.oid, privilege) AND (privilege = 'INSERT' OR 2 = (
                SELECT count(*) FROM pg_attribute
                WHERE attrelid = tables.oid AND attname IN ('version', 'created_by_id') AND NOT attisdropped))
        )
    LOOP
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO chosen
        FROM pg_attribute
        WHERE attrelid = target.oid AND attnum > 0 AND NOT attisdropped AND attname <> ALL (target.unset);
        -- On a table this revokes the privilege on each of its columns too.
        EXECUTE format('REVOKE %s ON %s FROM {ROLE}', target.privilege, target.name);
        EXECUTE format('GRANT %s (%s) ON %s TO {ROLE}', target.privilege, chosen, target.name);
    END LOOP;
END $$;
"""  # noqa: S608  (constants alone)
CLOSE_DATABASE = """
DO $$
DECLARE
    wanted CONSTANT text := 'REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC';
BEGIN
    IF NOT has_database_privilege('public', current_database(), 'TEMPORARY')
        AND NOT has_schema_privilege('public', 'public', 'CREATE') THEN
        RETURN;
    END IF;
    IF (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()) THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
    IF (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
    IF has_database_privilege('public', current_database(), 'TEMPORARY')
        OR has_schema_privilege('public', 'public', 'CREATE') THEN
        RAISE WARNING USING MESSAGE = format(
            'Every role may create objects in this database. Have its owner run: ' || wanted || ';',
            current_database());
    END IF;
END $$;
"""


def close_database(connection: BaseDatabaseWrapper) -> None:
    """Let nobody but the owner create objects. Warns on stderr about what only the owner of the database can revoke."""
    execute_with_messages(connection, CLOSE_DATABASE)
