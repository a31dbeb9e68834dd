"""Whether an action of a viewset does only what the fast path reproduces. Every member is compared by identity."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import QuerySet
from django.db.models.manager import BaseManager
from django.db.models.signals import ModelSignal, post_init, post_save, pre_init, pre_save
from django.db.models.utils import AltersData
from django.views import View
from rest_framework import fields as drf_fields
from rest_framework import generics, mixins, renderers, serializers, views, viewsets
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.settings import api_settings

from healthcare import ownership
from healthcare.api import conditional_requests, errors, idempotency, parsers, unknown_parameters
from healthcare.api import fields as api_fields
from healthcare.api import serializers as api_serializers
from healthcare.api import viewsets as api_viewsets
from healthcare.api.filters import ListFilterBackend
from healthcare.api.pagination import KeysetPagination
from healthcare.coverage import CODE, covered_by_fast_path, is_covered

WRITE_ACTIONS = {"create", "update", "partial_update"}

VIEW_CLASSES: list[type] = [
    View, views.APIView, generics.GenericAPIView, viewsets.ViewSetMixin, viewsets.GenericViewSet, viewsets.ModelViewSet,
    mixins.CreateModelMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.UpdateModelMixin,
    mixins.DestroyModelMixin, idempotency.IdempotentMixin, conditional_requests.ConditionalRequests,
    unknown_parameters.UnknownParametersViewSet, api_viewsets.RecordViewSet, api_viewsets.RestorableViewSet,
    api_viewsets.NestedListViewSet,
]  # fmt: skip
SERIALIZER_CLASSES: list[type] = [
    drf_fields.Field, serializers.BaseSerializer, serializers.Serializer, serializers.ModelSerializer,
    api_fields.ModelSerializer, api_serializers.RecordSerializer,
]  # fmt: skip
MODEL_CLASSES: list[type] = [models.Model, AltersData, ownership.Record, ownership.OwnedModel]
QUERYSET_CLASSES: list[type] = [QuerySet, AltersData, ownership.RecordQuerySet, ownership.OwnedQuerySet]
for known in (*VIEW_CLASSES, *SERIALIZER_CLASSES, *MODEL_CLASSES, *QUERYSET_CLASSES):
    covered_by_fast_path(known)

# The methods that only some actions run; every other member of a view class takes part in all of them.
METHODS_OF_ACTION = {
    "list": {"list", "paginate_queryset", "get_paginated_response", "paginator"},
    "retrieve": {"retrieve", "get_object", "find_object", "successor"},
    "create": {"create", "perform_create", "get_success_headers"},
    "update": {"update", "perform_update", "get_object", "find_object"},
    "partial_update": {"partial_update", "update", "perform_update", "get_object", "find_object"},
    "destroy": {"destroy", "perform_destroy"},
    "restore": {"restore"},
}
METHODS_OF_RECORD_LIST = {*METHODS_OF_ACTION["list"], "get_object", "find_object"} - {"list"}
METHODS_OF_ACTIONS = set().union(*METHODS_OF_ACTION.values())
# The fast path calls these itself, so a viewset may define them as it likes.
VIEW_EXTENSION_POINTS = {
    "scope", "in_state", "parent_scope", "successor", "past_scope", "history_scope", "access_recording",
    "access_action",
}  # fmt: skip
SERIALIZER_EXTENSION_POINTS = {"validate"}  # and validate_<field>
PERMISSIONS: set[Any] = {AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly}
# The options of `as_view()` that the fast path takes into account; any other is an obstacle.
VIEW_OPTIONS = {
    "authentication_classes", "basename", "description", "detail", "filterset_class", "http_method_names", "name",
    "path_methods", "permission_classes", "queryset", "schema", "serializer_class", "suffix",
}  # fmt: skip
# What class attributes and settings have to be.
VIEW_ATTRIBUTES: dict[str, Any] = {
    "renderer_classes": [renderers.JSONRenderer],
    "parser_classes": [parsers.StrictJSONParser],
    "content_negotiation_class": parsers.OnlyJSON,
    "versioning_class": None,
    "throttle_classes": [],
    "pagination_class": KeysetPagination,
    "filter_backends": [ListFilterBackend],
    "settings": api_settings,
}
DRF_SETTINGS: dict[str, Any] = {
    "EXCEPTION_HANDLER": errors.exception_handler,
    "UNICODE_JSON": True,
    "COMPACT_JSON": True,
    "STRICT_JSON": True,
    "DATE_FORMAT": "iso-8601",
    "DATETIME_FORMAT": "iso-8601",
    "COERCE_BIGINT_TO_STRING": False,
    "URL_FORMAT_OVERRIDE": None,
    "FORMAT_SUFFIX_KWARG": "format",
}
READ_SIGNALS: tuple[ModelSignal, ...] = (pre_init, post_init)
WRITE_SIGNALS: tuple[ModelSignal, ...] = (pre_init, post_init, pre_save, post_save)


INTERCEPTORS = {"__getattr__", "__getattribute__", "__init__", "__new__"}
DOCUMENTATION = {"__str__", "__repr__"}


@dataclass(frozen=True)
class Obstacle:
    """A member that keeps an action from the fast path, and what the developer can do.

    A `passing` one is looked at again by each request.
    """

    member: str
    hint: str
    passing: bool = False


def obstacles_of_view(viewset: Any, action: str, options: dict[str, Any]) -> Iterator[Obstacle]:
    """What in the view class, its options from `as_view()`, or DRF's settings the fast path does not know."""
    relevant = METHODS_OF_ACTION.get(action, METHODS_OF_RECORD_LIST)
    yield from replaced_members(viewset, VIEW_CLASSES, (METHODS_OF_ACTIONS - relevant) | VIEW_EXTENSION_POINTS, action)
    view = SimpleNamespace(**{name: options.get(name, getattr(viewset, name)) for name in VIEW_ATTRIBUTES})
    for name, expected in VIEW_ATTRIBUTES.items():
        found = getattr(view, name)
        if (list(found) if isinstance(expected, list) else found) != expected:
            yield Obstacle(f"{viewset.__name__}.{name}", "The fast path knows only the project's own value of it.")
    if (viewset.lookup_field, viewset.lookup_url_kwarg) not in {("pk", None), ("id", "pk")}:
        yield Obstacle(f"{viewset.__name__}.lookup_field", "The fast path finds records by their id.")
    permissions = options.get("permission_classes", viewset.permission_classes)
    if not PERMISSIONS.issuperset(permissions):
        yield Obstacle(f"{viewset.__name__}.permission_classes", "Permissions of the fast path are DRF's basic ones.")
    authentication = options.get("authentication_classes", viewset.authentication_classes)
    if len(authentication) != 1 or not is_covered(authentication[0]):
        yield Obstacle(f"{viewset.__name__}.authentication_classes", "The fast path knows one authentication class.")
    for name, expected in DRF_SETTINGS.items():
        if getattr(api_settings, name) != expected:
            yield Obstacle(f"REST_FRAMEWORK[{name!r}]", "The fast path knows only the project's own value of it.")
    for name in options.keys() - VIEW_OPTIONS - VIEW_ATTRIBUTES.keys():
        yield Obstacle(f"{viewset.__name__}.as_view({name}=…)", "The fast path does not know this option.")
    if settings.TIME_ZONE != "UTC" or not settings.USE_TZ:
        yield Obstacle("TIME_ZONE", "The fast path writes times in UTC.")


