"""The check of new migrations: what would make readers or writers wait, or break the version that still runs.

A migration is applied to an empty database. Its SQL is read by squawk, and by the rules below for what squawk does not
know; PostgreSQL's catalogs tell what it did. Only tables that existed before count: nobody uses the others yet.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.contrib.postgres.operations import RemoveIndexConcurrently, ValidateConstraint
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState

from healthcare.migration_operations import AddIndexConcurrently, Backfill, CreateDatabaseObject
from healthcare.upgrades.catalog import compare_catalogs, count_scans, read_catalog
from healthcare.upgrades.executor import PatientExecutor, Step
from healthcare.upgrades.statements import executed_body, split_statements

# The others are about taste, or about what `migrate` and the catalogs take care of.
SQUAWK_RULES = frozenset({
    "adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field", "adding-required-field",
    "adding-serial-primary-key-field", "ban-drop-column", "ban-drop-table", "constraint-missing-not-valid",
    "disallowed-unique-constraint", "renaming-column", "renaming-table", "require-concurrent-index-creation",
    "require-concurrent-index-deletion", "require-concurrent-reindex", "syntax-error",
})  # fmt: skip
TABLE = r'(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?:public\.|"public"\.)?"?(\w+)'
TARGET = re.compile(
    rf"\b(?:TABLE|UPDATE|DELETE\s+FROM|TRUNCATE|CLUSTER|VIEW|FULL)\s+{TABLE}|\bINDEX\b.*?\bON\s+{TABLE}",
    re.I | re.DOTALL,
)
STRUCTURE = re.compile(r"ALTER\b|DROP\b|REINDEX\b|CREATE\s+(?:UNIQUE\s+)?INDEX\b|CREATE\s+TABLE\b", re.I)
DROPPED_INDEX = re.compile(rf"\A(?:DROP\s+INDEX|REINDEX\s+INDEX)\s+(?:CONCURRENTLY\s+)?{TABLE}", re.I)
ROW_CHANGE = re.compile(
    r"(?:\A|;|\bBEGIN\b|\bTHEN\b|\bLOOP\b|\bELSE\b|\)|')\s*(?:UPDATE|DELETE\s+FROM|TRUNCATE)\b", re.I
)
LONG_LOCK = re.compile(
    r"(?:\A|;|\bBEGIN\b|')\s*(?:LOCK\b|CLUSTER\b|VACUUM\b.*\bFULL\b|REFRESH\s+MATERIALIZED\s+VIEW\s+(?!CONCURRENTLY)"
    r"|ALTER\s+TABLE\b[^;]*\b(?:DISABLE\s+TRIGGER|SET\s+TABLESPACE|SET\s+LOGGED|SET\s+UNLOGGED)\b)",
    re.I | re.DOTALL,
)
# Operations of a migration with `atomic = False` that may run again after an interruption.
RESTARTABLE = (AddIndexConcurrently, RemoveIndexConcurrently, ValidateConstraint, Backfill, CreateDatabaseObject)
SHORTEST_REASON = 20  # characters


@dataclass
class Recording:
    """What a migration executed and did. `problems` are pairs of a rule and what broke it."""

    statements: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


class RecordingExecutor(PatientExecutor):
    """Applies migrations and records them."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self.scanned: set[str] = set()

    def record(
        self, state: ProjectState, migration: Migration, released: Container[str] | None = None
    ) -> tuple[ProjectState, Recording]:
        """Only the tables among `released` count, or all that exist."""
        recording, self.scanned = Recording(), set()
        before = read_catalog(self.connection)
        if released is not None:
            before = before.of_tables(released)

        def note(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
            recording.statements += split_statements(str(sql))
            return execute(sql, params, many, context)

        with self.connection.execute_wrapper(note):
            state = self.apply_migration(state, migration)
        in_transaction = bool(migration.atomic)
        recording.problems = compare_catalogs(before, read_catalog(self.connection), in_transaction=in_transaction)
        recording.problems += [("scan", table) for table in sorted(self.scanned & before.tables.keys())]
        statements = [one for one in recording.statements if self.concerns(one, before.tables, before.indexes)]
        recording.problems += read_by_squawk(statements, in_transaction)
        if not any(isinstance(operation, Backfill) for operation in migration.operations):
            recording.problems += read_by_rules(statements)
        if not in_transaction:
            recording.problems += [
                ("not-restartable", operation.describe())
                for operation in migration.operations
                if not isinstance(operation, RESTARTABLE)
            ]
        return state, recording

    def _apply_and_record(self, steps: list[Step], migration: Migration) -> None:
        with self.connection.connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # the tables are empty: scan only for lack of an index
        before = count_scans(self.connection)
        super()._apply_and_record(steps, migration)
        after = count_scans(self.connection)
        self.scanned |= {table for table, count in after.items() if count > before.get(table, 0)}

    @staticmethod
    def concerns(statement: str, tables: dict[str, int], indexes: dict[tuple[str, str], int]) -> bool:
        """Whether it is about a table that existed before the migration, or may be."""
        if found := DROPPED_INDEX.match(statement):
            return found[1] in {index for index, _ in indexes}
        named = [one or other for one, other in TARGET.findall(statement)]
        return not named or not tables.keys().isdisjoint(named)


def squawk_command() -> str | None:
    return shutil.which("squawk", path=str(Path(sys.executable).parent))


def read_by_squawk(statements: list[str], in_transaction: bool) -> list[tuple[str, str]]:
    """The rules of squawk that the statements break. It cannot read the parameters of statements about rows."""
    statements = [statement for statement in statements if STRUCTURE.match(statement)]
    lines: list[int] = []  # for each line of the text, the number of its statement
    for number, statement in enumerate(statements):
        lines += [number] * (statement.count("\n") + 1)
    text = "".join(f"{statement};\n" for statement in statements)
    command = [str(squawk_command()), "--reporter=json", "--pg-version=14"]
    command += ["--assume-in-transaction"] if in_transaction else []
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603
    found = [
        (violation["rule_name"], statements[lines[violation["line"]]])
        for violation in json.loads(done.stdout)
        if violation["rule_name"] in SQUAWK_RULES
    ]
    return list(dict.fromkeys(found))


def read_by_rules(statements: list[str]) -> list[tuple[str, str]]:
    """The rules about data and explicit locks that the statements, and the DO blocks among them, break."""
    found = []
    for statement in statements:
        text = executed_body(statement) or statement
        if text is statement and re.match(r"CREATE\b", statement, re.I):
            continue  # the body of a function is not executed
        if ROW_CHANGE.search(text):
            found.append(("data-in-transaction", statement))
        if LONG_LOCK.search(text):
            found.append(("long-lock", statement))
    return found


def unexplained(migration: Migration, recording: Recording) -> list[str]:
    """One line for each problem without a reason in the migration's `sql_exceptions`, and for each reason without a
    problem or too short to be one."""
    reasons: dict[str, str] = getattr(migration, "sql_exceptions", {})
    broken = {rule for rule, _ in recording.problems}
    lines = [
        f"{migration}: {rule}: {' '.join(what.split())[:200]}"
        for rule, what in recording.problems
        if rule not in reasons
    ]
    lines += [f"{migration}: sql_exceptions explains {rule}, which does not occur" for rule in reasons.keys() - broken]
    lines += [
        f"{migration}: the reason for {rule} is too short"
        for rule, reason in reasons.items()
        if len(reason) < SHORTEST_REASON
    ]
    return lines
