"""A model that belongs to somebody and has no policy is a hole in the wall: the start fails."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db.migrations.loader import MigrationLoader
from django.db.models import ForeignKey, Model

from healthcare.rls.operations import RowSecurity


@register()
def owned_models_have_policies(**_: Any) -> list[CheckMessage]:
    walled = {
        (migration.app_label, operation.model_name_lower)
        for migration in MigrationLoader(None).disk_migrations.values()
        for operation in migration.operations
        if isinstance(operation, RowSecurity)
    }
    return [
        Error(
            f"{model._meta.label} belongs to a user and has no row-level security.",
            hint=f"Add healthcare.rls.operations.RowSecurity({model._meta.model_name!r}, …) to a migration.",
            obj=model,
            id="rls.E001",
        )
        for model in apps.get_models()
        if belongs_to_somebody(model) and (model._meta.app_label, model._meta.model_name) not in walled
    ]


def belongs_to_somebody(model: type[Model]) -> bool:
    """Whether it is a user, or one of this project's own models that refers to one."""
    if model._meta.label == settings.AUTH_USER_MODEL:
        return True
    ours = not model.__module__.startswith(("django.", "rest_framework"))
    ours = ours and not model._meta.proxy and not model._meta.auto_created  # a proxy has no table of its own
    users = [field.remote_field.model for field in model._meta.get_fields() if isinstance(field, ForeignKey)]
    return ours and any(user._meta.label == settings.AUTH_USER_MODEL for user in users)
