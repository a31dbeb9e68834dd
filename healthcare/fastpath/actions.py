"""The base class of fast actions: their view, the caller, and the answers that need no statement."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from io import BytesIO
from random import Random
from types import FrameType, ModuleType
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.utils.serializer_helpers import ReturnDict, ReturnList

from healthcare.api.acting_for import required_role
from healthcare.api.parsers import StrictJSONParser
from healthcare.api.problems import problem_response
from healthcare.fastpath.eligibility import (
    HTTP_METHOD_OF_ACTION,
    QUERYSET_CLASSES,
    VIEW_ATTRIBUTES,
    WRITE_ACTIONS,
    Obstacle,
    equivalent_permissions,
    has_receivers,
    is_conditional,
    obstacles_of_model,
    obstacles_of_serializer,
    obstacles_of_view,
    replaced_members,
)
from healthcare.fastpath.execution import Statement
from healthcare.fastpath.json_sql import Fragment, UnsupportedError
from healthcare.fastpath.placeholders import OWNER, Parameter
from healthcare.fastpath.statements import principal_of
from healthcare.model_fields import LARGEST_ID
from healthcare.rls.context import TAKE_ROLE, Entry

logger = logging.getLogger("healthcare.fastpath")
PARSER = StrictJSONParser()
# Of a request with a body. Where one is sent, standard DRF answers.
STANDARD_PATH_HEADERS = frozenset({"HTTP_IF_NONE_MATCH", "HTTP_PREFER"})
RETRY_AFTER = {"Retry-After": "5"}
SAMPLE_ID = LARGEST_ID - 1  # of a user who stands for any, when a scope is examined


@dataclass(frozen=True)
class AccessRecording:
    """How the statement that reads or writes rows records the access.

    `insert` is an INSERT … SELECT with the places `{ids}`, `{outcome}` and `{condition}`, `parameters` are those before
    and after the ids, and `column` is the column of an answered row that names whose data it is. With
    `path_names_subject` that is the id in the path.
    """

    insert: str
    parameters: tuple[tuple[Any, ...], tuple[Any, ...]]
    column: str
    path_names_subject: bool

    def fragment(self, ids: Fragment, outcome: Fragment, condition: Fragment) -> Fragment:
        before, after = self.parameters
        sql = self.insert.format(ids=ids.sql, outcome=outcome.sql, condition=condition.sql)
        return Fragment(sql, (*before, *ids.parameters, *after, *outcome.parameters, *condition.parameters))


class NotExpressibleError(Exception):
    """The fast action does not support this request, so standard DRF answers it."""


class InaccessibleValue:
    """Replaces what validations and filters must not read or change: the request, the record, the context. Whatever is
    asked of it sends the request to standard DRF."""

    def __getattr__(self, name: str) -> Any:
        raise NotExpressibleError

    def __getitem__(self, name: str) -> Any:
        raise NotExpressibleError

    def __setattr__(self, name: str, value: Any) -> None:
        raise NotExpressibleError  # the next request would read it

    def __delattr__(self, name: str) -> None:
        raise NotExpressibleError

    @property  # type: ignore[misc]  # `object` lets it be set
    def __class__(self) -> Any:
        raise NotExpressibleError

    def __bool__(self) -> bool:
        raise NotExpressibleError

    def __eq__(self, other: object) -> bool:
        raise NotExpressibleError

    def __str__(self) -> str:
        raise NotExpressibleError

    __hash__ = object.__hash__


class FastResponse(Response):
    """DRF's Response, whose body is there already.

    Middleware and decorators may read and change its `data`, and replace its renderer. Then it is rendered from these.
    """

    renderer_class: ClassVar[type[BaseRenderer]] = JSONRenderer
    view: Any = None  # makes the view of the action, for whatever asks for the renderer's context

    def __init__(
        self, body: bytes, *, status: int, headers: Mapping[str, str] | None, content_type: str | None = None
    ) -> None:
        HttpResponse.__init__(self, status=status, content_type=content_type, headers=headers)
        self.body, self.exception = body, status >= 400
        self.content_type, self.accepted_media_type = self.headers["Content-Type"], str(self.renderer_class.media_type)
        self._post_render_callbacks: list[Any] = []
        self._is_rendered = False  # as DRF's, until it has passed the decorators and `process_template_response`

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()  # for a cache
        return {name: value for name, value in state.items() if name != "view"}

    @cached_property
    def data(self) -> Any:
        data = json.loads(self.body) if self.body else None
        if self.exception or data is None:
            return data
        many = isinstance(data, list)
        return (ReturnList if many else ReturnDict)(data, serializer=self.view().get_serializer(many=many))

    @cached_property
    def accepted_renderer(self) -> Any:  # type: ignore[override]  # it can be set
        return self.renderer_class()

    @cached_property
    def renderer_context(self) -> dict[str, Any]:
        view = self.view()
        return {"view": view, "args": view.args, "kwargs": view.kwargs, "request": view.request}

    @property
    def rendered_content(self) -> Any:
        if not vars(self).keys().isdisjoint({"data", "accepted_renderer"}):
            return super().rendered_content
        if self.body:
            self.headers["Content-Type"] = str(self.content_type)  # like DRF, whatever the header was set to
        else:
            del self.headers["Content-Type"]
        return self.body


class FastAction:
    """An action of a viewset with its URL's options, answered by one statement.

    `obstacles` yields why it cannot be served. `respond` returns None for a request that standard DRF has to answer; it
    has executed nothing then, or PostgreSQL has rolled it back.
    """

    path_arguments: frozenset[str] = frozenset({"pk"})  # what the URL has to capture
    view_attributes: ClassVar[Mapping[str, Any]] = VIEW_ATTRIBUTES  # the values that the viewset must have
    content_type: ClassVar[str] = "application/json"
    response_class: ClassVar[type[FastResponse]] = FastResponse
    answered_as: ClassVar[str | None] = None  # the action whose rows and serializer it has, if not its own

    def __init__(self, viewset: Any, action: str, actions: dict[str, str], options: dict[str, Any]) -> None:
        self.viewset, self.options = viewset, options
        # What the caller may do depends on the action of the URL and its method, as in standard DRF.
        self.routed_action, self.action = action, self.answered_as or action
        self.method = HTTP_METHOD_OF_ACTION.get(action, "get").upper()
        self.http_method_names = self.attribute("http_method_names")
        self.allow = ", ".join(self.allowed_methods(actions))
        self.authentication = self.attribute("authentication_classes")[0]()
        login_permissions = {IsAuthenticated, *({IsAuthenticatedOrReadOnly} if self.method != "GET" else set())}
        self.permissions = equivalent_permissions(self.attribute("permission_classes"), action)
        self.is_open = login_permissions.isdisjoint(self.permissions)
        self.conditional_permissions = [one for one in self.attribute("permission_classes") if is_conditional(one)]
        recording = getattr(viewset, "access_recording", None)
        self.recording: AccessRecording | None = recording(self.action) if recording else None
        self.model = viewset.queryset.model
        self.serializer_class = (
            viewset.serializer_classes.get(self.action) or options.get("serializer_class") or viewset.serializer_class
        )

    @classmethod
    def obstacles(
        cls, viewset: Any, action: str, actions: dict[str, str], options: dict[str, Any]
    ) -> Iterator[Obstacle]:
        """The members that keep the action from the fast path. Without any, the action is served."""
        if cls is FastAction:
            yield Obstacle(action, "There is no fast implementation of it.")
            return
        found = list(obstacles_of_view(viewset, action, options, cls.view_attributes))
        yield from found
        if any(obstacle.member.endswith(".authentication_classes") for obstacle in found) or viewset.queryset is None:
            return
        one = cls(viewset, action, actions, options)
        try:
            for model in one.models:
                yield from obstacles_of_model(model, action if model is one.model else "retrieve")
            yield from obstacles_of_serializer(one.serializer_class)
            if one.serializer_class.Meta.model not in one.models:
                yield Obstacle(f"{one.serializer_class.__name__}.Meta.model", "It is another one than the view's.")
            if one.model._meta.proxy or one.model._meta.parents:
                yield Obstacle(one.model.__name__, "The fast path reads the columns of one table as its own model.")
            yield from one.obstacles_of_statements()
        except UnsupportedError as error:
            yield Obstacle(error.member, error.hint)
        except Exception as error:  # a declaration that cannot be evaluated without a request, say
            yield Obstacle(f"{viewset.__name__}.scope", f"It does not compile ({type(error).__name__}).")

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        """Compile the action's statements once. May raise UnsupportedError, or whatever a declaration raises."""
        yield from self.obstacles_of_scopes()

    def obstacles_of_scopes(self) -> Iterator[Obstacle]:
        for name, scope in self.scopes():
            if found := list(obstacles_of_scope(f"{self.viewset.__name__}.{name}", scope, self.viewset.queryset.model)):
                yield from found
                return

    def scopes(self) -> Iterator[tuple[str, Callable[[Any], QuerySet]]]:
        """The declarations that the statements are compiled from, each a function of the owner."""
        yield "scope", self.viewset.scope
        yield "in_state", lambda owner: self.viewset.in_state(self.viewset.scope(owner), self.action)

    @cached_property
    def models(self) -> list[type[Model]]:
        """The models of which standard DRF builds instances."""
        return [self.model]

    def respond(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        raise NotImplementedError

    def view(self, request: HttpRequest, kwargs: dict[str, Any]) -> Any:
        """The view that standard DRF would have made for the request."""
        view = self.viewset(**self.options)
        view.action_map = {str(request.method).lower(): self.action}
        view.request, view.args, view.kwargs, view.format_kwarg = request, (), kwargs, None
        view.request = view.initialize_request(request, **kwargs)
        view.request.user, view.request.auth = request.user, request.auth  # type: ignore[attr-defined]
        return view

    def attribute(self, name: str) -> Any:
        return self.options.get(name, getattr(self.viewset, name))

    def allowed_methods(self, actions: dict[str, str]) -> list[str]:
        """The methods of the Allow header, in the order in which DRF gives them."""
        if path_methods := self.attribute("path_methods"):
            return list(path_methods)
        known = {*actions, "options"} | ({"head"} if "get" in actions else set())
        return [method.upper() for method in self.http_method_names if method in known]

    def rows(self) -> QuerySet:
        """The rows that the action can reach, of the owner whose id replaces `OWNER`."""
        return self.viewset.in_state(self.viewset.scope(Parameter(OWNER)), self.action)  # type: ignore[no-any-return]

    def permissions_hold(self) -> bool:
        """Whether the permissions still allow what they allowed when the action was compiled."""
        return not self.conditional_permissions or self.permissions == equivalent_permissions(
            self.attribute("permission_classes"), self.routed_action
        )

    def is_observed(self) -> bool:
        """Whether a signal has receivers that standard DRF would call, also for the user that it builds."""
        is_written = has_receivers(self.models, writes=self.action in WRITE_ACTIONS)
        return is_written or has_receivers([get_user_model()], writes=False)

    def enter(self, request: HttpRequest) -> Entry:
        """The statement that authenticates the request. Raises NotAuthenticated and AuthenticationFailed (401), and
        NotExpressibleError for a delegate whose owner is not known here."""
        writes = self.action in WRITE_ACTIONS
        entry: Entry | None = self.authentication.entry(
            request, writes=writes, role=self.role_of_delegates, by_tokens=self.by_tokens
        )
        if entry is None:
            raise NotExpressibleError
        if entry.caller is None and not self.is_open:
            raise NotAuthenticated
        return entry

    @cached_property
    def by_tokens(self) -> bool:
        """Whether personal access tokens may do it, those that write if it writes."""
        if self.method == "GET":
            return True
        # Only for an action that writes does the statement of the entry compare the token's scope.
        scope_suffices = self.action in WRITE_ACTIONS or self.needed_role == "read"
        return scope_suffices and getattr(self.viewset, "writable_by_tokens", False)

    @cached_property
    def role_of_delegates(self) -> str | None:
        """The role that a delegate needs; None where the action ignores X-Acting-For."""
        return self.needed_role if self.viewset.acts_for_owner else None

    @property
    def needed_role(self) -> str:
        return required_role(self.viewset, self.method, self.routed_action)

    def set_user(self, request: HttpRequest, entry: Entry) -> None:
        """Set `request.user` and `request.auth` as DRF does, for middleware that reads them. Both are loaded lazily."""
        authentication, caller = self.authentication, entry.caller
        request.entered_as_delegate = entry.owner.role is not None  # type: ignore[attr-defined]
        request.user = SimpleLazyObject(lambda: authentication.load_user(caller)) if caller else AnonymousUser()  # type: ignore[assignment]
        request.auth = SimpleLazyObject(lambda: authentication.session_of(request)) if caller else None  # type: ignore[attr-defined]

    def respond_with_json(
        self, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> FastResponse:
        response = self.response_class(content, status=status, content_type=self.content_type, headers=headers)
        response.headers["Allow"] = self.allow
        return response

    def respond_with_problem(self, request: HttpRequest, status: int, detail: str = "", **headers: str) -> FastResponse:
        problem = problem_response(request, status, detail, {**headers, "Allow": self.allow})
        return self.response_class(problem.content, status=status, headers=problem.headers)

    def respond_unauthenticated(
        self, request: HttpRequest, error: NotAuthenticated | AuthenticationFailed
    ) -> FastResponse:
        """The same 401 as the exception handler's."""
        request.user, request.auth = AnonymousUser(), None  # type: ignore[attr-defined]
        detail = error.detail if isinstance(error, AuthenticationFailed) and isinstance(error.detail, str) else ""
        challenge = {"WWW-Authenticate": self.authentication.authenticate_header(request)}
        return self.respond_with_problem(request, 401, detail, **challenge)

    def confirm_entry(self, request: HttpRequest, entry: Entry, principal: str) -> bool:
        """Whether the statement, which gave this PRINCIPAL_SQL, has found the session and the delegate's delegation.

        Sets `request.record_owner` only then, so the answer names the owner to delegates and to nobody else.
        """
        if principal != principal_of(entry):
            return False
        request.record_owner = entry.owner  # type: ignore[attr-defined]
        return True

    def respond_unverified(self, request: HttpRequest, entry: Entry) -> FastResponse | None:
        """The answer where the statement has not found the session, or for a delegate the delegation."""
        return None if entry.owner.role else self.respond_session_ended(request)

    def respond_session_ended(self, request: HttpRequest) -> FastResponse:
        return self.respond_unauthenticated(request, self.authentication.session_ended(request))

    def log_failure(self, error: Exception) -> None:
        """Log that a request could not be compiled. Nothing has been sent: standard DRF answers it."""
        name = f"{self.viewset.__name__}.{self.action}"
        logger.error("%s: not compiled, standard DRF answers", name, exc_info=error)

    def log_defect(self, error: Error) -> None:
        """Log a statement that PostgreSQL refused because of a defect in it. Standard DRF then answers the request."""
        state = getattr(error.__cause__, "pgcode", None) or ""
        if state.startswith(("42", "0A", "XX")):  # syntax error or access rule violation, not supported, internal
            logger.error("%s.%s: statement refused, sqlstate=%s", self.viewset.__name__, self.action, state)

    def respond_unavailable(self, request: HttpRequest) -> FastResponse:
        return self.respond_with_problem(request, 503, **RETRY_AFTER)


def obstacles_of_scope(
    member: str, scope: Callable[[Any], QuerySet], model: type[Model] | None = None
) -> Iterator[Obstacle]:
    """Why a scope is no function of the owner's id alone: it reads the clock, a role, the database or a setting.

    A literal value is an obstacle, too, since it may come from the clock or from the request.
    """
    user = get_user_model()
    samples = [user(pk=SAMPLE_ID), user(pk=SAMPLE_ID, is_staff=True, is_superuser=True)]
    try:
        with connection.execute_wrapper(refuse_query), watch_changing_inputs() as inputs:
            rows = [scope(owner) for owner in (Parameter(OWNER), Parameter(OWNER), *samples)]
            compiled = [one.query.get_compiler(connection=connection).as_sql() for one in rows]
    except Exception as error:
        yield Obstacle(member, f"It needs more than an expression for the owner's id ({type(error).__name__}).")
        return
    texts = {sql.replace("(%s)", "%s") for sql, _ in compiled}
    values = {
        tuple(OWNER if type(value) is int and value == SAMPLE_ID else value for value in parameters)
        for _, parameters in compiled
    }
    if inputs:
        yield Obstacle(member, f"It depends on more than the owner's id ({inputs[0]}).")
    elif len(texts) > 1 or len(values) > 1 or not all(type(value) in {type(OWNER), bool} for value in compiled[0][1]):
        yield Obstacle(member, "Its conditions depend on more than the owner's id, or hold literal values.")
    elif rows[0].db != DEFAULT_DB_ALIAS or (model and rows[0].model is not model):
        yield Obstacle(member, "It reads another database or model.")
    elif rows[0]._iterable_class is not ModelIterable or rows[0].query.extra or not rows[0].query.standard_ordering:
        yield Obstacle(member, "Its rows are not those of the model in the order of the page.")
    yield from replaced_members(type(rows[0]), QUERYSET_CLASSES, {"end", "restore"})


WALL_CLOCK = {"time", "time_ns", "localtime", "gmtime"}  # and not what only measures, also in a callback of `gc`


@contextmanager
def watch_changing_inputs() -> Iterator[list[str]]:
    """Yields the names of the functions of the clock, of chance and of context variables that the block calls."""
    called: list[str] = []

    def watch(frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or "asgiref" in frame.f_code.co_filename:  # Django's connections are context variables
            return
        owner = getattr(function, "__self__", None)
        if (
            isinstance(owner, ContextVar | Random)
            or (isinstance(owner, type) and issubclass(owner, date))
            or (isinstance(owner, ModuleType) and owner.__name__ == "time" and function.__name__ in WALL_CLOCK)
        ):
            called.append(function.__qualname__)

    earlier = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield called
    finally:
        sys.setprofile(earlier)


def refuse_query(*_: Any, **__: Any) -> Any:
    """Refuse a query: before the message is sent, it would run outside the caller's role."""
    raise NotExpressibleError


@contextmanager
def without_database() -> Iterator[None]:
    """Refuse queries, and what is to happen once a transaction commits: none has begun, and the call may fail."""
    database: Any = connections[DEFAULT_DB_ALIAS]
    with database.execute_wrapper(refuse_query):
        database.on_commit = refuse_query
        try:
            yield
        finally:
            del database.on_commit


def encode_json(text: str) -> bytes:
    """The bytes that DRF's renderer produces: UTF-8, with line and paragraph separators escaped."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def read_json_body(request: HttpRequest) -> dict[str, Any]:
    """The JSON object of the body. Raises NotExpressibleError or an APIException for what standard DRF has to read or
    refuse, UnreadablePostError for a client that has disconnected."""
    meta, content_type = request.META, request.content_type
    if content_type != PARSER.media_type or "*" in meta["CONTENT_TYPE"]:  # RFC 8187
        raise NotExpressibleError
    if (request.content_params or {}).keys() - {"charset"}:
        raise NotExpressibleError
    if not meta.get("CONTENT_LENGTH") or not meta["CONTENT_TYPE"].lower().startswith(content_type):
        raise NotExpressibleError
    content = request.body
    if len(content) != int(meta["CONTENT_LENGTH"]):
        raise NotExpressibleError
    return PARSER.parse(BytesIO(content))


def basis_of(entry: Entry) -> str:
    """On what basis the caller reads: see `audit.models.Basis`."""
    return "delegate" if entry.owner.role else "owner"


def entry_statements(entry: Entry) -> list[Statement]:
    """The first statements of a message: they check the session and set the role."""
    return [Statement(entry.sql, entry.parameters, plannable=True), Statement(TAKE_ROLE)]
