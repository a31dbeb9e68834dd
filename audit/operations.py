"""Migration operations of the history."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState


class RecordExisting(Operation):
    """Begins the history of the rows that are already there: as they are, since their last change."""

    reversible = True

    def __init__(self, model_name: str, event_name: str, since: str) -> None:
        self.model_name, self.event_name, self.since = model_name, event_name, since

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.model_name, self.event_name, self.since], {}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        events = to_state.apps.get_model(self.event_name)
        table = to_state.apps.get_model(app_label, self.model_name)._meta.db_table
        columns = ", ".join(
            schema_editor.quote_name(field.column) for field in events._meta.fields if not field.name.startswith("pgh_")
        )
        schema_editor.execute(
            f"INSERT INTO {schema_editor.quote_name(events._meta.db_table)} "  # noqa: S608  (names of our own models)
            f"({columns}, pgh_created_at, pgh_label, pgh_context) "
            f"SELECT {columns}, {self.since}, 'insert', jsonb_build_object('application', 'manage.py migrate') "
            f"FROM {schema_editor.quote_name(table)} ORDER BY id"
        )

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        pass

    def describe(self) -> str:
        return f"Begin the history of the rows of {self.model_name}"
