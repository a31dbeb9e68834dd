"""The mixin by which a viewset opts into the fast path, and the choice of the implementation for each request."""

import json
import logging
from collections.abc import Callable, Iterator, Set
from functools import partial, update_wrapper
from threading import Lock
from typing import Any, ClassVar

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from django.utils.functional import cached_property

from healthcare.api.viewsets import NestedListViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.fastpath.actions import FastAction, FastResponse
from healthcare.fastpath.creates import FastCreate
from healthcare.fastpath.eligibility import HTTP_METHOD_OF_ACTION, Obstacle
from healthcare.fastpath.execution import is_healthy
from healthcare.fastpath.lists import FastList
from healthcare.fastpath.lists_by_post import FastListByPost
from healthcare.fastpath.lists_of_records import FastNestedList
from healthcare.fastpath.reads import FastRead
from healthcare.fastpath.retrieve import FastRetrieve
from healthcare.fastpath.updates import FastUpdate
from healthcare.rls.context import leave

logger = logging.getLogger("healthcare.fastpath")
IMPLEMENTATIONS: dict[str, type[FastAction]] = {
    "list": FastList,
    "retrieve": FastRetrieve,
    "create": FastCreate,
    "update": FastUpdate,
    "partial_update": FastUpdate,
    "search": FastListByPost,
}
OWN_HEADERS = {"Content-Length"}  # set by middleware, from the content


@covered_by_fast_path
class FastPathMixin:
    """Serves each action in `fast_actions` by one SQL statement, if all members that take part in it are covered.
    Searches look up their hits before it.

    - `fast_implementations`, where a base class has it: the classes that serve actions beyond DRF's own,
      or those with answers of another format.
    - `successor_field`: the foreign key to the record that has replaced one, where `successor_actions` has retrieve.
    - `cached_by_table_version`: whether any caller may read every record of the scope, and the table has a
      `TableVersionTrigger`: the answers to reads are then cached until the table changes.
    - `reads_replicas`: whether its list may be read on a replica (see `healthcare.replicas`). Everything that it
      answers must belong to the owner, or have a trigger that records each change: see `healthcare.ownership`.
    - `access_recording(action)`, where a base class has it: how the action's statement records the access.
    """

    fast_actions: ClassVar[Set[str]] = frozenset()
    successor_field: ClassVar[str | None] = None
    cached_by_table_version: ClassVar[bool] = False
    reads_replicas: ClassVar[bool] = False

    @classmethod
    def as_view(cls, actions: Any = None, **options: Any) -> Any:
        standard: Any = super().as_view(actions, **options)  # type: ignore[misc]
        fast = FastActions(cls, dict(actions or {}), options)
        if not fast.opted_in:
            return standard
        atomic = standard
        if settings.DATABASES["default"].get("ATOMIC_REQUESTS") and not non_atomic(standard):
            atomic = transaction.atomic(standard)

        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            action = fast.action_for(request, kwargs)
            if action is None or args or not is_healthy():
                return atomic(request, *args, **kwargs)
            if settings.FAST_PATH == "verify":
                return verify(action, atomic, request, kwargs)
            response = action.respond(request, kwargs)
            if response is None:
                if connection.in_atomic_block and getattr(request, "entered_as_delegate", False):
                    leave()  # else an outer transaction hides the owner's account from the authentication statement
                return atomic(request, **kwargs)
            request.served_by = "fast"  # type: ignore[attr-defined]
            if isinstance(response, FastResponse):
                response.view = partial(action.view, request, kwargs)
            return response

        update_wrapper(view, standard)
        view.fast_actions = fast  # type: ignore[attr-defined]
        # What a fast action writes is one statement, which needs no transaction around it; standard DRF gets one above.
        return transaction.non_atomic_requests(view)


