"""Translates violations of database constraints to API errors."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.db import IntegrityError
from django.db.models import BaseConstraint, CheckConstraint, F, UniqueConstraint
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError

from healthcare.api.exceptions import Conflict

UNIQUE, FOREIGN_KEY, NOT_NULL, CHECK = "23505", "23503", "23502", "23514"  # SQLSTATE, class 23
RESTRICT = "23001"  # raised only by this project's triggers, so its message is safe to send


def broken_rule(error: IntegrityError) -> APIException | None:
    """A 400 on the field of the violated constraint; None if no model declares the constraint."""
    cause = error.__cause__
    state, diagnostics = getattr(cause, "pgcode", ""), getattr(cause, "diag", None)
    if state == FOREIGN_KEY:
        return ValidationError({"non_field_errors": [ErrorDetail("There is no such record.", "does_not_exist")]})
    if state == RESTRICT:
        return Conflict(getattr(diagnostics, "message_primary", None))
    constraint = named_constraints().get(getattr(diagnostics, "constraint_name", None) or "")
    if constraint is None:
        return None
    code = "unique" if isinstance(constraint, UniqueConstraint) else "invalid"
    named = constraint.violation_error_message != constraint.default_violation_error_message
    message = (
        str(constraint.get_violation_error_message()) if named else "This value violates a constraint of the record."
    )
    return ValidationError({field_of_constraint(constraint): [ErrorDetail(message, code)]})


@cache
def named_constraints() -> dict[str, BaseConstraint]:
    """Every named constraint of every model."""
    return {constraint.name: constraint for model in apps.get_models() for constraint in model._meta.constraints}


def field_of_constraint(constraint: BaseConstraint) -> str:
    """The field an error points to: the last field of a unique constraint, the first of a check constraint, otherwise
    the whole body."""
    if isinstance(constraint, CheckConstraint):
        return next(compared_fields(constraint.condition), "non_field_errors")
    if not isinstance(constraint, UniqueConstraint):
        return "non_field_errors"
    if constraint.fields:
        return constraint.fields[-1]
    nodes = [node for expression in constraint.expressions for node in expression.flatten()]  # type: ignore[union-attr]
    columns: list[str] = [node.name for node in nodes if isinstance(node, F)]  # type: ignore[attr-defined]
    return columns[-1] if columns else "non_field_errors"


def compared_fields(condition: Any) -> Iterator[str]:
    """The fields on the left sides of a condition's comparisons, in order."""
    for child in getattr(condition, "children", []):
        if isinstance(child, tuple):
            yield child[0].partition("__")[0]
        else:
            yield from compared_fields(child)
