"""The migration operation that grants permissions to a role."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.auth import get_permission_codename
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from healthcare.migration_operations import execute_with_messages

# Django adds content types and permissions after all migrations, so this adds those that it grants. Rows that exist
# stay as they are.
GRANT = """
DO $grant$
DECLARE
    role_name CONSTANT text := {role};
    group_name text := role_name;
    role_group integer;
    granted record;
BEGIN
    IF NOT EXISTS (SELECT FROM staff_roles_staffrole WHERE name = role_name) THEN
        IF EXISTS (SELECT FROM auth_group WHERE name = role_name) THEN
            group_name := role_name || ' (role)';
            RAISE WARNING 'There is a group "%" already, which stays as it is. The group of the role is "%".',
                role_name, group_name;
        END IF;
        INSERT INTO auth_group (name) VALUES (group_name) ON CONFLICT (name) DO NOTHING RETURNING id INTO role_group;
        IF role_group IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'HC001', MESSAGE = format(
                'There are groups "%s" and "%s" already. Rename one of them, then run `migrate` again.',
                role_name, group_name);
        END IF;
        INSERT INTO staff_roles_staffrole (name, group_id) VALUES (role_name, role_group);
    END IF;
    SELECT group_id INTO role_group FROM staff_roles_staffrole WHERE name = role_name;
    IF role_group IS NULL THEN
        RAISE WARNING 'The group of the role "%" was deleted, so nothing is granted to it.', role_name;
    END IF;
    FOR granted IN SELECT * FROM (VALUES {permissions}) AS granted (app_label, model, codename, name) LOOP
        INSERT INTO django_content_type (app_label, model) VALUES (granted.app_label, granted.model)
            ON CONFLICT (app_label, model) DO NOTHING;
        INSERT INTO auth_permission (content_type_id, codename, name)
            SELECT id, granted.codename, granted.name FROM django_content_type
            WHERE (app_label, model) = (granted.app_label, granted.model)
            ON CONFLICT (content_type_id, codename) DO NOTHING;
        INSERT INTO auth_group_permissions (group_id, permission_id)
            SELECT role_group, permission.id FROM auth_permission permission
            JOIN django_content_type kind ON kind.id = content_type_id
            WHERE (app_label, model, codename) = (granted.app_label, granted.model, granted.codename)
                AND role_group IS NOT NULL
            ON CONFLICT (group_id, permission_id) DO NOTHING;
    END LOOP;
END $grant$
"""
REVOKE = """
DELETE FROM auth_group_permissions WHERE group_id IN (SELECT group_id FROM staff_roles_staffrole WHERE name = {role})
AND permission_id IN (
    SELECT permission.id FROM (VALUES {permissions}) AS granted (app_label, model, codename, name)
    JOIN django_content_type kind ON (kind.app_label, kind.model) = (granted.app_label, granted.model)
    JOIN auth_permission permission ON (permission.content_type_id, permission.codename) = (kind.id, granted.codename))
"""


class GrantToRole(Operation):
    """Grants permissions on models of the migration's app, or of another one as "auth.view_group", to a role.

    Creates the role and its group if there is no such role. A group of that name that exists already stays as it is,
    and the role's group is called "<role> (role)". Reversing takes the permissions away; the group stays with its
    members. The migration depends on `("staff_roles", "0001_initial")`.
    """

    reduces_to_sql = True
    reversible = True
    category = OperationCategory.SQL

    def __init__(self, role: str, permissions: Sequence[str]) -> None:
        self.role, self.permissions = role, permissions

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.role, self.permissions], {}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        self.execute(GRANT, schema_editor, to_state, app_label)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        self.execute(REVOKE, schema_editor, to_state, app_label)

    def execute(self, sql: str, schema_editor: Any, state: ProjectState, app_label: str) -> None:
        granted = [self.find_permission(state, app_label, wanted) for wanted in self.permissions]
        quoted = [f"({', '.join(map(schema_editor.quote_value, permission))})" for permission in granted]
        statement = sql.format(role=schema_editor.quote_value(self.role), permissions=", ".join(quoted))
        if schema_editor.collect_sql:  # `sqlmigrate` prints the SQL
            schema_editor.execute(statement, params=None)
        else:
            execute_with_messages(schema_editor.connection, statement)

    def find_permission(self, state: ProjectState, app_label: str, wanted: str) -> tuple[str, str, str, str]:
        """App label, model, codename and name. Raises ValueError if no model of the app has the permission."""
        app, _, codename = wanted.rpartition(".")
        for model, known, name in permissions_of_app(state, app or app_label):
            if known == codename:
                return app or app_label, model, codename, name
        raise ValueError(f"No model of {app or app_label} has the permission {codename}.")

    def describe(self) -> str:
        return f"Grant {', '.join(self.permissions)} to the role {self.role}"

    @property
    def migration_name_fragment(self) -> str:
        return f"grant_to_{self.role.lower().replace(' ', '_')}"


def permissions_of_app(state: ProjectState, app_label: str) -> Iterator[tuple[str, str, str]]:
    """Model, codename and name of every permission that the models of this state have."""
    for model in state.apps.get_app_config(app_label).get_models():
        kind, named = str(model._meta.model_name), model._meta.verbose_name_raw
        for verb in model._meta.default_permissions:
            yield kind, get_permission_codename(verb, model._meta), f"Can {verb} {named}"
        for codename, name in model._meta.permissions:
            yield kind, str(codename), str(name)
