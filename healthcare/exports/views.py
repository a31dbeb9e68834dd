"""`GET /…/export/`: all records of a list, as a file."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

from django.db import OperationalError, connection, transaction
from django.http import StreamingHttpResponse
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from healthcare.api.cursors import Keyset
from healthcare.api.exceptions import PayloadTooLarge
from healthcare.api.pagination import joined_parameters
from healthcare.api.schema import PROBLEM
from healthcare.api.sparse_fieldsets import FieldSelection, read_names
from healthcare.api.viewsets import RecordViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.exports.formats import CSVFormat, ExportFormat, NDJSONFormat, choose_format, read_byte_order_mark
from healthcare.exports.models import ServerId
from healthcare.exports.snapshot import Snapshot
from healthcare.exports.stream import ExportLimits, ExportStream
from healthcare.rls.context import enter
from healthcare.search.hits import Hits

Represent: TypeAlias = Callable[[Sequence[Any]], list[dict[str, Any]]]  # the values of each of some records
SERVER = "server"  # the column with the id of this server, after those of the record
FORMAT_PARAMETER = OpenApiParameter(
    "format",
    {"type": "string", "enum": [CSVFormat.name, NDJSONFormat.name]},
    description="Instead of `Accept`. Default: `csv`.",
)
BOM_PARAMETER = OpenApiParameter(
    "bom", OpenApiTypes.BOOL, default=False, description="Begins CSV with a byte order mark, for Excel."
)
DESCRIPTION = """All records of the list, in its order and with its filters, as CSV (RFC 4180) or NDJSON.

