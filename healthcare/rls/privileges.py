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
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.migration_operations import execute_with_messages
from healthcare.rls import ROLE

NARROW = f"""
DO $$
DECLARE
    target record;
    chosen text;
    wanted CONSTANT text := 'REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC';
BEGIN
    IF to_regrole('{ROLE}') IS NULL THEN
        RETURN;
    END IF;
    FOR target IN
        SELECT routine.oid::regprocedure AS name, prorettype = 'trigger'::regtype AS fires
        FROM pg_proc routine
        WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND pg_has_role(proowner, 'USAGE')
        AND NOT EXISTS (
            SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = routine.oid AND deptype = 'e')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', target.name);
        EXECUTE format(
            CASE WHEN target.fires THEN 'REVOKE EXECUTE ON FUNCTION %s FROM {ROLE}'
            ELSE 'GRANT EXECUTE ON FUNCTION %s TO {ROLE}' END, target.name);
    END LOOP;
    FOR target IN
        SELECT tables.oid, tables.oid::regclass AS name, privilege, unset
        FROM pg_class tables,
            (VALUES ('INSERT', ARRAY['id', 'at']), ('UPDATE', ARRAY['id', 'created_by_id', 'created_at']))
                AS limits(privilege, unset)
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE')
        AND (
            has_table_privilege('{ROLE}', tables.oid, privilege)
            -- Narrowed before; the columns may have become more since. Only records have UPDATE on all columns.
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
"""  # noqa: S608  (constants alone)


def narrow_privileges(connection: BaseDatabaseWrapper) -> None:
    """Warns on stderr about what only the owner of the database can take away."""
    execute_with_messages(connection, NARROW)
