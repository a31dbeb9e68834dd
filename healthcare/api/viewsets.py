"""The base viewsets of all records: create, read, update, soft-delete and restore."""

from collections.abc import Sequence, Set
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotAuthenticated
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from healthcare.api.acting_for import check_role, owner_of
from healthcare.api.conditional_requests import ConditionalRequests, write_conflict
from healthcare.api.exceptions import Gone
from healthcare.api.filters import ListFilterBackend
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.pagination import joined_parameters, read_flag
from healthcare.api.serializers import RecordSerializer
from healthcare.api.sparse_fieldsets import PARAMETERS, FieldSelection, Inclusion
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.ownership import Owner, Record, RecordOwner
from healthcare.search.index import Index

DELETED = OpenApiParameter(
    "deleted",
    OpenApiTypes.BOOL,
    default=False,
    description="Lists the deleted records instead; `updated_at` is the time of the deletion.",
)


class ActsForOwner(APIView):
    """A view whose requests may act for another owner, by X-Acting-For: see `healthcare.api.acting_for`."""

    acts_for_owner: ClassVar[bool] = True
    # The role that a delegate needs for each action that writes; for one that is not named: `manage`.
    action_roles: ClassVar[dict[str, str]] = {}

    @property
    def owner(self) -> RecordOwner:
        """Whose records the request works on: the caller, or the owner whom a delegate acts for."""
        return owner_of(self.request)

    def check_permissions(self, request: Request) -> None:
        """Raises RoleTooLow (403) as well, before a record is looked up and before the body is parsed."""
        super().check_permissions(request)
        check_role(self, request)


class RecordViewSet(
    ActsForOwner, IdempotentMixin, ConditionalRequests, UnknownParametersViewSet, viewsets.ModelViewSet
):
    """CRUD of records. A new record belongs to the owner of the request; DELETE is a soft delete. Ids are integers.

    A subclass declares its resource in class attributes and in `scope`; `healthcare.fastpath` compiles the same
    declarations to SQL.

    - `serializer_classes`: the serializers of actions that do not use `serializer_class`.
    - `search_index`: the index that `?search=` uses.
    - `ordering_fields`: the columns that `?ordering=` accepts. Each is NOT NULL and has an index that ends in the id.
    - `inclusions`: the related records that `?include=` can add, by name.
    - `create_hooks`: names of methods, by query parameter. If the request has the parameter, the method is called with
      the serializer before the record is created.
    - `successor_actions`: the actions that answer 410 for a record that another one has replaced: see `successor`.
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
    writable_by_tokens: ClassVar[bool] = True  # see `healthcare.api.token_scopes`
    accepts_files = False  # of an action, as an argument of `@action`: its body may be large, and packed with gzip
    acts_for_owner: ClassVar[bool] = False
    action_roles: ClassVar[dict[str, str]] = {
        "create": "write", "update": "write", "partial_update": "write", "search": "read",
    }  # fmt: skip
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
        """The records of the scope that an action uses by default; a query parameter may select others."""
        return records

    def get_queryset(self) -> QuerySet:
        return self.in_state(self.scope(self.owner), self.action)

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return self.serializer_classes.get(self.action or "") or super().get_serializer_class()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.select_fields(request)

    def select_fields(self, request: Request) -> None:
        """Read `?fields=` and `?include=`. Raises ValidationError (400) for a name that is unknown."""
        if self.action in self.selecting_actions and not request.query_params.keys().isdisjoint(PARAMETERS):
            own_fields = set(self.get_serializer().own_fields)
            parameters = joined_parameters(request.query_params)
            self.field_selection = FieldSelection.of(parameters, own_fields, set(self.inclusions))

    def get_serializer_context(self) -> dict[str, Any]:
        context = {**super().get_serializer_context(), "field_selection": self.field_selection}
        if getattr(self, "swagger_fake_view", False) and self.serializer_class is type(self).serializer_class:
            included = self.inclusions  # the OpenAPI description lists all of them
        else:
            included = {name: self.inclusions[name] for name in self.field_selection.included}
        return context | {"inclusions": included}

    def include(self, records: list[Any]) -> None:
        """Fetch the related records that `?include=` adds to these records, each kind in one statement."""
        for name in self.field_selection.included:
            self.inclusions[name].fetch(records)

    def paginate_queryset(self, queryset: QuerySet) -> Any:  # type: ignore[override]
        page = super().paginate_queryset(queryset) or []
        if self.action == "list":
            self.include(page)
        return page

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Http404) and self.action in self.successor_actions:
            path = self.successor()
            exc = exc if path is None else Gone(path)
        return super().handle_exception(exc)

    def successor(self) -> str | None:
        """The path of the record that has replaced the owner's record in the path, empty if that one is deleted; None
        if none has."""
        raise NotImplementedError

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        """Lock the rows that PUT and PATCH read, so that no concurrent update is lost."""
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

    @staticmethod
    def location_base(path: str) -> str:
        """What precedes the id in the path of a record that a POST to `path` has created."""
        return path

    def get_success_headers(self, data: Any) -> dict[str, str]:
        return {"Location": f"{self.location_base(self.request.path)}{data['id']}/"}

    def note_reads(self, subjects: Set[int]) -> None:
        """Called with the ids of the people of whom the answer tells something, where no record is read by itself. A
        viewset that records reads overrides it."""

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        for parameter, hook in self.create_hooks.items():
            if parameter in self.request.query_params:
                getattr(self, hook)(serializer)
        serializer.save(created_by_id=self.owner.pk)

    def perform_destroy(self, instance: Record) -> None:
        if not instance.row().end():  # a concurrent request has deleted it
            raise write_conflict(instance)


class NestedListViewSet(RecordViewSet):
    """The list of the records that association records (`queryset`) link to the one in the path.

    `parent` and `related` name the two foreign keys of the association: a path with the id of a `parent` lists its
    `related` records, those of the latest association first. `serializer_class` has the fields of the related record
    and `association_id_field`. `scope` returns the associations, `parent_scope` the records that the owner may name in
    the path.
    """

    parent: ClassVar[str]
    related: ClassVar[str]
    association_id_field: ClassVar[str]
    selecting_actions: ClassVar[Set[str]] = frozenset()

    @staticmethod
    def parent_scope(owner: Owner) -> QuerySet:
        raise NotImplementedError

    def get_parents(self) -> QuerySet:
        return self.parent_scope(self.owner)

    def paginate_related(self, associations: QuerySet) -> list[tuple[Any, Any]]:
        """A page of these associations, each with its related record."""
        page = self.paginate_queryset(associations.select_related(self.related))
        return [(association, getattr(association, self.related)) for association in page]

    def list(self, request: Request, pk: int) -> Response:
        associations = self.get_queryset()  # first, since it validates query parameters
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
            # Includes active records. The row lock makes a concurrent delete or restore wait.
            return self.scope(self.owner).locked()  # type: ignore[attr-defined,no-any-return]
        if self.action == "list" and read_flag(self.request.query_params, "deleted"):
            if not self.request.user.is_authenticated:
                raise NotAuthenticated
            return self.scope(self.owner).hidden()  # type: ignore[attr-defined,no-any-return]
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
        self.check_unused_body(request)
        if record.row().restore():
            record.refresh_from_db()
        return Response(self.get_serializer(record).data)