The columns are the fields of a record, `fhir` of patients and doctors, in JSON what FHIR clients sent and no field has,
and `server`, which names this server. In CSV, lists are JSON, and what a spreadsheet would run as a formula begins with
an apostrophe. The file shows one moment. One export of each caller runs at a time (429). If the connection breaks
before the end, the file is not complete."""


class StreamedResponse(StreamingHttpResponse):
    streams = True  # the server sends each part when it is generated


@covered_by_fast_path  # which serves the other actions
class ExportMixin(RecordViewSet):
    """Adds /export/ to the path of a list.

    `record_export(records)`, where reads are recorded, records that these have been read: it is called before they are
    sent. None for public records.
    `more_columns` are attributes of a record that an export has after the fields of the API.
    """

    record_export: ClassVar[Callable[[Any, Sequence[Any]], None] | None] = None
    export_limits: ClassVar[ExportLimits] = ExportLimits()
    more_columns: ClassVar[Sequence[str]] = ()
    written_as: ExportFormat  # of this request
    stream: ExportStream | None = None

    @extend_schema(
        description=DESCRIPTION,
        parameters=[FORMAT_PARAMETER, BOM_PARAMETER],
        responses={
            (200, CSVFormat.media_type): OpenApiTypes.BINARY,
            (200, NDJSONFormat.media_type): OpenApiTypes.BINARY,
            406: PROBLEM,
            413: PROBLEM,
            429: PROBLEM,
        },
        filters=False,
    )
    @action(detail=False)
    def export(self, request: Request) -> StreamedResponse:
        self.written_as = self.choose_columns_and_format(request)
        rows, represent = self.rows_of_list(request)
        if request.method == "HEAD":
            return self.as_file([])
        self.stream = self.open_stream(rows, represent)
        return self.as_file(self.stream)

    def rows_of_list(self, request: Request) -> tuple[Keyset | Hits, Represent]:
        """The rows that the list has, without its pages, and what represents them. Raises what the list raises
        for its parameters."""
        self.action = "list"
        try:
            return self.all_rows(request), self.representation()
        finally:
            self.action = "export"

    def open_stream(self, rows: Keyset | Hits, represent: Represent) -> ExportStream:
        """Raises ExportRunning (429), PayloadTooLarge (413), and what the database raises."""
        snapshot = Snapshot(self.export_limits.idle)
        try:
            snapshot.begin(self.lock_name(self.request), self.enter_again)
            with snapshot.use():
                check_size(rows, self.export_limits.records)
            return ExportStream(
                snapshot,
                rows,
                represent,
                self.written_as,
                self.enter_again,
                self.record_export,
                self.export_limits,
            )
        except BaseException:
            snapshot.close()
            raise

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().finalize_response(request, response, *args, **kwargs)
        except BaseException:
            if self.stream is not None:  # Django answers the error, and does not close what it replaces
                self.stream.close()
            raise

    def choose_columns_and_format(self, request: Request) -> ExportFormat:
        """Raises ValidationError (400) for unknown columns, and what `choose_format` raises."""
        kind = choose_format(request)
        byte_order_mark = read_byte_order_mark(request, kind)
        known = [*self.get_serializer().own_fields, *self.more_columns, SERVER]
        names = read_names(joined_parameters(request.query_params), "fields", {*known})
        columns = [name for name in known if names is None or name in names]
        self.field_selection = FieldSelection(frozenset(columns))
        return CSVFormat(columns, byte_order_mark=byte_order_mark) if kind is CSVFormat else kind(columns)

    def all_rows(self, request: Request) -> Keyset | Hits:
        queryset = self.filter_queryset(self.get_queryset())
        paginator: Any = self.paginator
        paginator.request = request
        paginator.key = self.lookup_field
        rows: Keyset | Hits = paginator.order(queryset, self)
        return rows

    def representation(self) -> Represent:
        serializer, server = self.get_serializer(), {SERVER: ServerId.objects.own()}

        def represent(record: Any) -> dict[str, Any]:
            more = {name: getattr(record, name) for name in self.more_columns}
            values: dict[str, Any] = serializer.to_representation(record) | more | server
            return values

        return lambda records: [represent(record) for record in records]

    def enter_again(self) -> None:
        """Enter the database as the caller, on another connection than that of the request."""
        authenticator: Any = self.request.successful_authenticator
        if hasattr(authenticator, "enter_again"):
            authenticator.enter_again(self.request)
        else:
            enter(self.request.user.pk, self.request, self.owner)

    def lock_name(self, request: Request) -> str:
        """Of the advisory lock that one export of a caller holds: a user, or an address without a token."""
        return f"export {request.user.pk or BaseThrottle().get_ident(request)}"

    def as_file(self, content: Iterable[bytes]) -> StreamedResponse:
        name = f"{self.kind_of_records()}.{self.written_as.name}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"}
        return StreamedResponse(content, content_type=self.written_as.content_type, headers=headers)

    def kind_of_records(self) -> str:
        """What the file is called: `patients`."""
        return f"{self.get_serializer().Meta.model._meta.model_name}s"


def check_size(rows: Keyset | Hits, most: float) -> None:
    """Raise PayloadTooLarge (413) if there are more rows, as far as that can be known cheaply: a larger export is
    broken off. The rows are counted only where the table may have so many."""
    if isinstance(rows, Hits) or most == math.inf:
        return
    with connection.cursor() as cursor:
        table = rows.queryset.model._meta.db_table
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [table])
        if cursor.fetchone()[0] < most / 2:
            return
    try:
        with transaction.atomic():
            count = rows.queryset.order_by()[: int(most) + 1].count()
    except OperationalError:  # the statement has taken too long
        return
    if count > most:
        raise PayloadTooLarge(f"An export has at most {most:,} records; choose fewer by the filters of the list.")


def exported_viewsets() -> dict[str, type[ExportMixin]]:
    """The viewsets with an export, by the last part of the path of their list."""
    found = {}
    for pattern in all_patterns(get_resolver()):
        view: Any = pattern.callback
        if getattr(view, "actions", {}).get("get") == "export" and issubclass(view.cls, ExportMixin):
            found[str(pattern.pattern).rstrip("/").split("/")[-2]] = view.cls
    return found


def all_patterns(resolver: URLResolver) -> Iterator[URLPattern]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from all_patterns(pattern)
        else:
            yield pattern