class FastActions:
    """The fast actions of one URL, by method."""

    def __init__(self, viewset: Any, actions: dict[str, str], options: dict[str, Any]) -> None:
        self.viewset, self.actions, self.options = viewset, actions, options
        self.opted_in = {method: action for method, action in actions.items() if action in viewset.fast_actions}
        self.determined: dict[str, FastAction] | None = None
        self.lock = Lock()  # of `determined`

    @property
    def obstacles(self) -> dict[str, list[Obstacle]]:
        """The members that keep each action from the fast path, by action."""
        return {action: list(self.find_obstacles(action)) for action in self.opted_in.values()}

    def find_obstacles(self, action: str) -> Iterator[Obstacle]:
        expected = HTTP_METHOD_OF_ACTION.get(action, "get")
        methods = {method for method, opted in self.opted_in.items() if opted == action} - {expected}
        for method in sorted(methods) if self.implementation(action) is not FastAction else ():
            hint = f"The fast path knows it as the action of {expected}."
            yield Obstacle(f"{self.viewset.__name__}.as_view({method}={action})", hint)
        try:
            yield from self.implementation(action).obstacles(self.viewset, action, self.actions, self.options)
        except Exception as error:
            logger.exception("eligibility of %s.%s failed", self.viewset.__name__, action)
            yield Obstacle(f"{self.viewset.__name__}.{action}", f"It cannot be examined ({type(error).__name__}).")

    @cached_property
    def by_method(self) -> dict[str, FastAction]:
        """The served actions. One thread determines them, at the first request to the URL. It takes 0.1 s of CPU; if
        each thread of a new worker did it, the first requests would wait for nearly a second."""
        with self.lock:
            if self.determined is None:
                self.determined = self.determine()
            return self.determined

    def determine(self) -> dict[str, FastAction]:
        """The actions that no obstacle keeps from the fast path, by method."""
        obstacles = self.obstacles
        allowed = self.options.get("http_method_names", self.viewset.http_method_names)
        if not isinstance(allowed, list | tuple | set | frozenset):
            return {}  # a property, say, which only an instance has
        return {
            method.upper(): self.implementation(action)(self.viewset, action, self.actions, self.options)
            for method, action in self.opted_in.items()
            if method in allowed and all(obstacle.passing for obstacle in obstacles[action])
        }

    def implementation(self, action: str) -> type[FastAction]:
        if action == "list" and issubclass(self.viewset, NestedListViewSet):
            return FastNestedList
        own: dict[str, type[FastAction]] = getattr(self.viewset, "fast_implementations", {})
        return own.get(action) or IMPLEMENTATIONS.get(action) or FastAction

    def action_for(self, request: HttpRequest, kwargs: dict[str, Any]) -> FastAction | None:
        if settings.FAST_PATH == "off" or getattr(request, "_force_auth_user", None):
            return None
        action = self.by_method.get(str(request.method))
        if action is None or not action.permissions_hold():
            return None
        if kwargs.keys() != action.path_arguments or type(kwargs.get("pk", 0)) is not int:
            return None
        if timezone.get_current_timezone() is not timezone.get_default_timezone():
            return None  # times are represented in the active time zone
        return action


def non_atomic(view: Any) -> bool:
    return bool(getattr(view, "_non_atomic_requests", ()))


def verify(action: FastAction, standard: Callable[..., Any], request: HttpRequest, kwargs: dict[str, Any]) -> Any:
    """The answer of standard DRF. A read is also answered by the fast path, and a difference is logged.

    What the fast path writes, the row of the access log, is rolled back. Only the names of members are logged.
    """
    fast = None
    if isinstance(action, FastRead):
        with transaction.atomic():
            fast = action.respond(request, kwargs)
            transaction.set_rollback(True)
        if isinstance(fast, FastResponse):
            fast.render()
        vars(request).pop("user", None)
    response = standard(request, **kwargs)
    if fast is not None:
        if hasattr(response, "render"):
            response.render()
        differing = sorted(differences(fast, response))
        if differing:
            match = request.resolver_match
            logger.warning(
                "fast path differs: route=/%s action=%s members=%s",
                match.route if match else "-", action.action, ",".join(differing),
            )  # fmt: skip
    return response


def differences(fast: HttpResponse, standard: HttpResponse) -> Iterator[str]:
    """The names of the differences of two answers: `status`, headers and JSON members."""
    if fast.status_code != standard.status_code:
        yield "status"
    for name in fast.headers.keys() | standard.headers.keys():
        if name not in OWN_HEADERS and fast.headers.get(name) != standard.headers.get(name):
            yield f"header {name}"
    if fast.content != standard.content:
        yield from differing_members(parse_json(fast), parse_json(standard)) or {"body"}


def differing_members(one: Any, other: Any) -> Set[str]:
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return {name for pair in pairs for name in differing_members(*pair)} | (
            {"length"} if len(one) != len(other) else set()
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    return set()


def parse_json(response: HttpResponse) -> Any:
    try:
        return json.loads(response.content or b"null")
    except ValueError:
        return None


def fast_views(resolver: URLResolver | None = None) -> Iterator[FastActions]:
    """The fast actions of every URL whose viewset opts in."""
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLResolver):
            yield from fast_views(entry)
        elif isinstance(entry, URLPattern):
            callback: Any = entry.callback
            for view in {*getattr(callback, "views_by_method", {"": callback}).values()}:
                if isinstance(getattr(view, "fast_actions", None), FastActions):
                    yield view.fast_actions
