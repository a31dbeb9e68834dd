"""Paths whose HTTP methods are divided among several viewsets."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.viewsets import ViewSetMixin

Actions = dict[str, str]  # as `as_view` takes them: the action by the method in lower case
ORDER = ["get", "head", "options", "post", "put", "patch", "delete"]


def as_view_by_method(*viewsets: tuple[type[ViewSetMixin], Actions], **initkwargs: Any) -> Callable[..., Any]:
    """A view for a path whose methods different viewsets answer: ``(viewset, {"get": "list"})`` for each of them.

    A method that none of them answers goes to the first, which responds with 405. `Allow` names the methods of all, so
    each viewset has the attribute `path_methods`. `HEAD` follows `GET`. Two viewsets for one method are a ValueError.
    """
    actions: Actions = {}
    for _, own in viewsets:
        if shared := actions.keys() & own.keys():
            raise ValueError(f"Two viewsets answer {', '.join(sorted(shared))} at this path.")
        actions |= own
    answered = actions.keys() | {"options"} | ({"head"} if "get" in actions else set())
    path_methods = tuple(method.upper() for method in ORDER if method in answered)
    views: dict[str, Any] = {}
    for viewset, own in viewsets:
        view = viewset.as_view({**own}, path_methods=path_methods, **initkwargs)
        views |= dict.fromkeys(own, view)
    if "get" in views:
        views.setdefault("head", views["get"])
    first: Any = next(iter(views.values()))

    def dispatch(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = views.get(str(request.method).lower(), first)(request, *args, **kwargs)
        return response

    # Attributes that Django's middleware, DRF and drf-spectacular read from a view.
    dispatch.csrf_exempt = True  # type: ignore[attr-defined]
    dispatch.cls, dispatch.initkwargs, dispatch.actions = first.cls, first.initkwargs, actions  # type: ignore[attr-defined]
    dispatch.views_by_method = views  # type: ignore[attr-defined]
    return dispatch


def split_by_method(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Preprocessing hook of drf-spectacular: describe each method of such a path from the viewset that answers it."""
    return [
        (path, regex, method, getattr(callback, "views_by_method", {}).get(method.lower(), callback))
        for path, regex, method, callback in endpoints
    ]
