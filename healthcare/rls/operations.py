"""Migration operations that build the wall, to stand beside the model that they protect."""

from typing import Any

from django.core.management.base import CommandError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import ForeignKey

from healthcare.rls import CALLER, ROLE

CREATE_ROLE = f"""
DO $$ BEGIN
    CREATE ROLE {ROLE} NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
END $$
"""
STATE = """
SELECT current_user, rolsuper OR rolcreaterole, role.oid IS NOT NULL,
    rolsuper OR pg_has_role(login.oid, role.oid, 'MEMBER'),
    rolsuper OR pg_has_role(login.oid, role.oid, 'MEMBER WITH ADMIN OPTION')
FROM pg_roles login LEFT JOIN (SELECT oid FROM pg_roles WHERE rolname = %s) role ON true
WHERE rolname = current_user
"""
# However few owners there are yet: a plan that serves all of them must not count on coming upon one's rows by chance.
# Having seen two owners it would read everybody's rows, the newest first, until there is a page of one's.
MANY_OWNERS = "ALTER TABLE {table} ALTER COLUMN {column} SET (n_distinct = 100)"


class CreateRole(Operation):
    """The role of API requests: it cannot log in and owns nothing. Roles are the server's, not the database's, so
    reversing leaves it."""

    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(STATE, [ROLE])
            login, may_create, exists, member, may_grant = cursor.fetchone()
            if not (member or may_grant or (may_create and not exists)):
                create = "" if exists else f"CREATE ROLE {ROLE} NOLOGIN; "
                raise CommandError(
                    f"The database user {login} may not {'use' if exists else 'create'} the role {ROLE}. Have an "
                    f'administrator of the database run once: {create}GRANT {ROLE} TO "{login}"; then migrate again.'
                )
            if not exists:
                cursor.execute(CREATE_ROLE)
            if not member:
                cursor.execute(f"GRANT {ROLE} TO CURRENT_USER")
            cursor.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        pass

    def describe(self) -> str:
        return f"Create the role {ROLE}"


class RowSecurity(Operation):
    """Lets the API's role do `grants` to a model's table, and only to the rows that belong to the caller.

    `owner` is the field that names the user; `rows` narrows further, in SQL. With `public` everybody may read every
    row and any caller who is logged in may write. Column grants read ``UPDATE (name)``.
    """

    reversible = True

    def __init__(self, model_name: str, owner: str, *, grants: list[str], rows: str = "", public: bool = False) -> None:
        self.model_name, self.owner, self.grants, self.rows, self.public = model_name, owner, grants, rows, public

    @property
    def model_name_lower(self) -> str:
        return self.model_name.lower()

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        options = {"grants": self.grants, "rows": self.rows, "public": self.public}
        return type(self).__qualname__, [self.model_name, self.owner], options

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def policies(self, table: str, column: str) -> list[str]:
        if self.public:
            return [
                f"CREATE POLICY read ON {table} FOR SELECT TO {ROLE} USING (true)",
                f"CREATE POLICY add ON {table} FOR INSERT TO {ROLE} WITH CHECK ({column} = {CALLER})",
                f"CREATE POLICY change ON {table} FOR UPDATE TO {ROLE} USING ({CALLER} IS NOT NULL)",
            ]
        own = f"{column} = {CALLER}" + (f" AND {self.rows}" if self.rows else "")
        return [f"CREATE POLICY own ON {table} TO {ROLE} USING ({column} = {CALLER}) WITH CHECK ({own})"]

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        meta = to_state.apps.get_model(app_label, self.model_name)._meta
        table, column = (
            schema_editor.quote_name(meta.db_table),
            schema_editor.quote_name(meta.get_field(self.owner).column),
        )
        if not self.public and isinstance(meta.get_field(self.owner), ForeignKey):
            schema_editor.execute(MANY_OWNERS.format(table=table, column=column))
        schema_editor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        for policy in self.policies(table, column):
            schema_editor.execute(policy)
        for grant in self.grants:
            schema_editor.execute(f"GRANT {grant} ON {table} TO {ROLE}")

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        table = schema_editor.quote_name(from_state.apps.get_model(app_label, self.model_name)._meta.db_table)
        for policy in ("read", "add", "change") if self.public else ("own",):
            schema_editor.execute(f"DROP POLICY {policy} ON {table}")
        schema_editor.execute(f"REVOKE ALL ON {table} FROM {ROLE}")
        schema_editor.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")

    def describe(self) -> str:
        return f"Wall off the rows of {self.model_name}"


class ExpectManyOwners(Operation):
    """Tells the planner of a table that was walled off before `RowSecurity` did so by itself."""

    reversible = True

    def __init__(self, model_name: str, owner: str) -> None:
        self.model_name, self.owner = model_name, owner

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.model_name, self.owner], {}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        meta = to_state.apps.get_model(app_label, self.model_name)._meta
        table, column = meta.db_table, meta.get_field(self.owner).column
        schema_editor.execute(MANY_OWNERS.format(table=f'"{table}"', column=f'"{column}"'))
        schema_editor.execute(f'ANALYZE "{table}"')

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        pass

    def describe(self) -> str:
        return f"Plan for many owners of {self.model_name}"
