"""Granting permissions to roles in migrations."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from accounts.models import User
from healthcare.staff_roles.models import StaffRole
from healthcare.staff_roles.operations import GrantToRole

Migrate = Callable[..., None]


@pytest.fixture(scope="module")
def state() -> ProjectState:
    return MigrationLoader(None).project_state()


@pytest.fixture
def grant(db: None, state: ProjectState) -> Migrate:
    def run(role: str, *permissions: str, app_label: str = "patients", backwards: bool = False) -> None:
        operation = GrantToRole(role, permissions)
        with connection.schema_editor(atomic=False) as editor:
            move = operation.database_backwards if backwards else operation.database_forwards
            move(app_label, editor, state, state)

    return run


def permissions_of(group: Group) -> set[str]:
    return {
        f"{app}.{codename}" for app, codename in group.permissions.values_list("content_type__app_label", "codename")
    }


def test_the_group_is_created_once_and_collects_the_permissions_of_all_apps(grant: Migrate) -> None:
    for _ in range(2):
        grant("Porter's lodge", "view_patient", "merge_patient")
        grant("Porter's lodge", "view_doctor", app_label="doctors")
        grant("Porter's lodge", "auth.view_group", app_label="doctors")
    group = Group.objects.get(name="Porter's lodge")
    assert permissions_of(group) == {
        "patients.view_patient", "patients.merge_patient", "doctors.view_doctor", "auth.view_group",
    }  # fmt: skip
    assert StaffRole.objects.get(name="Porter's lodge").group == group


def test_content_types_and_permissions_that_are_missing_are_added_as_django_adds_them(grant: Migrate) -> None:
    """As in a new database, where Django adds them after all migrations."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM auth_group_permissions; DELETE FROM accounts_user_user_permissions;"
            "DELETE FROM auth_permission; DELETE FROM django_admin_log; DELETE FROM django_content_type"
        )
    grant("Porters", "merge_patient", "view_erasurereceipt")
    names = Group.objects.get(name="Porters").permissions.values_list("name", "content_type__model")
    assert sorted(names) == [("Can merge patient", "patient"), ("Can view erasure receipt", "erasurereceipt")]


def test_a_group_that_an_operator_created_gains_nothing(
    grant: Migrate, make_user: Callable[..., User], capsys: pytest.CaptureFixture[str]
) -> None:
    own = Group.objects.create(name="Porters")
    member = make_user("member", is_staff=True)
    member.groups.add(own)
    grant("Porters", "view_patient")
    grant("Porters", "merge_patient")
    assert permissions_of(own) == set()
    assert permissions_of(Group.objects.get(name="Porters (role)")) == {
        "patients.view_patient",
        "patients.merge_patient",
    }
    assert not User.objects.get(pk=member.pk).get_all_permissions()
    assert capsys.readouterr().err == (
        'There is a group "Porters" already, which stays as it is. The group of the role is "Porters (role)".\n'
    )


def test_the_migration_stops_where_both_names_are_taken(grant: Migrate) -> None:
    Group.objects.bulk_create([Group(name="Porters"), Group(name="Porters (role)")])
    with pytest.raises(CommandError, match="Rename one of them, then run `migrate` again"):
        grant("Porters", "view_patient")


def test_a_renamed_role_gets_later_grants_and_a_new_group_of_its_old_name_does_not(grant: Migrate) -> None:
    grant("Porters", "view_patient")
    Group.objects.filter(name="Porters").update(name="Reception")
    own = Group.objects.create(name="Porters")
    grant("Porters", "merge_patient")
    assert permissions_of(own) == set()
    assert permissions_of(Group.objects.get(name="Reception")) == {"patients.view_patient", "patients.merge_patient"}


def test_a_deleted_role_is_not_created_again(grant: Migrate, capsys: pytest.CaptureFixture[str]) -> None:
    grant("Porters", "view_patient")
    Group.objects.get(name="Porters").delete()
    own = Group.objects.create(name="Porters")
    grant("Porters", "merge_patient")
    assert permissions_of(own) == set()
    assert capsys.readouterr().err == 'The group of the role "Porters" was deleted, so nothing is granted to it.\n'


def test_reversing_takes_the_permissions_away_and_leaves_the_group_and_its_members(
    grant: Migrate, make_user: Callable[..., User]
) -> None:
    grant("Porters", "view_patient", "merge_patient")
    group = Group.objects.get(name="Porters")
    make_user("member").groups.add(group)
    grant("Porters", "merge_patient", backwards=True)
    assert permissions_of(group) == {"patients.view_patient"}
    grant("Porters", "merge_patient")
    assert permissions_of(group) == {"patients.view_patient", "patients.merge_patient"}
    assert group.user_set.count() == 1


def test_a_permission_that_no_model_has_is_an_error(grant: Migrate) -> None:
    with pytest.raises(ValueError, match="No model of patients has the permission view_patiens"):
        grant("Porters", "view_patiens")
    assert not Group.objects.filter(name="Porters").exists()


ROLES: dict[str, dict[str, Any]] = {
    "Front desk": {"patients": {"patient": "add change view"}, "doctors": {"doctor": "view"},
                   "mappings": {"mapping": "add change view end"}},
    "Clinical staff": {"patients": {"patient": "add change view"}, "doctors": {"doctor": "add change view"},
                       "mappings": {"mapping": "add change view end"}},
    "Records": {"patients": {"patient": "add change view delete restore merge export hand_over",
                             "erasurereceipt": "view"},
                "doctors": {"doctor": "add change view delete restore export"},
                "mappings": {"mapping": "add change view end delete restore export"},
                "audit": {"legalhold": "add change view"},
                "accounts": {"user": "view hand_over", "delegation": "add change view"}},
    "Auditor": {"patients": {"patient": "view", "erasurereceipt": "view"}, "doctors": {"doctor": "view"},
                "mappings": {"mapping": "view"}, "audit": {"accesslog": "view", "seal": "view", "legalhold": "view"},
                "accounts": {"user": "view", "loginsession": "view", "attempts": "view",
                             "delegation": "view", "notice": "view", "invitation": "view"},
                "auth": {"group": "view"}},
    "Support": {"accounts": {"user": "add change view deactivate reset_second_factor", "loginsession": "view change",
                             "attempts": "view delete", "delegation": "view", "notice": "view",
                             "invitation": "add view delete"}},
}  # fmt: skip


def test_the_roles_have_exactly_these_permissions(db: None) -> None:
    """Change this table together with the one in docs/admin.md."""
    assert {role.name: role.group.name for role in StaffRole.objects.all() if role.group} == {
        name: name for name in ROLES
    }
    for role in StaffRole.objects.all():
        expected = {
            f"{app}.{verb}_{model}"
            for app, models in ROLES[role.name].items()
            for model, verbs in models.items()
            for verb in verbs.split()
        }
        assert role.group is not None
        assert permissions_of(role.group) == expected, role.name
