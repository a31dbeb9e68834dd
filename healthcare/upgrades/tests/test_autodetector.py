"""`makemigrations` moves what scans a table that exists to a second migration, outside a transaction."""

from typing import Any

from django.db import migrations, models
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.db.models import Q

from healthcare.management.commands.makemigrations import MigrationAutodetector, Writer

ID = ("id", models.BigAutoField(primary_key=True))
NAME = ("name", models.CharField(max_length=10))
CODE = ("code", models.CharField(max_length=10, default="", db_default=""))
CHECK = models.CheckConstraint(condition=~Q(name=""), name="sample_named")
INDEX = models.Index(fields=["name"], name="sample_by_name")


def state_of(*fields: Any, **options: Any) -> ProjectState:
    state = ProjectState()
    state.add_model(ModelState("sample", "Thing", list(fields), options))
    return state


def detect(before: ProjectState, after: ProjectState) -> list[tuple[bool, list[str]]]:
    """Whether each new migration is a transaction, and its operations."""
    changes = MigrationAutodetector(before, after)._detect_changes()
    return [(one.atomic, [type(operation).__name__ for operation in one.operations]) for one in changes["sample"]]


def test_the_transaction_is_short_and_what_scans_the_table_follows_it() -> None:
    after = state_of(ID, NAME, CODE, indexes=[INDEX], constraints=[CHECK])
    assert detect(state_of(ID, NAME), after) == [
        (True, ["AddField", "AddConstraintNotValid"]),
        (False, ["AddIndexConcurrently", "ValidateConstraint"]),
    ]


def test_an_index_alone_needs_one_migration() -> None:
    assert detect(state_of(ID, NAME), state_of(ID, NAME, indexes=[INDEX])) == [(False, ["AddIndexConcurrently"])]
    assert detect(state_of(ID, NAME, indexes=[INDEX]), state_of(ID, NAME)) == [(False, ["RemoveIndexConcurrently"])]


def test_a_new_table_has_everything_at_once() -> None:
    after = state_of(ID, NAME, indexes=[INDEX], constraints=[CHECK])
    assert detect(ProjectState(), after) == [(True, ["CreateModel"])]


def test_both_migrations_follow_the_last_one_and_the_file_says_that_it_is_no_transaction() -> None:
    graph = migrations.graph.MigrationGraph()
    graph.add_node(("sample", "0004_before"), migrations.Migration("0004_before", "sample"))
    after = state_of(ID, NAME, CODE, indexes=[INDEX])
    first, second = MigrationAutodetector(state_of(ID, NAME), after).changes(graph=graph)["sample"]
    assert (first.name, first.dependencies) == ("0005_thing_code", [("sample", "0004_before")])
    assert (second.name, second.dependencies) == ("0006_thing_sample_by_name", [("sample", "0005_thing_code")])
    written = Writer(second).as_string()
    assert "class Migration(migrations.Migration):\n    atomic = False\n" in written
    assert "healthcare.migration_operations.AddIndexConcurrently" in written
    assert Writer(first).as_string() == MigrationWriter(first).as_string()
