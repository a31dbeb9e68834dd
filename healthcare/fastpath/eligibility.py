"""Finds the members of a viewset that the fast path does not reproduce. Every member is compared by identity."""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from inspect import getattr_static
from types import FunctionType, SimpleNamespace
from typing import Any

import django_filters
from django import forms
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import connection, models
from django.db.models import QuerySet
from django.db.models.manager import BaseManager
from django.db.models.signals import ModelSignal, post_init, post_save, pre_init, pre_save
from django.db.models.utils import AltersData
from django.views import View
from django_filters.filterset import BaseFilterSet
from django_filters.rest_framework import FilterSet
from rest_framework import fields as drf_fields
from rest_framework import generics, mixins, renderers, serializers, views, viewsets
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.settings import api_settings
from rest_framework_simplejwt.authentication import JWTAuthentication

from healthcare import ownership
from healthcare.api import conditional_requests, errors, idempotency, parsers, search_by_post, unknown_parameters
from healthcare.api import fields as api_fields
from healthcare.api import serializers as api_serializers
from healthcare.api import viewsets as api_viewsets
from healthcare.api.filters import ListFilterBackend, ListFilterSet
from healthcare.api.pagination import KeysetPagination
from healthcare.api.sparse_fieldsets import FieldSelection
from healthcare.coverage import CODE, covered_by_fast_path, is_covered, patched_members
from healthcare.replicas.hits import ReplicaHits
from healthcare.search.hits import Hits

WRITE_ACTIONS = {"create", "update", "partial_update"}

