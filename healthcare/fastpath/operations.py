"""Migration operation of the direct way."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

# As the transaction commits, so that nobody who changes the table waits for another's whole transaction; once in each
# transaction; and whatever the session's settings are.
KEEP = """
CREATE OR REPLACE FUNCTION {table}_version() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF current_setting('fastpath.{table}', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        PERFORM set_config('fastpath.{table}', pg_current_xact_id()::text, true);
        INSERT INTO fastpath_tableversion ("table", version) VALUES ('{table}', gen_random_uuid())
        ON CONFLICT ("table") DO UPDATE SET version = excluded.version;
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER {table}_version AFTER INSERT OR UPDATE OR DELETE ON {table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {table}_version();
CREATE TRIGGER {table}_emptied AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_version();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_version;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_emptied;
INSERT INTO fastpath_tableversion ("table", version) VALUES ('{table}', gen_random_uuid());
"""
DROP = """
DROP TRIGGER {table}_version ON {table};
DROP TRIGGER {table}_emptied ON {table};
DROP FUNCTION {table}_version();
DELETE FROM fastpath_tableversion WHERE "table" = '{table}';
"""


class KeepVersion(Operation):
    """Gives the table of a model a version (`TableVersion`) that is another one after every change."""

    reversible = True

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.model_name], {}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        schema_editor.execute(KEEP.format(table=to_state.apps.get_model(app_label, self.model_name)._meta.db_table))

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        schema_editor.execute(DROP.format(table=from_state.apps.get_model(app_label, self.model_name)._meta.db_table))

    def describe(self) -> str:
        return f"Keep a version of the table of {self.model_name}"
