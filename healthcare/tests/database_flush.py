"""A fast flush after tests that commit: Django's truncates every table and sends post_migrate, which takes 0.2 s."""

from collections.abc import Iterable
from functools import lru_cache

from django.db import connection, transaction
from django.test import TransactionTestCase

# Migrations fill them, and no test of ours changes them, but that it adds groups.
LEFT_ALONE = {
    "django_content_type", "auth_permission", "auth_group", "auth_group_permissions", "staff_roles_staffrole",
    "exports_serverid",
}  # fmt: skip
ADDED_GROUPS = "(SELECT id FROM auth_group EXCEPT SELECT group_id FROM staff_roles_staffrole)"
DELETE_ADDED_GROUPS = f"""
    DELETE FROM auth_group_permissions WHERE group_id IN {ADDED_GROUPS};
    DELETE FROM auth_group WHERE id IN {ADDED_GROUPS}"""  # noqa: S608
SUPERUSER_OR_GRANTABLE = """
    SELECT rolsuper, current_setting('server_version_num')::int >= 150000 FROM pg_roles WHERE rolname = current_user"""


@lru_cache
def may_switch_triggers_off() -> bool:
    """Whether the login is a superuser or has been granted this, as the fixture of conftest does (PostgreSQL 15)."""
    with connection.cursor() as cursor:
        cursor.execute(SUPERUSER_OR_GRANTABLE)
        superuser, grantable = cursor.fetchone()
        if superuser or not grantable:
            return bool(superuser)
        cursor.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')")
        return bool(cursor.fetchone()[0])


@lru_cache
def flushed_tables(database: str) -> tuple[str, ...]:
    """The tables that Django's flush would empty, without LEFT_ALONE."""
    existing = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return tuple(sorted({*existing} - LEFT_ALONE))


def flush_database() -> None:
    """Delete every row of the models' tables. Sequences go on, as after Django's flush."""
    quote = connection.ops.quote_name
    tables = [quote(table) for table in flushed_tables(str(connection.settings_dict["NAME"]))]
    filled = " UNION ALL ".join(f"SELECT %s WHERE EXISTS (SELECT FROM {table})" for table in tables)  # noqa: S608
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(filled, tables)
        found = [table for (table,) in cursor.fetchall()]
        if found:
            cursor.execute(delete(found) if may_switch_triggers_off() else f"TRUNCATE {', '.join(found)} CASCADE")
        cursor.execute(DELETE_ADDED_GROUPS)


def delete(tables: Iterable[str]) -> str:
    """Deletes without triggers, so that append-only tables and foreign keys do not refuse."""
    statements = [f"DELETE FROM {table}" for table in tables]  # noqa: S608  (names from the models)
    return "; ".join(["SET LOCAL session_replication_role = replica", *statements])


def install() -> None:
    """Let every transactional test end with `flush_database`."""

    def tear_down(_: TransactionTestCase) -> None:
        flush_database()

    TransactionTestCase._fixture_teardown = tear_down  # type: ignore[attr-defined]
