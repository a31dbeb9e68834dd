"""System check of row-level security: what belongs to a user is protected, and so is what refers to it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db.migrations import RunSQL
from django.db.migrations.loader import MigrationLoader
from django.db.models import ForeignKey, Model

from healthcare.rls.operations import RowSecurity
from healthcare.rls.policies import Policies, read_functions

ModelKey = tuple[str, str]  # app label and model name


@register()
def owned_models_have_policies(**_: Any) -> list[CheckMessage]:
    return find_errors(list(apps.get_models()), declared_policies())


def declared_policies() -> dict[ModelKey, Policies]:
    """The policies of every model, as its migrations leave them."""
    functions: dict[str, str] = {}
    found: dict[ModelKey, Policies] = defaultdict(lambda: Policies(functions))
    loader = MigrationLoader(None)
    for key in ordered(loader):
        for operation in loader.disk_migrations[key].operations:
            if not isinstance(operation, RunSQL) or not isinstance(operation.sql, str):
                continue
            functions |= read_functions(operation.sql)
            if isinstance(operation, RowSecurity):
                found[key[0], operation.model_name_lower].apply(operation.sql)
    return dict(found)


def ordered(loader: MigrationLoader) -> Iterator[ModelKey]:
    """The keys of all migrations, each after those it depends on."""
    seen: set[ModelKey] = set()
    for leaf in loader.graph.leaf_nodes():
        for key in loader.graph.forwards_plan(leaf):
            if key not in seen and key in loader.disk_migrations:
                seen.add(key)
                yield key


def find_errors(models: list[type[Model]], declared: dict[ModelKey, Policies]) -> list[CheckMessage]:
    owned = {model for model in models if is_user(model) or is_owned(model, declared)}
    errors: list[CheckMessage] = []
    for model in models:
        keys = [key for key in foreign_keys(model) if key.related_model in owned]
        policies = declared.get(model_key(model))
        if policies is None and (is_user(model) or keys):
            errors.append(
                error(
                    f"{model._meta.label} belongs to a user and has no row-level security.",
                    f"Add healthcare.rls.operations.RowSecurity({model._meta.object_name!r}, …) to a migration.",
                    model,
                )
            )
        for key in keys if policies else []:
            if policies and policies.unchecked(key, refers_to_user=is_user(key.related_model)):
                errors.append(
                    error(
                        f"The row-level security of {model._meta.label} lets a caller write a row whose {key.column} "
                        f"names a {key.related_model._meta.label} of somebody else.",
                        f"Add to the WITH CHECK of its policies: {condition_for(key)}",
                        model,
                    )
                )
    return errors


def error(message: str, hint: str, model: type[Model]) -> Error:
    return Error(message, hint=hint, obj=model, id="rls.E001")


def condition_for(key: ForeignKey) -> str:
    """The condition that a policy lacks."""
    related = key.related_model._meta
    if is_user(key.related_model):
        return f"{key.column} = the owner's id, healthcare.rls.OWNER_ID_SQL"
    condition = f"EXISTS (SELECT FROM {related.db_table} o WHERE o.{related.pk.column} = {key.column})"
    if key.related_model is key.model:
        # A policy that queries its own table recurses without end.
        condition = f"is_own_{related.model_name}({key.column})"
    return f"({key.column} IS NULL OR {condition})" if key.null else condition


def model_key(model: type[Model]) -> ModelKey:
    return model._meta.app_label, str(model._meta.model_name)


def is_user(model: type[Model]) -> bool:
    return model._meta.label == settings.AUTH_USER_MODEL


def is_owned(model: type[Model], declared: dict[ModelKey, Policies]) -> bool:
    policies = declared.get(model_key(model))
    return policies is not None and policies.by_owner


def foreign_keys(model: type[Model]) -> list[ForeignKey]:
    """The foreign keys of one of this project's own tables."""
    if model.__module__.startswith(("django.", "rest_framework")) or model._meta.proxy or not model._meta.managed:
        return []
    return [field for field in model._meta.get_fields() if isinstance(field, ForeignKey)]