VIEW_CLASSES: list[type] = [
    View, views.APIView, generics.GenericAPIView, viewsets.ViewSetMixin, viewsets.GenericViewSet, viewsets.ModelViewSet,
    mixins.CreateModelMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.UpdateModelMixin,
    mixins.DestroyModelMixin, idempotency.IdempotentMixin, conditional_requests.ConditionalRequests,
    unknown_parameters.UnknownParametersViewSet, api_viewsets.ActsForOwner, api_viewsets.RecordViewSet,
    api_viewsets.RestorableViewSet, api_viewsets.NestedListViewSet, search_by_post.SearchByPostMixin,
]  # fmt: skip
SERIALIZER_CLASSES: list[type] = [
    drf_fields.Field, serializers.BaseSerializer, serializers.Serializer, serializers.ModelSerializer,
    api_fields.ModelSerializer, api_serializers.RecordSerializer,
]  # fmt: skip
MODEL_CLASSES: list[type] = [models.Model, AltersData, ownership.Record, ownership.OwnedModel]
QUERYSET_CLASSES: list[type] = [QuerySet, AltersData, ownership.RecordQuerySet, ownership.OwnedQuerySet]
FILTERSET_CLASSES: list[type] = [BaseFilterSet, django_filters.FilterSet, FilterSet, ListFilterSet]
POLICY_CLASSES: list[type] = [
    kind
    for policy in (renderers.JSONRenderer, parsers.StrictJSONParser, parsers.OnlyJSON, KeysetPagination,
                   ListFilterBackend, AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly, JWTAuthentication,
                   serializers.ListSerializer, Hits, ReplicaHits)
    for kind in policy.__mro__ if kind is not object
]  # fmt: skip
for known in (
    *VIEW_CLASSES,
    *SERIALIZER_CLASSES,
    *MODEL_CLASSES,
    *QUERYSET_CLASSES,
    *FILTERSET_CLASSES,
    *POLICY_CLASSES,
):
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
METHODS_OF_ACTION["search"] = METHODS_OF_ACTION["list"] | {"search", "read_body"}
METHODS_OF_RECORD_LIST = {*METHODS_OF_ACTION["list"], "get_object", "find_object"} - {"list"}
METHODS_OF_ACTIONS = set().union(*METHODS_OF_ACTION.values())
# The only HTTP method by which each action is fast; any other action is a GET.
HTTP_METHOD_OF_ACTION = {"create": "post", "update": "put", "partial_update": "patch", "search": "post"}
# The fast path calls these itself, so a viewset may override them.
VIEW_EXTENSION_POINTS = {
    "scope", "in_state", "parent_scope", "past_scope", "history_scope", "access_recording", "access_action",
    "location_base",
}  # fmt: skip
SERIALIZER_EXTENSION_POINTS = {"validate"}  # and validate_<field>
PERMISSIONS: set[Any] = {AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly}
# The options of `as_view()` that the fast path takes into account; any other is an obstacle.
VIEW_OPTIONS = {
    "authentication_classes", "basename", "description", "detail", "filterset_class", "http_method_names", "name",
    "path_methods", "permission_classes", "queryset", "schema", "serializer_class", "suffix",
}  # fmt: skip
# The required values of class attributes and settings.
VIEW_ATTRIBUTES: dict[str, Any] = {
    "renderer_classes": [renderers.JSONRenderer],
    "parser_classes": [parsers.StrictJSONParser],
    "content_negotiation_class": parsers.OnlyJSON,
    "versioning_class": None,
    "throttle_classes": [],
    "pagination_class": KeysetPagination,
    "filter_backends": [ListFilterBackend],
    "settings": api_settings,
    "field_selection": FieldSelection(),
}
# Attributes that the fast path reads of the class. An instance may get another value from a property or descriptor.
CLASS_ATTRIBUTES = {
    "action_roles", "acts_for_owner", "added_fields", "association_id_field", "cached_by_table_version",
    "filterset_class", "inclusions", "ordering_fields", "parent", "path_methods", "queryset", "reads_replicas",
    "related", "search_index", "selecting_actions", "serializer_class", "serializer_classes", "successor_actions",
    "successor_field", "writable_by_tokens",
}  # fmt: skip
DRF_SETTINGS: dict[str, Any] = {
    "EXCEPTION_HANDLER": errors.exception_handler,
    "UNAUTHENTICATED_USER": AnonymousUser,
    "UNAUTHENTICATED_TOKEN": None,
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


INTERCEPTORS = {"__getattr__", "__getattribute__", "__setattr__", "__delattr__", "__init__", "__new__"}
DOCUMENTATION = {"__str__", "__repr__"}


@dataclass(frozen=True)
class Obstacle:
    """A member that keeps an action from the fast path, and what the developer can do.

    A `passing` obstacle may disappear, so that each request checks it again.
    """

    member: str
    hint: str
    passing: bool = False


def obstacles_of_view(
    viewset: Any, action: str, options: dict[str, Any], attributes: Mapping[str, Any]
) -> Iterator[Obstacle]:
    """Obstacles in the view class, its `as_view()` options and DRF's settings. `attributes` are the values that the
    implementation of the action knows, by the names of VIEW_ATTRIBUTES."""
    relevant = METHODS_OF_ACTION.get(action, METHODS_OF_RECORD_LIST)
    yield from replaced_members(viewset, VIEW_CLASSES, (METHODS_OF_ACTIONS - relevant) | VIEW_EXTENSION_POINTS, action)
    view = SimpleNamespace(**{name: options.get(name, getattr(viewset, name)) for name in attributes})
    for name, expected in attributes.items():
        found = getattr(view, name)
        if (list(found) if isinstance(expected, list) else found) != expected:
            yield Obstacle(f"{viewset.__name__}.{name}", "The fast path knows only the project's own value of it.")
    if (viewset.lookup_field, viewset.lookup_url_kwarg) not in {("pk", None), ("id", "pk")}:
        yield Obstacle(f"{viewset.__name__}.lookup_field", "The fast path finds records by their id.")
    permissions = options.get("permission_classes", viewset.permission_classes)
    if not PERMISSIONS.issuperset(equivalent_permissions(permissions, action)):
        yield Obstacle(f"{viewset.__name__}.permission_classes", "Permissions of the fast path are DRF's basic ones.")
    authentication = options.get("authentication_classes", viewset.authentication_classes)
    if len(authentication) != 1 or not is_covered(authentication[0]):
        yield Obstacle(f"{viewset.__name__}.authentication_classes", "The fast path knows one authentication class.")
    for name, expected in DRF_SETTINGS.items():
        if getattr(api_settings, name) != expected:
            yield Obstacle(f"REST_FRAMEWORK[{name!r}]", "The fast path knows only the project's own value of it.")
    for name in sorted(CLASS_ATTRIBUTES):
        if hasattr(type(getattr_static(viewset, name, None)), "__get__"):
            yield Obstacle(f"{viewset.__name__}.{name}", "Make it an attribute of the class.")
    for name in options.keys() - VIEW_OPTIONS - VIEW_ATTRIBUTES.keys():
        yield Obstacle(f"{viewset.__name__}.as_view({name}=…)", "The fast path does not know this option.")
    yield from obstacles_of_settings()
    policies: list[Any] = [serializers.ListSerializer, *permissions, *authentication]
    for name in ("renderer_classes", "parser_classes", "filter_backends"):
        policies += getattr(view, name)
    for policy in (*policies, view.content_negotiation_class, view.pagination_class):
        if isinstance(policy, type):
            yield from patches(policy)


def equivalent_permissions(permissions: Iterable[Any], action: str) -> list[Any]:
    """Each permission, or the one of DRF that it declares to be the same for the action by its `equivalent(action)`.

    Only a class that is covered may declare that. The answer may change with a setting, so each request asks again.
    """
    return [
        (permission.equivalent(action) or permission) if is_conditional(permission) else permission
        for permission in permissions
    ]


def is_conditional(permission: Any) -> bool:
    return isinstance(permission, type) and is_covered(permission) and hasattr(permission, "equivalent")


def obstacles_of_settings() -> Iterator[Obstacle]:
    if not settings.USE_TZ or connection.settings_dict["TIME_ZONE"] not in {None, "UTC"}:
        yield Obstacle("TIME_ZONE", "The fast path writes times in UTC, from sessions in UTC.")
    if settings.DATABASE_ROUTERS:
        yield Obstacle("DATABASE_ROUTERS", "The fast path knows one database.")


def patches(kind: type, extension_points: Set[str] = frozenset()) -> Iterator[Obstacle]:
    """What has been added to registered classes of the MRO, or replaced in them, since they were registered."""
    for base, name in patched_members(kind):
        if name not in extension_points | DOCUMENTATION:
            yield Obstacle(f"{base.__name__}.{name}", "It was patched, so the fast path does not reproduce it.")


def obstacles_of_serializer(serializer: type[serializers.BaseSerializer]) -> Iterator[Obstacle]:
    points = {name for kind in serializer.__mro__ for name in vars(kind) if name.startswith("validate_")}
    yield from replaced_members(serializer, SERIALIZER_CLASSES, SERIALIZER_EXTENSION_POINTS | points)
    meta = getattr(serializer, "Meta", None)
    if type(serializer) is not serializers.SerializerMetaclass:
        yield Obstacle(f"{serializer.__name__}.__class__", "Its metaclass may make another serializer of it.")
    if not issubclass(serializer, serializers.ModelSerializer) or meta is None:
        yield Obstacle(serializer.__name__, "The fast path serializes models.")
    elif hasattr(meta, "list_serializer_class"):
        yield Obstacle(f"{serializer.__name__}.Meta.list_serializer_class", "Remove it, or use standard DRF.")


def obstacles_of_filterset(filterset: Any) -> Iterator[Obstacle]:
    """The filters run as ever where a request names one; a list without any must not depend on the filterset."""
    yield from replaced_members(filterset, FILTERSET_CLASSES, set())
    if not issubclass(filterset, ListFilterSet):
        yield Obstacle(filterset.__name__, "Derive it from ListFilterSet, which applies only what a request names.")
    elif filterset._meta.form is not forms.Form:
        yield Obstacle(f"{filterset.__name__}.Meta.form", "The fast path knows Django's own form.")
    for name, one in filterset.base_filters.items():
        if one.extra["required"]:
            yield Obstacle(f"{filterset.__name__}.{name}", "The fast path does not require filters.")


def obstacles_of_model(model: type[models.Model], action: str) -> Iterator[Obstacle]:
    writes = action in WRITE_ACTIONS
    yield from replaced_members(model, MODEL_CLASSES, {"complete"} if action == "create" or not writes else set())
    for signal, name in zip(WRITE_SIGNALS, ("pre_init", "post_init", "pre_save", "post_save"), strict=True):
        if (writes or signal in READ_SIGNALS) and signal.has_listeners(model):
            yield Obstacle(f"{model.__name__} {name}", "The fast path sends no signals of models.", passing=True)
    manager: Any = model._default_manager
    if type(manager).get_queryset is not BaseManager.get_queryset:
        yield Obstacle(f"{model.__name__}.objects.get_queryset", "Put the condition into a verb of the queryset.")
    for name in sorted(own_members_of_manager(manager)):
        yield Obstacle(f"{model.__name__}.objects.{name}", "Put it into the queryset, where it is compared.")
    yield from replaced_members(type(manager.all()), QUERYSET_CLASSES, {"end", "restore"})
    for field in model._meta.concrete_fields:
        for name in sorted(own_methods(field)):
            yield Obstacle(f"{model.__name__}.{field.name}.{name}", "It was put on this one column.")


def own_members_of_manager(manager: BaseManager) -> Set[str]:
    """The methods of a manager that `from_queryset` has not made of the queryset's."""
    made = models.Manager.filter.__code__
    return own_methods(manager) | {
        name
        for base in type(manager).__mro__
        if base not in models.Manager.__mro__
        for name, value in vars(base).items()
        if isinstance(value, FunctionType) and value.__code__ is not made
    }


def own_methods(one: object) -> Set[str]:
    """The methods of a class that one object replaces, or adds, by attributes of its own."""
    return {
        name
        for name, value in vars(one).items()
        if callable(value) and (name == "from_db_value" or callable(getattr(type(one), name, None)))
    }


def has_receivers(observed: Iterable[type[models.Model]], *, writes: bool) -> bool:
    """Whether a signal of one of the models has receivers now. They can be connected at any time."""
    connected = [signal for signal in (WRITE_SIGNALS if writes else READ_SIGNALS) if signal.receivers]
    return any(signal.has_listeners(model) for signal in connected for model in observed)


def replaced_members(kind: type, known: list[type], extension_points: set[str], *more: str) -> Iterator[Obstacle]:
    """Members of known and covered classes that another class of the MRO overrides with code that is not covered.

    `more` names members that may be defined in any class, and have to be covered where they are.
    """
    reproduced = [base for base in kind.__mro__ if base in known or is_covered(base)]
    names = {name for base in reproduced for name, value in vars(base).items() if isinstance(value, CODE)}
    names = (names - DOCUMENTATION - extension_points) | INTERCEPTORS | set(more)
    yield from patches(kind, extension_points)
    for base in kind.__mro__:
        if base in reproduced or base is object:
            continue
        for name in sorted(names & vars(base).keys()):
            value = vars(base)[name]
            # What another registered class has under this name is not what this one does.
            if not is_covered(value) or any(vars(other).get(name) is value for other in reproduced):
                hint = f"The fast path does not reproduce it. What it replaces is known from {known[-1].__name__}."
                yield Obstacle(f"{base.__name__}.{name}", hint)
