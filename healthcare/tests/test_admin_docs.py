"""docs/admin.md says of the roles what the apps declare, and its command gives one."""

import re
from pathlib import Path

from django.conf import settings
from django.core.management.commands import shell
from django.db.models import Model
from django.utils.module_loading import import_string

from accounts.models import User
from healthcare.tests.declarations import all_admin_models
from healthcare.tests.test_admin_roles import ROLES

PAGE = (Path(settings.BASE_DIR) / "docs" / "admin.md").read_text(encoding="utf-8")
NAMES = {"mappings.Mapping": "assignments", "audit.AccessLog": "access log"}


def test_the_table_of_the_roles_is_true():
    header, *lines = re.findall(r"^\| (.*)\|$", PAGE.partition("### Roles")[2].partition("\n- ")[0], re.MULTILINE)
    assert [cell.strip() for cell in header.split("|")] == ["", *ROLES]
    stated = {}
    for line in lines:
        name, *cells = (cell.strip() for cell in line.split("|"))
        stated[name] = [{*cell.split(", ")} - {""} for cell in cells]
    declared = {
        NAMES.get(model.label, str(model.model._meta.verbose_name_plural)): [model.verbs_of(role) for role in ROLES]
        for model in all_admin_models()
    }
    assert len(stated) >= 11
    assert {name: declared[name] for name in stated} == stated


def test_the_command_gives_a_role(alice: User):
    code = re.search(r'manage\.py shell -c "\n(.*?)^"', PAGE, re.MULTILINE | re.DOTALL)
    assert code
    User.objects.filter(pk=alice.pk).update(username="asha")
    exec(code[1], {})  # noqa: S102
    alice.refresh_from_db()
    assert alice.is_staff
    assert [group.name for group in alice.groups.all()] == ["Front desk"]


def test_the_shell_imports_every_model_without_a_complaint():
    paths = shell.Command().get_auto_imports()
    assert paths
    for path in paths:
        assert issubclass(import_string(path), Model), path
