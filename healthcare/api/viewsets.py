"""What the viewsets share."""

from collections.abc import Callable, Sequence, Set
from typing import Any, ClassVar, TypeVar

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotAuthenticated
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from healthcare.api.conditional_requests import ConditionalRequests, lost
from healthcare.api.exceptions import Gone
from healthcare.api.filters import ListFilterBackend
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.pagination import read_flag
from healthcare.api.sparse_fieldsets import PARAMETERS, Inclusion, Shape
from healthcare.api.unknown_parameters import StrictViewSet
from healthcare.ownership import Record, RecordQuerySet
from healthcare.search.index import Index

Records = TypeVar("Records", bound=RecordQuerySet)
Method = TypeVar("Method", bound=Callable[..., Any])

DELETED = OpenApiParameter(
    "deleted",
    OpenApiTypes.BOOL,
    default=False,
    description="Lists the deleted ones instead; `updated_at` says since when.",
)


def only_when_asked(parameter: str) -> Callable[[Method], Method]:
    """Marks a hook that does something of its own only for a request with this query parameter: see
    `healthcare.fastpath`."""

    def mark(method: Method) -> Method:
        method.asked_by = parameter  # type: ignore[attr-defined]
        return method

    return mark


class RecordViewSet(IdempotentMixin, ConditionalRequests, StrictViewSet, viewsets.ModelViewSet):
    """CRUD of records: the creator is the caller, and DELETE hides. Paths take ids alone.

    `search_index` is what `?search=` looks into, `ordering_fields` are what the list may be ordered by, `inclusions`
    what `?include=` may add, each under its name.
    """

    lookup_value_converter = "int"
    filter_backends = [ListFilterBackend]
    search_index: ClassVar[Index | None] = None
    ordering_fields: ClassVar[Sequence[str]] = ()
    shaped: ClassVar[set[str]] = {"list", "retrieve"}  # the actions that take ?fields= and ?include=
    inclusions: ClassVar[dict[str, Inclusion]] = {}
    # The actions whose path names a record that another one can take the place of: see `successor`.
    succeeded: ClassVar[Set[str]] = frozenset()
    shape = Shape()  # what the client wants of each record
    # Whether the table keeps a version (`KeepVersion`), so that what anybody may read is kept ready until it changes.
    versioned: ClassVar[bool] = False
    # The methods of the path, where several viewsets share it: see `routing.as_view_by_method`.
    path_methods: Sequence[str] = ()

    @property
    def allowed_methods(self) -> list[str]:
        return list(self.path_methods) or super().allowed_methods

    @classmethod
    def noted(cls) -> str:
        """The column that `recording` finds as `noted` in each row of `shown`."""
        return "pk"

    @classmethod
    def recording(cls, action: str, request: HttpRequest, caller: int | None) -> tuple[str, list[Any]] | None:
        """A statement that records an access to the rows of the relation `shown`, nothing where there is none, with its
        parameters; None where accesses of this kind are not recorded. See `healthcare.fastpath`."""
        return None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action in self.shaped and not request.query_params.keys().isdisjoint(PARAMETERS):
            self.shape = Shape.of(request, set(self.get_serializer().own_fields), set(self.inclusions))

    def get_serializer_context(self) -> dict[str, Any]:
        context = {**super().get_serializer_context(), "shape": self.shape}
        if getattr(self, "swagger_fake_view", False) and self.serializer_class is type(self).serializer_class:
            included = self.inclusions  # the description tells of everything
        else:
            included = {name: self.inclusions[name] for name in self.shape.included}
        return context | {"inclusions": included}

    def include(self, records: list[Any]) -> None:
        """Read what the client wants added to these records, each kind in one statement."""
        for name in self.shape.included:
            self.inclusions[name].fetch(records)

    def paginate_queryset(self, queryset: QuerySet) -> Any:  # type: ignore[override]
        page = super().paginate_queryset(queryset) or []
        if self.action == "list":
            self.include(page)
        return page

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Http404) and self.action in self.succeeded and (path := self.successor()):
            exc = Gone(path)
        return super().handle_exception(exc)

    def successor(self) -> str | None:
        """The path of the record that has taken the place of a record of the caller's; None where there is none."""
        raise NotImplementedError

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        """What is read to be changed stays as it is until it has been."""
        rows = super().filter_queryset(queryset)
        return rows.locked() if self.request.method in {"PUT", "PATCH"} else rows  # type: ignore[attr-defined]

    def found(self) -> Any:
        try:
            return super().get_object()
        except Http404:
            if self.request.method not in {"PUT", "PATCH"}:
                raise
            # Who waited for a row that has moved to another patient meanwhile finds it at a second look.
            return super().get_object()

    def get_object(self) -> Any:
        record = self.found()
        self.require(record)
        self.include([record])
        return record

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        serializer.save(created_by=self.request.user)

    def perform_destroy(self, instance: Record) -> None:
        if not instance.row().end():  # somebody else was faster
            raise lost(instance)


class NestedListViewSet(RecordViewSet):
    """The list of the records that association records (`queryset`) link to the one in the path.

    `parent` and `related` name the two foreign keys of the association: a path with the id of a `parent` answers its
    `related` records, those of the latest association first. `serializer_class` has the field `association_id_field`
    beside those of the related record. `get_queryset` answers the associations, `get_parents` the records that the
    caller may name in the path.
    """

    parent: ClassVar[str]
    related: ClassVar[str]
    association_id_field: ClassVar[str]
    shaped: ClassVar[set[str]] = set()

    def get_parents(self) -> QuerySet:
        raise NotImplementedError

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
    """Records that can be brought back: `get_queryset` answers what `shown` leaves of the caller's."""

    def shown(self, records: Records) -> Records:
        """The active ones; in a list with `?deleted=true` the deleted ones, for callers who are logged in; both to
        restore, locked so that nobody deletes or restores in between."""
        if self.action == "restore":
            return records.locked()
        if self.action != "list" or not read_flag(self.request, "deleted"):
            return records.active()
        if not self.request.user.is_authenticated:
            raise NotAuthenticated
        return records.hidden()

    @extend_schema(parameters=[DELETED])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Bring a deleted record back, with everything that refers to it. One that is not deleted stays as it is, so
        that a call whose answer was lost can be repeated."""
        record = self.get_object()
        if record.row().restore():
            record.refresh_from_db()
        return Response(self.get_serializer(record).data)
