"""Compares the access in the database with what the migrations declare, and puts back what differs.

PostgreSQL itself says what the declaration means: its statements run on temporary copies of the relations, without
rows, in a transaction that is rolled back. The catalogs of the copies are then compared with those of the relations.
So nothing is locked or written unless something differs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from django.core.management.base import CommandError
from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from healthcare.migration_operations import retry_while_locked
from healthcare.rls import ROLE
from healthcare.rls.declaration import Declaration, DeclarationError, declared_access
from healthcare.rls.privileges import NARROW_RELATIONS, RESTRICT_FUNCTIONS, UNRESTRICTED_FUNCTIONS
from healthcare.rls.role import role_statements

MIGRATION_OF_THE_ROLE = ("rls", "0001_role")
POLICY_LOCK_TIMEOUT = "500ms"
# Only what API requests run with: policies and privileges of the role and of PUBLIC. Others are the operator's own.
READ_RELATIONS = f"""
SELECT relname, relkind, relrowsecurity, relforcerowsecurity, coalesce((
    SELECT json_object_agg(polname, json_build_array(
        polcmd, polpermissive,
        ARRAY(
            SELECT CASE role WHEN 0 THEN 'public' ELSE pg_get_userbyid(role) END FROM unnest(polroles) role ORDER BY 1),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)))
    FROM pg_policy WHERE polrelid = class.oid AND polroles && ARRAY[0, to_regrole('{ROLE}')::oid]
), '{{}}')::text, coalesce((
    SELECT json_agg(json_build_array(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE '{ROLE}' END, privilege_type, attname))
    FROM (
        SELECT grantee, privilege_type, NULL::name AS attname FROM aclexplode(relacl)
        UNION ALL
        SELECT grantee, privilege_type, attname FROM pg_attribute, aclexplode(attacl) WHERE attrelid = class.oid
    ) granted WHERE grantee IN (0, to_regrole('{ROLE}')::oid)
), '[]')::text
FROM pg_class class
WHERE relnamespace = %s AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
AND (relname = ANY (%s) OR pg_has_role(relowner, 'USAGE'))
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = class.oid AND deptype = 'e')
"""  # noqa: S608  (constants alone)


@dataclass(frozen=True)
class AccessGap:
    """Something in the database that differs from what the migrations declare. `name` says what, for the operator."""

    check: Literal["role", "policies", "grants"]
    name: str


@dataclass(frozen=True)
class Relation:
    """The access to one relation. A privilege is (grantee, privilege, column or None for the whole relation)."""

    kind: str = "r"
    row_security: bool = False
    forced: bool = False
    policies: dict[str, Any] = field(default_factory=dict)
    privileges: frozenset[tuple[str, str, str | None]] = frozenset()

    @property
    def is_table(self) -> bool:
        return self.kind in "rp"


Relations = dict[str, Relation]


@cache
def loader_of_disk() -> MigrationLoader:
    return MigrationLoader(None)


@dataclass(frozen=True)
class Declared:
    """The declaration of the applied migrations. `newer`: a newer release has migrated this database, so that its
    declaration is not known here."""

    applied: frozenset[tuple[str, str]]
    access: Declaration
    newer: bool


def read_declaration(connection: BaseDatabaseWrapper) -> Declared | None:
    """None before the role's migration. Raises DeclarationError."""
    loader, applied = loader_of_disk(), read_applied(connection)
    if MIGRATION_OF_THE_ROLE not in applied:
        return None
    last = {app: max(name for label, name in loader.disk_migrations if label == app) for app in loader.migrated_apps}
    newer = any(app in last and name > last[app] for app, name in applied)
    return Declared(frozenset(applied), declared_access(loader, applied), newer)


