"""What a viewset declares, and whether it does anything beside that."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request

CALLER = 2**62 + 57  # stands for the caller's id
# Who overrides one of these elsewhere means something that is not compiled here.
HOOKS = (
    "dispatch", "initial", "check_permissions", "check_object_permissions", "get_authenticators", "get_permissions",
    "get_throttles", "filter_queryset", "get_serializer", "get_serializer_context", "finalize_response",
)  # fmt: skip
PAGED = ("paginate_queryset", "get_paginated_response")
HOOKS_OF = {
    "list": ("list", *PAGED),
    "retrieve": ("retrieve", "get_object"),
    "create": ("create", "perform_create", "get_success_headers"),
    "update": ("update", "perform_update", "get_object"),
    "partial_update": ("partial_update", "update", "perform_update", "get_object"),
}
OURS = ("rest_framework.", "healthcare.api.", "audit.")
PERMISSIONS = {AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly}


def ordinary(viewset: Any, action: str) -> bool:
    """Whether an action does what its declarations say and nothing of its own."""
    return (
        action in HOOKS_OF
        and all(is_known(getattr(viewset, name)) for name in (*HOOKS, *HOOKS_OF[action]))
        and PERMISSIONS.issuperset(viewset.permission_classes)
        and not viewset.throttle_classes
        and [hasattr(one, "entry") for one in viewset.authentication_classes] == [True]
    )


def is_known(method: Callable[..., Any]) -> bool:
    """Whether it is the framework's, or differs from that only when a query parameter asks it to."""
    return unwrap(method).__module__.startswith(OURS) or hasattr(unwrap(method), "asked_by")


def view_of(viewset: Any, actions: dict[str, str], method: str, *, anonymous: bool = False) -> Any:
    """A view as the framework makes it for a request of this method without parameters."""
    view = viewset(action_map=actions)
    for verb, name in actions.items():
        setattr(view, verb, getattr(view, name))
    if "get" in actions:
        view.head = view.get
    view.action, view.kwargs, view.format_kwarg = actions[method.lower()], {}, None
    asked = HttpRequest()
    asked.method = method
    view.request = Request(asked)
    view.request.user = AnonymousUser() if anonymous else get_user_model()(pk=CALLER)
    return view


def allowed(view: Any) -> bool:
    try:
        view.check_permissions(view.request)
    except APIException:
        return False
    return True


def scope_of(view: Any) -> QuerySet | None:
    """The rows that the view reaches; None where that is none at all or more than the rows of one table."""
    scope: QuerySet = view.filter_queryset(view.get_queryset())
    query = scope.query
    return None if query.annotations or query.select_related or query.is_empty() else scope
