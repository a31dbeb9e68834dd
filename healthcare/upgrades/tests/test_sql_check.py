"""Each rule of the check finds a migration that breaks it, and lets the careful form pass."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.contrib.postgres.operations import AddIndexConcurrently as PlainAddIndexConcurrently
from django.db import models, transaction
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    CreateModel,
    DeleteModel,
    Migration,
    RemoveField,
    RemoveIndex,
    RenameField,
    RunPython,
    RunSQL,
)  # fmt: skip
from django.db.models import Q

from healthcare.migration_operations import AddIndexConcurrently, Backfill, RunSQLWithMessages
from healthcare.upgrades.sql_check import Recording, RecordingExecutor, squawk_command, unexplained
from healthcare.upgrades.statements import executed_body, split_statements
from healthcare.upgrades.tests.conftest import ALIAS, migrated_database

needs_squawk = pytest.mark.skipif(not squawk_command(), reason="requirements-dev.txt has squawk")
Record = Callable[..., Recording]

TEXT = models.CharField(max_length=20, default="", db_default="")
ID = ("id", models.BigAutoField(primary_key=True))
CHECK = models.CheckConstraint(condition=~Q(name="?"), name="sample_check")
INDEX = models.Index(fields=["name"], name="sample_index")


def change_by_python(apps: Any, schema_editor: Any) -> None:
    apps.get_model("patients", "Patient").objects.using(ALIAS).update(address="")


def in_block(sql: str) -> RunSQLWithMessages:
    return RunSQLWithMessages(f"DO $$ BEGIN\n{sql};\nEND $$;")


BROKEN: list[tuple[str, list[Any]]] = [
    ("required-column", [AddField("patient", "sample", models.CharField(max_length=20, default=""))]),
    ("adding-required-field", [RunSQL("ALTER TABLE patients_patient ADD COLUMN sample text NOT NULL")]),
    (
        "adding-field-with-default",
        [RunSQL("ALTER TABLE patients_patient ADD COLUMN sample uuid DEFAULT gen_random_uuid()")],
    ),
    ("rewrite", [in_block("ALTER TABLE patients_patient ADD COLUMN sample uuid DEFAULT gen_random_uuid()")]),
    ("rewrite", [AlterField("patient", "birth_year", models.BigIntegerField(null=True))]),
    ("column-type", [AlterField("patient", "gender", models.TextField())]),
    ("adding-not-nullable-field", [AlterField("patient", "birth_year", models.PositiveSmallIntegerField())]),
    ("not-null", [in_block("ALTER TABLE patients_patient ALTER COLUMN birth_year SET NOT NULL")]),
    ("default-removed", [RunSQL("ALTER TABLE audit_accesslog ALTER at DROP DEFAULT")]),
    ("default-removed", [in_block("ALTER TABLE patients_patient ALTER id DROP IDENTITY")]),
    ("require-concurrent-index-creation", [AddIndex("patient", INDEX)]),
    ("index-in-transaction", [in_block("EXECUTE 'CREATE INDEX sample ON patients_patient (name)'")]),
    ("require-concurrent-index-deletion", [RemoveIndex("patient", "patient_by_name")]),
    ("constraint-missing-not-valid", [AddConstraint("patient", CHECK)]),
    (
        "constraint-missing-not-valid",
        [AddConstraintNotValid("patient", CHECK), ValidateConstraint("patient", "sample_check")],
    ),
    ("constraint-in-transaction", [in_block("ALTER TABLE patients_patient ADD CHECK (name <> '?')")]),
    (
        "disallowed-unique-constraint",
        [AddConstraint("patient", models.UniqueConstraint(fields=["name", "id"], name="sample_unique"))],
    ),
    (
        "adding-foreign-key-constraint",
        [AddField("patient", "sample", models.ForeignKey("doctors.Doctor", models.PROTECT, null=True))],
    ),
    ("ban-drop-column", [RemoveField("patient", "address")]),
    ("column-removed", [in_block("ALTER TABLE patients_patient DROP COLUMN address")]),
    ("renaming-column", [RenameField("patient", "address", "home")]),
    ("renaming-table", [RunSQL("ALTER TABLE patients_patientword RENAME TO patients_vocabulary")]),
    ("table-removed", [in_block("DROP TABLE patients_patientword CASCADE")]),
    ("ban-drop-table", [DeleteModel("ErasureReceipt")]),
    ("require-concurrent-reindex", [RunSQL("REINDEX TABLE patients_patient")]),
    ("data-in-transaction", [RunSQL("UPDATE patients_patient SET address = ''")]),
    ("data-in-transaction", [RunSQL("DELETE FROM public.patients_patientword")]),
    ("data-in-transaction", [RunSQL("TRUNCATE patients_patientword")]),
    ("data-in-transaction", [in_block("IF true THEN\n    UPDATE patients_patient SET address = '';\nEND IF")]),
    ("data-in-transaction", [RunPython(change_by_python)]),
    ("long-lock", [RunSQL("LOCK TABLE patients_patient IN ACCESS EXCLUSIVE MODE")]),
    ("long-lock", [RunSQL("CLUSTER patients_patient USING patients_patient_pkey")]),
    ("long-lock", [RunSQL("ALTER TABLE patients_patient DISABLE TRIGGER USER")]),
    ("rewrite", [RunSQL("ALTER TABLE patients_patientword SET UNLOGGED")]),
    ("scan", [RunSQL("SELECT max(address) FROM patients_patient")]),
    ("scan", [RunSQL("CREATE TABLE copied AS SELECT address FROM patients_patient")]),
]  # fmt: skip

CAREFUL: list[list[Any]] = [
    [AddField("patient", "sample", TEXT), AddConstraintNotValid("patient", CHECK)],
    [AddField("patient", "sample", models.JSONField(null=True))],
    [AlterField("patient", "language", models.CharField(max_length=500, blank=True))],
    [RunSQL("CREATE FUNCTION sample() RETURNS void LANGUAGE sql AS $$ UPDATE patients_patient SET name = '' $$")],
    [
        CreateModel("Sample", [ID, ("patient", models.ForeignKey("patients.Patient", models.PROTECT))]),
        RunSQL("UPDATE patients_sample SET id = 1; ALTER TABLE patients_sample ADD COLUMN other int NOT NULL"),
    ],
]  # fmt: skip


def build_migration(*operations: Any, atomic: bool = True, **attributes: Any) -> Migration:
    attributes |= {"operations": list(operations), "atomic": atomic}
    sample: type[Migration] = type("Migration", (Migration,), attributes)
    return sample("9001_sample", "patients")


@pytest.fixture(scope="module")
def executor(django_db_setup: None, django_db_blocker: Any) -> Iterator[RecordingExecutor]:
    with migrated_database(django_db_blocker) as database:
        yield RecordingExecutor(database)


@pytest.fixture
def record(executor: RecordingExecutor, django_db_blocker: Any) -> Iterator[Record]:
    """Records a migration and rolls it back."""

    def record_and_undo(*operations: Any) -> Recording:
        with transaction.atomic(ALIAS):
            _, recording = executor.record(executor.loader.project_state(), build_migration(*operations))
            transaction.set_rollback(True, ALIAS)
        return recording

    with django_db_blocker.unblock():
        yield record_and_undo


@pytest.mark.slow
@needs_squawk
@pytest.mark.parametrize(("rule", "operations"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_the_rule_finds_a_migration_that_breaks_it(record: Record, rule: str, operations: list[Any]) -> None:
    recording = record(*operations)
    assert rule in {found for found, _ in recording.problems}
    lines = unexplained(build_migration(*operations), recording)
    assert any(line.startswith(f"patients.9001_sample: {rule}: ") for line in lines)


@needs_squawk
@pytest.mark.parametrize("operations", CAREFUL)
def test_the_careful_form_passes(record: Record, operations: list[Any]) -> None:
    assert record(*operations).problems == []


@needs_squawk
def test_what_runs_outside_a_transaction_passes_if_it_may_run_again(
    executor: RecordingExecutor, django_db_blocker: Any
) -> None:
    fill = Backfill("patients_patient", "address = '-'", "address = ''")
    state = executor.loader.project_state()
    with django_db_blocker.unblock():
        index = models.Index(fields=["name"], name="sample_online")
        _, careful = executor.record(state, build_migration(AddIndexConcurrently("patient", index), fill, atomic=False))
        assert careful.problems == []
        plain = models.Index(fields=["name"], name="sample_plain")
        _, careless = executor.record(state, build_migration(PlainAddIndexConcurrently("patient", plain), atomic=False))
    assert [rule for rule, _ in careless.problems] == ["not-restartable"]


def test_a_reason_exempts_from_one_rule_and_must_be_one() -> None:
    recording = Recording(problems=[("scan", "patients_patient"), ("rewrite", "patients_patient")])
    reason = "The table has a row for each clinic, some dozens."
    assert unexplained(build_migration(sql_exceptions={"scan": reason}), recording) == [
        "patients.9001_sample: rewrite: patients_patient"
    ]
    assert unexplained(build_migration(sql_exceptions={"scan": reason, "rewrite": "small"}), recording) == [
        "patients.9001_sample: the reason for rewrite is too short"
    ]
    both = {"scan": reason, "rewrite": reason, "long-lock": reason}
    assert unexplained(build_migration(sql_exceptions=both), recording) == [
        "patients.9001_sample: sql_exceptions explains long-lock, which does not occur"
    ]


def test_statements_are_split_outside_of_quotes_and_bodies() -> None:
    sql = "SELECT ';' /* ; */; -- ;\nDO $x$ BEGIN; -- note\nEND $x$;\nSELECT \"a;b\""
    assert split_statements(sql) == ["SELECT ';'", "DO $x$ BEGIN; -- note\nEND $x$", 'SELECT "a;b"']
    assert executed_body("DO $x$ BEGIN; -- note\nEND $x$") == "BEGIN;\nEND"
    assert executed_body("CREATE FUNCTION f() AS $$ UPDATE $$") == ""