def read_applied(connection: BaseDatabaseWrapper) -> set[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.django_migrations') IS NOT NULL")
        if cursor.fetchone() == (False,):
            return set()
        cursor.execute("SELECT app, name FROM public.django_migrations")
        return {(app, name) for app, name in cursor.fetchall()}


_expected: dict[tuple[Any, ...], Relations] = {}


def find_access_gaps(connection: BaseDatabaseWrapper) -> list[AccessGap]:
    """What of role, policies and grants differs from what the applied migrations declare; empty if nothing does.

    Call it as the application's login, outside a request's role. It locks nothing and writes nothing. What the
    declaration means is worked out once in a process, with a rolled-back transaction; a read-only server, or a login
    that may create no temporary tables, cannot do that, and then only the names of the policies are compared.
    """
    declared = read_declaration(connection)
    if declared is None:
        return []
    key = (connection.settings_dict["NAME"], *sorted(declared.applied))
    if key not in _expected:
        expected = read_expected(connection, declared)
        if expected is None:
            return compare_access(connection, declared, None)
        _expected.clear()
        _expected[key] = expected
    return compare_access(connection, declared, _expected[key])


def restore_access(connection: BaseDatabaseWrapper) -> list[AccessGap]:
    """Put back what differs, and return what that was. The role must exist: see `restore_role`.

    Raises CommandError if something cannot be put back.
    """
    try:
        declared = read_declaration(connection)
        if declared is None or declared.newer:
            return []
        expected = read_expected(connection, declared)
        gaps = compare_access(connection, declared, expected)
        if gaps:
            if expected is None:
                run_missing(connection, declared.access)
            else:
                put_back(connection, declared.access, expected)
            left = compare_access(connection, declared, expected)
            if left:
                raise CommandError(f"The database user may not put back {name_gaps(left)}; migrate as the owner.")
    except DeclarationError as error:
        raise CommandError(str(error)) from error
    return gaps


def name_gaps(gaps: list[AccessGap]) -> str:
    names = [gap.name for gap in gaps]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def compare_access(connection: BaseDatabaseWrapper, declared: Declared, expected: Relations | None) -> list[AccessGap]:
    """`expected` is None where it could not be worked out."""
    gaps = [AccessGap("role", name) for name in role_statements(connection)]
    found = read_relations(connection, "public", [*declared.access])
    if declared.newer or expected is None or role_is_missing(connection):
        return gaps + compare_names(declared, found)
    for name in sorted(found.keys() | expected.keys()):
        if name in found and name in expected:
            gaps += compare_relation(name, found[name], expected[name])
        elif name in found:
            nothing = Relation(row_security=found[name].row_security, forced=found[name].forced)
            gaps += compare_relation(name, found[name], nothing)
    with connection.cursor() as cursor:
        cursor.execute(UNRESTRICTED_FUNCTIONS)
        return gaps + [AccessGap("grants", f"EXECUTE on {name}") for (name, _) in cursor.fetchall()]


def compare_relation(name: str, found: Relation, expected: Relation) -> list[AccessGap]:
    gaps = []
    if (found.row_security, found.forced) != (expected.row_security, expected.forced):
        gaps.append(AccessGap("policies", f"row-level security of {name}"))
    for policy in sorted(found.policies.keys() | expected.policies.keys()):
        if found.policies.get(policy) != expected.policies.get(policy):
            gaps.append(AccessGap("policies", f"{name}.{policy}"))
    different = {privilege for _, privilege, _ in found.privileges ^ expected.privileges}
    return gaps + [AccessGap("grants", f"{privilege} on {name}") for privilege in sorted(different)]


def compare_names(declared: Declared, found: Relations) -> list[AccessGap]:
    """What can be said by the names alone. A newer release may have dropped a policy, but never switches a table's
    row-level security off."""
    gaps = []
    for name, access in declared.access.items():
        if name not in found or not access.row_security:
            continue
        if not found[name].row_security:
            gaps.append(AccessGap("policies", f"row-level security of {name}"))
        if not declared.newer:
            gaps += [
                AccessGap("policies", f"{name}.{policy}")
                for policy in access.policies.keys() - found[name].policies.keys()
            ]
            if access.privileges and not found[name].privileges:
                gaps.append(AccessGap("grants", f"privileges on {name}"))
    return gaps


def read_relations(connection: BaseDatabaseWrapper, schema: str, declared: list[str]) -> Relations:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT CASE %s WHEN 'pg_temp' THEN pg_my_temp_schema() ELSE to_regnamespace(%s)::oid END", [schema] * 2
        )
        (namespace,) = cursor.fetchone()
        cursor.execute(READ_RELATIONS, [namespace, declared])
        return {
            name: Relation(kind, security, forced, json.loads(policies), frozenset(map(tuple, json.loads(privileges))))
            for name, kind, security, forced, policies, privileges in cursor.fetchall()
        }


def read_expected(connection: BaseDatabaseWrapper, declared: Declared) -> Relations | None:
    """The access that the declaration gives to the relations that exist, or None if no temporary table can be created.

    Raises DeclarationError if a statement does not fit the relations any more.
    """
    if declared.newer or role_is_missing(connection):
        return None
    existing = read_relations(connection, "public", [*declared.access])
    with rolled_back(connection) as cursor:
        cursor.execute(
            "SELECT current_setting('transaction_read_only')::bool "
            "OR NOT has_database_privilege(current_database(), 'TEMPORARY')"
        )
        if cursor.fetchone() == (True,):
            return None
        copied = [name for name in declared.access if name in existing]
        for name in copied:  # all of them first: a policy may refer to any of them
            create_copy(cursor, name, existing[name])
        for name in copied:
            run_declaration(cursor, name, declared.access[name].statements(name))
        cursor.execute(NARROW_RELATIONS.format(namespace="pg_my_temp_schema()"))
        return read_relations(connection, "pg_temp", [])


