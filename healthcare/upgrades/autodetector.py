"""What `makemigrations` writes for tables that exist: operations that let readers and writers go on."""

from typing import Any

from django.contrib.postgres.operations import AddConstraintNotValid, RemoveIndexConcurrently, ValidateConstraint
from django.db.migrations import AddConstraint, AddIndex, Migration, RemoveIndex
from django.db.models import CheckConstraint

from healthcare.migration_operations import AddIndexConcurrently


class OnlineAutodetector:
    """Mixin of Django's autodetector that moves what scans a table to a second migration, outside a transaction.

    Indexes are built CONCURRENTLY there, and check constraints, which the first migration adds NOT VALID, validated.
    """

    from_state: Any
    migrations: dict[str, list[Migration]]

    def _optimize_migrations(self) -> None:
        super()._optimize_migrations()  # type: ignore[misc]
        for app_label, migrations in self.migrations.items():
            self.migrations[app_label] = [part for one in migrations for part in self.split(app_label, one)]

    def split(self, app_label: str, migration: Migration) -> list[Migration]:
        during, after = [], []
        for operation in migration.operations:
            first, second = (
                online_operations(operation) if self.alters_table(app_label, operation) else (operation, None)
            )
            during += [first] if first else []
            after += [second] if second else []
        if not after:
            return [migration]
        vars(migration).update(operations=during)
        attributes = {"operations": after, "dependencies": [(app_label, migration.name)], "atomic": False}
        name = f"{migration.name}_online"
        if not during:
            attributes["dependencies"] = migration.dependencies
            name = migration.name
        second = type("Migration", (Migration,), attributes)(name, app_label)
        return [migration, second] if during else [second]

    def alters_table(self, app_label: str, operation: Any) -> bool:
        return (app_label, getattr(operation, "model_name_lower", "")) in self.from_state.models


def online_operations(operation: Any) -> tuple[Any, Any]:
    """What takes the operation's place in the transaction, and after it."""
    if type(operation) is AddIndex:
        return None, AddIndexConcurrently(operation.model_name, operation.index)
    if type(operation) is RemoveIndex:
        return None, RemoveIndexConcurrently(operation.model_name, operation.name)
    if type(operation) is AddConstraint and isinstance(operation.constraint, CheckConstraint):
        model, constraint = operation.model_name, operation.constraint
        return AddConstraintNotValid(model, constraint), ValidateConstraint(model, constraint.name)
    return operation, None
