"""The base viewsets of all records: create, read, change, hide, restore."""

from collections.abc import Sequence, Set
from typing import Any, ClassVar, TypeAlias

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotAuthenticated
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from healthcare.api.conditional_requests import ConditionalRequests, write_conflict
from healthcare.api.exceptions import Gone
from healthcare.api.filters import ListFilterBackend
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.pagination import read_flag
from healthcare.api.serializers import RecordSerializer
from healthcare.api.sparse_fieldsets import PARAMETERS, FieldSelection, Inclusion
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.ownership import Record
from healthcare.search.index import Index

# The caller, or an SQL expression for the caller's id.
Owner: TypeAlias = AbstractBaseUser | AnonymousUser | Combinable

DELETED = OpenApiParameter(
    "deleted",
    OpenApiTypes.BOOL,
    default=False,
    description="Lists the deleted ones instead; `updated_at` says since when.",
)


class RecordViewSet(IdempotentMixin, ConditionalRequests, UnknownParametersViewSet, viewsets.ModelViewSet):
    """CRUD of records: the creator is the caller, and DELETE hides. Paths take integer ids.

    A subclass states what it serves in class attributes and in `scope`; `healthcare.fastpath` compiles the same
    declarations to SQL.

    - `serializer_classes`: the serializer of an action, where it is not `serializer_class`.
    - `search_index`: what `?search=` looks into.
    - `ordering_fields`: the columns that `?ordering=` takes. Each is never null and has an index that ends in the id.
    - `inclusions`: what `?include=` may add to a record, by name.
    - `create_hooks`: methods that take the serializer before a record is created, by the query parameter without which
      they are not called.
    - `successor_actions`: the actions on whose path a record may have been replaced by another one: see `successor`.
    """

    lookup_value_converter = "int"
    filter_backends = [ListFilterBackend]
    serializer_classes: ClassVar[dict[str, type[RecordSerializer]]] = {}
    search_index: ClassVar[Index | None] = None
    ordering_fields: ClassVar[Sequence[str]] = ()
    selecting_actions: ClassVar[Set[str]] = frozenset({"list", "retrieve"})  # these take ?fields= and ?include=
    inclusions: ClassVar[dict[str, Inclusion]] = {}
    create_hooks: ClassVar[dict[str, str]] = {}
    successor_actions: ClassVar[Set[str]] = frozenset()
    field_selection = FieldSelection()
    # The methods of the path, where several viewsets share it: see `routing.as_view_by_method`.
    path_methods: Sequence[str] = ()

    @property
    def allowed_methods(self) -> list[str]:
        return list(self.path_methods) or super().allowed_methods

    @staticmethod
    def scope(owner: Owner) -> QuerySet:
        """The records that the owner may see, deleted ones included.

        It depends on the owner alone: not on the clock, the request or a role of the user.
        """
        raise NotImplementedError

    @classmethod
    def in_state(cls, records: QuerySet, action: str | None) -> QuerySet:
        """Of the scope, what an action reaches unless a query parameter asks for others."""
        return records

    def get_queryset(self) -> QuerySet:
        return self.in_state(self.scope(self.request.user), self.action)

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return self.serializer_classes.get(self.action or "") or super().get_serializer_class()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action in self.selecting_actions and not request.query_params.keys().isdisjoint(PARAMETERS):
            own_fields = set(self.get_serializer().own_fields)
            self.field_selection = FieldSelection.of(request.query_params, own_fields, set(self.inclusions))

    def get_serializer_context(self) -> dict[str, Any]:
        context = {**super().get_serializer_context(), "field_selection": self.field_selection}
        if getattr(self, "swagger_fake_view", False) and self.serializer_class is type(self).serializer_class:
            included = self.inclusions  # the OpenAPI description lists all of them
        else:
            included = {name: self.inclusions[name] for name in self.field_selection.included}
        return context | {"inclusions": included}

    def include(self, records: list[Any]) -> None:
        """Fetch what `?include=` adds to these records, each kind in one statement."""
        for name in self.field_selection.included:
            self.inclusions[name].fetch(records)

    def paginate_queryset(self, queryset: QuerySet) -> Any:  # type: ignore[override]
        page = super().paginate_queryset(queryset) or []
        if self.action == "list":
            self.include(page)
        return page

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Http404) and self.action in self.successor_actions and (path := self.successor()):
            exc = Gone(path)
        return super().handle_exception(exc)

    def successor(self) -> str | None:
        """The path of the record that has replaced a record of the caller's; None where there is none."""
        raise NotImplementedError

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        """Lock what is read to be changed, so that no concurrent update is lost."""
        rows = super().filter_queryset(queryset)
        return rows.locked() if self.request.method in {"PUT", "PATCH"} else rows  # type: ignore[attr-defined]

    def find_object(self) -> Any:
        try:
            return super().get_object()
        except Http404:
            if self.request.method not in {"PUT", "PATCH"}:
                raise
            # Retry once: a concurrent merge may have moved the row to another patient while we waited for its lock.
            return super().get_object()

    def get_object(self) -> Any:
        record = self.find_object()
        self.check_preconditions(record)
        self.include([record])
        return record

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        for parameter, hook in self.create_hooks.items():
            if parameter in self.request.query_params:
                getattr(self, hook)(serializer)
        serializer.save(created_by=self.request.user)

    def perform_destroy(self, instance: Record) -> None:
        if not instance.row().end():  # a concurrent request has hidden it
            raise write_conflict(instance)