def role_is_missing(connection: BaseDatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regrole(%s) IS NULL", [ROLE])
        return bool(cursor.fetchone()[0])


def create_copy(cursor: Any, name: str, relation: Relation) -> None:
    if relation.kind == "S":
        cursor.execute(f'CREATE TEMPORARY SEQUENCE "{name}"')
    else:
        cursor.execute(f'CREATE TEMPORARY TABLE "{name}" (LIKE public."{name}")')


def run_declaration(cursor: Any, name: str, statements: list[str]) -> None:
    try:
        for statement in statements:
            cursor.execute(statement)
    except DatabaseError as error:
        reason = error.__cause__.diag.message_primary if error.__cause__ else ""  # type: ignore[attr-defined]
        raise DeclarationError(
            f"What the migrations declare for {name} does not fit its columns any more ({reason}). Drop its policies "
            "and revoke its privileges in the migration that changes them, and declare them again there."
        ) from error


@contextmanager
def rolled_back(connection: BaseDatabaseWrapper) -> Iterator[Any]:
    """A transaction, or a savepoint within one, on this very connection: it need not be the one of its alias."""
    if connection.get_autocommit():
        connection.set_autocommit(False)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.rollback()
            connection.set_autocommit(True)
    else:
        savepoint = connection.savepoint()
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.savepoint_rollback(savepoint or "")


def run_missing(connection: BaseDatabaseWrapper, declared: Declaration) -> None:
    """Run what the declaration says of the relations and policies that are missing by name."""
    found = read_relations(connection, "public", [*declared])
    for name, access in declared.items():
        if name in found:
            statements = [] if found[name].row_security else access.row_security_sql(name)
            for policy in access.policies.keys() - found[name].policies.keys():
                statements += access.policy_sql(name, policy)
            execute_when_unlocked(connection, name, statements + access.privilege_sql(name))
    with connection.cursor() as cursor:
        cursor.execute(NARROW_RELATIONS.format(namespace="'public'::regnamespace"))
        cursor.execute(RESTRICT_FUNCTIONS)


def put_back(connection: BaseDatabaseWrapper, declared: Declaration, expected: Relations) -> None:
    found = read_relations(connection, "public", [*declared])
    for name in sorted(found):
        wanted = expected.get(name, Relation(row_security=found[name].row_security, forced=found[name].forced))
        statements = [
            *policy_statements(name, found[name], wanted, declared),
            *privilege_statements(name, found[name], wanted),
        ]
        if statements:
            execute_when_unlocked(connection, name, statements)
    with connection.cursor() as cursor:
        cursor.execute(RESTRICT_FUNCTIONS)


def execute_when_unlocked(connection: BaseDatabaseWrapper, relation: str, statements: list[str]) -> None:
    """Execute in one transaction. While a policy waits for its lock, later readers wait too: so give up after half a
    second, and try again. A caller that is in a transaction decides itself how long it waits."""

    def execute() -> None:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            if not is_nested:
                cursor.execute(f"SET LOCAL lock_timeout = '{POLICY_LOCK_TIMEOUT}'")
            for statement in statements:
                cursor.execute(statement)

    is_nested = connection.in_atomic_block
    if is_nested:
        execute()
        return
    error_text = (
        f"Other transactions keep {relation} locked, so its row-level security could not be put back. End them "
        "(pg_stat_activity), then migrate again."
    )
    retry_while_locked(execute, error_text, pause=1.0)


def policy_statements(name: str, found: Relation, wanted: Relation, declared: Declaration) -> Iterator[str]:
    if wanted.is_table and found.row_security != wanted.row_security:
        yield f'ALTER TABLE public."{name}" {"ENABLE" if wanted.row_security else "DISABLE"} ROW LEVEL SECURITY'
    if wanted.is_table and found.forced != wanted.forced:
        yield f'ALTER TABLE public."{name}" {"" if wanted.forced else "NO "}FORCE ROW LEVEL SECURITY'
    for policy in sorted(found.policies.keys() | wanted.policies.keys()):
        if found.policies.get(policy) == wanted.policies.get(policy):
            continue
        yield f'DROP POLICY IF EXISTS "{policy}" ON public."{name}"'
        if policy in wanted.policies:
            yield from declared[name].policy_sql(name, policy)


def privilege_statements(name: str, found: Relation, wanted: Relation) -> Iterator[str]:
    """REVOKE ALL on a table revokes the privileges on its columns too."""
    if found.privileges == wanted.privileges:
        return
    kind = "SEQUENCE " if found.kind == "S" else ""
    for grantee in sorted({grantee for grantee, _, _ in found.privileges}):
        yield f'REVOKE ALL ON {kind}public."{name}" FROM {grantee}'
    columns: dict[tuple[str, str], list[str]] = {}
    for grantee, privilege, column in sorted(wanted.privileges, key=str):
        if column is None:
            yield f'GRANT {privilege} ON {kind}public."{name}" TO {grantee}'
        else:
            columns.setdefault((grantee, privilege), []).append(f'"{column}"')
    for (grantee, privilege), names in columns.items():
        yield f'GRANT {privilege} ({", ".join(names)}) ON public."{name}" TO {grantee}'
