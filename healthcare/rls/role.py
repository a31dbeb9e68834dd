"""The role of API requests: what is wrong with it on this server, and the statements that put it right.

A role belongs to the server and is in no dump of a database, so a database restored elsewhere lacks it.
"""

import psycopg2
from django.core.management.base import CommandError
from django.db import ProgrammingError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.embedded.base import DatabaseWrapper
from healthcare.embedded.login import ensure_login
from healthcare.rls import ROLE

# With one of these a request could read around the policies, or an attacker could log in as the role.
FORBIDDEN = {
    "rolsuper": "SUPERUSER",
    "rolbypassrls": "BYPASSRLS",
    "rolcanlogin": "LOGIN",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolreplication": "REPLICATION",
}
READ_ROLE = f"""
SELECT {", ".join(FORBIDDEN)}, pg_has_role(oid, %s), pg_has_role(oid, 'MEMBER'),
    ARRAY(SELECT quote_ident(pg_get_userbyid(roleid)) FROM pg_auth_members WHERE member = pg_roles.oid),
    has_schema_privilege(oid, 'public', 'USAGE')
FROM pg_roles WHERE rolname = '{ROLE}'
"""  # noqa: S608  (constants alone)


def role_statements(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """What is wrong with the role, each with the statement that puts it right; empty if nothing is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('server_version_num')::int")
        login, version = cursor.fetchone()
        # From PostgreSQL 16 on a member may lack the right to become the role.
        cursor.execute(READ_ROLE, ["SET" if version >= 160000 else "MEMBER"])
        row = cursor.fetchone()
    usage = {f"{ROLE} may not use the schema public": f"GRANT USAGE ON SCHEMA public TO {ROLE}"}
    grant = f"GRANT {ROLE} TO {connection.ops.quote_name(login)}"
    member = {f"{login} may not use {ROLE}": grant}
    if row is None:
        return {f"{ROLE} is missing": f"CREATE ROLE {ROLE} NOLOGIN"} | member
    *attributes, may_use, is_member, memberships, may_enter = row
    if is_member:
        member = {f"{login} may not use {ROLE}": f"{grant} WITH SET TRUE"}
    wrong = {
        f"{ROLE} is {attribute}": f"ALTER ROLE {ROLE} NO{attribute}"
        for attribute, held in zip(FORBIDDEN.values(), attributes, strict=True)
        if held
    }
    wrong |= {f"{ROLE} is a member of {parent}": f"REVOKE {parent} FROM {ROLE}" for parent in memberships}
    return wrong | ({} if may_use else member) | ({} if may_enter else usage)


def restore_role(connection: BaseDatabaseWrapper) -> list[str]:
    """Create the role or correct it, and return what was wrong.

    Raises CommandError with the statements for an administrator if the database user may not.
    """
    if isinstance(connection, DatabaseWrapper):
        restore_role_as_superuser(connection)
    wrong = role_statements(connection)
    if not wrong:
        return []
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            for statement in wrong.values():
                cursor.execute(statement)
    except ProgrammingError as error:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT current_user, to_regrole('{ROLE}') IS NOT NULL")
            login, exists = cursor.fetchone()
        needed = "; ".join(wrong.values())
        raise CommandError(
            f"The database user {login} may not {'use' if exists else 'create'} the role {ROLE}. Have an administrator "
            f"of the database run once: {needed}; then run this command again."
        ) from error
    return [*wrong]


def restore_role_as_superuser(connection: DatabaseWrapper) -> None:
    """The embedded server has a superuser that nobody but this machine's account reaches."""
    if role_statements(connection):
        ensure_login(connection.home)
    wrong = role_statements(connection)
    if wrong:
        parameters = connection.get_superuser_params()
        parameters.pop("cursor_factory", None)
        session = psycopg2.connect(**parameters)
        try:
            with session, session.cursor() as cursor:
                cursor.execute("; ".join(wrong.values()))
        finally:
            session.close()
