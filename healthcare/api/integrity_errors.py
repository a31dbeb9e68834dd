"""Translates violations of database constraints to API errors."""

from collections.abc import Iterator, Set
from functools import cache
from typing import Any

from django.apps import apps
from django.db import IntegrityError
from django.db.models import BaseConstraint, CheckConstraint, F, UniqueConstraint
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError

from healthcare.api.exceptions import Conflict

UNIQUE, FOREIGN_KEY, NOT_NULL, CHECK = "23505", "23503", "23502", "23514"  # SQLSTATE, class 23
RESTRICT = "23001"  # raised only by this project's triggers, so its message is safe to send


def broken_rule(error: IntegrityError, sent: Set[str] = frozenset()) -> APIException | None:
    """A 400 on a field of the violated constraint, one that was `sent` if possible; None for an unknown constraint."""
    cause = error.__cause__
    state, diagnostics = getattr(cause, "pgcode", ""), getattr(cause, "diag", None)
    if state == FOREIGN_KEY:
        return ValidationError({"non_field_errors": [ErrorDetail("There is no such record.", "does_not_exist")]})
    if state == RESTRICT:
        code = getattr(diagnostics, "constraint_name", None)  # which the trigger gives for clients
        return Conflict(getattr(diagnostics, "message_primary", None), **({"code": code} if code else {}))
    constraint = named_constraints().get(getattr(diagnostics, "constraint_name", None) or "")
    if constraint is None:
        return None
    code = "unique" if isinstance(constraint, UniqueConstraint) else constraint.violation_error_code or "invalid"
    named = constraint.violation_error_message != constraint.default_violation_error_message
    message = (
        str(constraint.get_violation_error_message()) if named else "This value violates a constraint of the record."
    )
    fields = fields_of_constraint(constraint)
    field = next((name for name in fields if name in sent), fields[0])
    return ValidationError({field: [ErrorDetail(message, code)]})


@cache
def named_constraints() -> dict[str, BaseConstraint]:
    """Every named constraint of every model."""
    return {constraint.name: constraint for model in apps.get_models() for constraint in model._meta.constraints}


def fields_of_constraint(constraint: BaseConstraint) -> list[str]:
    """The fields that an error may point to, the best first: the last of a unique constraint, the first of a check
    constraint. The whole body for any other constraint."""
    fields: list[str] = []
    if isinstance(constraint, CheckConstraint):
        fields = list(compared_fields(constraint.condition))
    elif isinstance(constraint, UniqueConstraint) and constraint.fields:
        fields = [*reversed(constraint.fields)]
    elif isinstance(constraint, UniqueConstraint):
        nodes = [node for expression in constraint.expressions for node in expression.flatten()]  # type: ignore[union-attr]
        fields = [node.name for node in reversed(nodes) if isinstance(node, F)]  # type: ignore[attr-defined]
    return fields or ["non_field_errors"]


def compared_fields(condition: Any) -> Iterator[str]:
    """The fields that a condition compares, in order."""
    for child in getattr(condition, "children", []):
        if isinstance(child, tuple):
            yield child[0].partition("__")[0]
            if isinstance(child[1], F):
                yield child[1].name  # type: ignore[attr-defined]
        else:
            yield from compared_fields(child)
