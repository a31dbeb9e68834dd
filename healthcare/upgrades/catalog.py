"""What migrations did to tables that existed before, read from PostgreSQL's catalogs.

It finds what the text of a migration hides: in DO blocks, functions, RunPython and the operations of libraries.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

SELECT_TABLES = """
SELECT relname, pg_relation_filenode(oid) FROM pg_class
WHERE relkind IN ('r', 'p', 'm') AND relnamespace = 'public'::regnamespace
"""
SELECT_INDEXES = """
SELECT index.relname, tables.relname, pg_relation_filenode(index.oid) FROM pg_index
JOIN pg_class index ON index.oid = indexrelid JOIN pg_class tables ON tables.oid = indrelid
WHERE tables.relnamespace = 'public'::regnamespace
"""
SELECT_COLUMNS = """
SELECT relname, attname, atttypid::regtype::text, attnotnull, atthasdef OR attidentity <> ''
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
"""
SELECT_CONSTRAINTS = """
SELECT conname, relname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE relnamespace = 'public'::regnamespace AND convalidated AND contype IN ('c', 'f')
"""
SELECT_SCANS = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = 'public'"


@dataclass
class Catalog:
    """Tables and indexes with their files, columns with type, NOT NULL and default, and constraints that are valid."""

    tables: dict[str, int]
    indexes: dict[tuple[str, str], int]
    columns: dict[tuple[str, str], tuple[str, bool, bool]]
    constraints: set[tuple[str, str]]

    def of_tables(self, names: Container[str]) -> "Catalog":
        return Catalog(
            tables={table: file for table, file in self.tables.items() if table in names},
            indexes={key: file for key, file in self.indexes.items() if key[1] in names},
            columns={key: column for key, column in self.columns.items() if key[0] in names},
            constraints={key for key in self.constraints if key[1] in names},
        )


def rows(connection: BaseDatabaseWrapper, query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def read_catalog(connection: BaseDatabaseWrapper) -> Catalog:
    return Catalog(
        tables=dict(rows(connection, SELECT_TABLES)),
        indexes={(name, table): file for name, table, file in rows(connection, SELECT_INDEXES)},
        columns={(table, column): tuple(rest) for table, column, *rest in rows(connection, SELECT_COLUMNS)},
        constraints={(name, table) for name, table in rows(connection, SELECT_CONSTRAINTS)},
    )


def count_scans(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """How often the session has read each table from beginning to end, lately."""
    return dict(rows(connection, SELECT_SCANS))


def compare_catalogs(before: Catalog, after: Catalog, *, in_transaction: bool) -> list[tuple[str, str]]:
    """Pairs of a rule and what broke it, for the tables of `before`.

    `in_transaction` says whether the migration held its locks to its end.
    """
    found = [("table-removed", table) for table in before.tables.keys() - after.tables.keys()]
    found += [("rewrite", table) for table, file in before.tables.items() if after.tables.get(table, file) != file] + [
        ("rewrite", f"{index} of {table}")
        for (index, table), file in before.indexes.items()
        if after.indexes.get((index, table), file) != file
    ]
    for (table, column), (kind, not_null, has_default) in after.columns.items():
        old = before.columns.get((table, column))
        if table in before.tables and old is None and not_null and not has_default:
            found.append(("required-column", f"{table}.{column}"))
        if old and old[0] != kind:
            found.append(("column-type", f"{table}.{column} was {old[0]} and is {kind}"))
        if old and not_null and not old[1]:
            found.append(("not-null", f"{table}.{column}"))
        if old and old[2] and not has_default:  # the version that still runs leaves the value to it
            found.append(("default-removed", f"{table}.{column}"))
    found += [
        ("column-removed", f"{table}.{column}")
        for table, column in before.columns.keys() - after.columns.keys()
        if table in after.tables
    ]
    if in_transaction:
        found += [
            ("index-in-transaction", f"{index} of {table}")
            for index, table in after.indexes.keys() - before.indexes.keys()
            if table in before.tables
        ] + [
            ("constraint-in-transaction", f"{name} of {table}")
            for name, table in after.constraints - before.constraints
            if table in before.tables
        ]
    return sorted(found)