def obstacles_of_serializer(serializer: type[serializers.BaseSerializer]) -> Iterator[Obstacle]:
    points = {name for kind in serializer.__mro__ for name in vars(kind) if name.startswith("validate_")}
    yield from replaced_members(serializer, SERIALIZER_CLASSES, SERIALIZER_EXTENSION_POINTS | points)
    meta = getattr(serializer, "Meta", None)
    if not issubclass(serializer, serializers.ModelSerializer) or meta is None:
        yield Obstacle(serializer.__name__, "The fast path serializes models.")
    elif hasattr(meta, "list_serializer_class"):
        yield Obstacle(f"{serializer.__name__}.Meta.list_serializer_class", "Remove it, or use standard DRF.")


def obstacles_of_model(model: type[models.Model], action: str) -> Iterator[Obstacle]:
    writes = action in WRITE_ACTIONS
    yield from replaced_members(model, MODEL_CLASSES, {"complete"} if action == "create" or not writes else set())
    for signal, name in zip(WRITE_SIGNALS, ("pre_init", "post_init", "pre_save", "post_save"), strict=True):
        if (writes or signal in READ_SIGNALS) and signal.has_listeners(model):
            yield Obstacle(f"{model.__name__} {name}", "The fast path sends no signals of models.", passing=True)
    manager: Any = model._default_manager
    if type(manager).get_queryset is not BaseManager.get_queryset:
        yield Obstacle(f"{model.__name__}.objects.get_queryset", "Put the condition into a verb of the queryset.")
    yield from replaced_members(type(manager.all()), QUERYSET_CLASSES, {"end", "restore"})


def listens(model: type[models.Model], *, writes: bool) -> bool:
    """Whether a signal of the model has receivers now; they may be connected at any time."""
    return any(signal.has_listeners(model) for signal in (WRITE_SIGNALS if writes else READ_SIGNALS))


def replaced_members(kind: type, known: list[type], extension_points: set[str], *more: str) -> Iterator[Obstacle]:
    """The code of known and covered classes that another class of the MRO replaces by something that is not covered.

    `more` names members that may be defined in any class, and have to be covered where they are.
    """
    reproduced = [base for base in kind.__mro__ if base in known or is_covered(base)]
    names = {name for base in reproduced for name, value in vars(base).items() if isinstance(value, CODE)}
    names = (names - DOCUMENTATION - extension_points) | INTERCEPTORS | set(more)
    for base in kind.__mro__:
        if base in reproduced or base is object:
            continue
        for name in sorted(names & vars(base).keys()):
            if not is_covered(vars(base)[name]):
                hint = f"The fast path does not reproduce it. What it replaces is known from {known[-1].__name__}."
                yield Obstacle(f"{base.__name__}.{name}", hint)
