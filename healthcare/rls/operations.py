"""The migration operation that protects the rows of a model."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import RunSQL
from django.db.migrations.state import ProjectState

from healthcare.rls import ROLE

REMOVE = """
DO $$
DECLARE
    policy name;
BEGIN
    FOR policy IN SELECT polname FROM pg_policy WHERE polrelid = '{table}'::regclass LOOP
        EXECUTE format('DROP POLICY %I ON {table}', policy);
    END LOOP;
END $$;
REVOKE ALL ON {table} FROM {role};
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
"""


class RowSecurity(RunSQL):
    """Runs the SQL that protects a model's table: ENABLE ROW LEVEL SECURITY, its policies, and the grants of the API's
    role. Reversing runs `reverse`, or without one removes all of them.

    `model_name` names the model for the system check of owned models (rls.E001).
    """

    def __init__(self, model_name: str, sql: str, reverse: str = "") -> None:
        super().__init__(sql, reverse_sql=reverse or RunSQL.noop)
        self.model_name, self.reverse = model_name, reverse

    @property
    def model_name_lower(self) -> str:
        return self.model_name.lower()

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.model_name, self.sql, *([self.reverse] if self.reverse else [])], {}

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if self.reverse:
            super().database_backwards(app_label, schema_editor, from_state, to_state)
            return
        table = from_state.apps.get_model(app_label, self.model_name)._meta.db_table
        schema_editor.execute(REMOVE.format(table=schema_editor.quote_name(table), role=ROLE), params=None)

    def describe(self) -> str:
        return f"Protect the rows of {self.model_name} by row-level security"