class NestedListViewSet(RecordViewSet):
    """The list of the records that association records (`queryset`) link to the one in the path.

    `parent` and `related` name the two foreign keys of the association: a path with the id of a `parent` answers its
    `related` records, those of the latest association first. `serializer_class` has the field `association_id_field`
    beside those of the related record. `scope` gives the associations, `parent_scope` the records that the owner may
    name in the path.
    """

    parent: ClassVar[str]
    related: ClassVar[str]
    association_id_field: ClassVar[str]
    selecting_actions: ClassVar[Set[str]] = frozenset()

    @staticmethod
    def parent_scope(owner: Owner) -> QuerySet:
        raise NotImplementedError

    def get_parents(self) -> QuerySet:
        return self.parent_scope(self.request.user)

    def paginate_related(self, associations: QuerySet) -> list[tuple[Any, Any]]:
        """A page of these associations, each with its related record."""
        page = self.paginate_queryset(associations.select_related(self.related))
        return [(association, getattr(association, self.related)) for association in page]

    def list(self, request: Request, pk: int) -> Response:
        associations = self.get_queryset()  # first, since it refuses bad parameters
        associations = associations.filter(**{self.parent: get_object_or_404(self.get_parents(), id=pk).id})
        records = []
        for association, record in self.paginate_related(associations):
            setattr(record, self.association_id_field, association.id)
            records.append(record)
        return self.get_paginated_response(self.get_serializer(records, many=True).data)


class RestorableViewSet(RecordViewSet):
    """Records that can be restored. `?deleted=true` lists the deleted ones, for callers who are logged in."""

    @classmethod
    def in_state(cls, records: QuerySet, action: str | None) -> QuerySet:
        return records.active()  # type: ignore[attr-defined,no-any-return]

    def get_queryset(self) -> QuerySet:
        if self.action == "restore":
            # Active ones too, and locked: a concurrent delete or restore waits.
            return self.scope(self.request.user).locked()  # type: ignore[attr-defined,no-any-return]
        if self.action == "list" and read_flag(self.request.query_params, "deleted"):
            if not self.request.user.is_authenticated:
                raise NotAuthenticated
            return self.scope(self.request.user).hidden()  # type: ignore[attr-defined,no-any-return]
        return super().get_queryset()

    @extend_schema(parameters=[DELETED])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Restore a deleted record, with everything that refers to it. One that is not deleted stays as it is, so that
        a call whose answer was lost can be repeated."""
        record = self.get_object()
        if record.row().restore():
            record.refresh_from_db()
        return Response(self.get_serializer(record).data)
