"""Functions, triggers and views that an app declares as SQL, since Django's models do not describe them.

An app declares an object beside the model that it serves; `makemigrations` writes a `CreateDatabaseObject` operation
when the declared SQL differs from the migrations', and `makemigrations --check` fails.
"""

from dataclasses import dataclass
from typing import Any

from healthcare.migration_operations import CreateDatabaseObject, DropDatabaseObject


@dataclass(frozen=True)
class DatabaseObject:
    """SQL that creates an object or replaces it, and SQL that drops it."""

    app_label: str
    name: str
    create: str
    drop: str


DECLARED: dict[tuple[str, str], DatabaseObject] = {}


def declare(database_object: DatabaseObject) -> DatabaseObject:
    DECLARED[database_object.app_label, database_object.name] = database_object
    return database_object


class DatabaseObjectAutodetector:
    """Mixin of Django's autodetector that compares the declared objects with those of the migrations."""

    from_state: Any
    generated_operations: dict[str, list[Any]]

    def generate_altered_managers(self) -> None:
        super().generate_altered_managers()  # type: ignore[misc]
        migrated: dict[tuple[str, str], tuple[str, str]] = getattr(self.from_state, "database_objects", {})
        for (app_label, name), declared in DECLARED.items():
            sql, _ = migrated.get((app_label, name), ("", ""))
            if sql.strip() != declared.create.strip():
                operation = CreateDatabaseObject(name, declared.create, sql or declared.drop)
                self.add_operation(app_label, operation)  # type: ignore[attr-defined]
        for app_label, name in migrated.keys() - DECLARED.keys():
            sql, drop = migrated[app_label, name]
            self.add_operation(app_label, DropDatabaseObject(name, drop, sql))  # type: ignore[attr-defined]

    def _sort_migrations(self) -> None:
        """Database objects come last in their app's migration: they may use all of its tables."""
        super()._sort_migrations()  # type: ignore[misc]
        for operations in self.generated_operations.values():
            operations.sort(key=lambda operation: isinstance(operation, CreateDatabaseObject))
