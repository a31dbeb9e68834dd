"""Exporting the rows of a list as CSV (RFC 4180), which a spreadsheet opens without executing anything in it."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from healthcare.admin.actions import (
    CONFIRMED,
    ActionsAdmin,
    PreviewedAction,
    action_url,
    list_url,
    selected_ids,
)
from healthcare.admin.list_filters import ListRefused
from healthcare.api.fields import DateTimeField
from healthcare.api.serializers import RecordSerializer
from healthcare.exports.csv_text import BYTE_ORDER_MARK, as_cell, csv_lines, escape_formula

LARGEST_EXPORT = 10_000  # rows
EXPORTED_AT_ONCE = 500  # in memory


class ExportRecords(PreviewedAction):
    """Exports the selected rows, or at its own path the rows of the list with the filters of the query string.

    serializer: gives the columns, which have the names that the API has.
    columns: more columns, by the names of the model's fields.
    """

    name = permission = "export"
    label = "Export selected %(verbose_name_plural)s"
    verb, done = "export", "exported"
    explanation = (
        "The file is a CSV table, which a spreadsheet opens. Its columns have the names that the API has; times are in "
        "UTC. Keep the file as safe as the records: anyone who gets it can read them. The export is recorded, with "
        "your name and with each row as read."
    )
    maximum = LARGEST_EXPORT
    template = "admin/export.html"

    def __init__(self, serializer: type[RecordSerializer], columns: Sequence[str]) -> None:
        super().__init__()
        self.serializer, self.more_columns = serializer, [*columns]

    def list_links(self, model_admin: ActionsAdmin, request: HttpRequest) -> list[tuple[str, str]]:
        filters = request.GET.copy()
        filters.pop("cursor", None)
        url = action_url(model_admin, self.name)
        return [(f"{url}?{filters.urlencode()}" if filters else url, "Export this list")]

    def rows(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> Any:
        return super().rows(model_admin, request, ids).select_related(None)

    def view(self, model_admin: ActionsAdmin, request: HttpRequest) -> HttpResponseBase:
        if selected_ids(request) or not self.is_allowed(model_admin, request):
            return super().view(model_admin, request)
        return self.respond_with_list(model_admin, request)

    def respond_with_list(self, model_admin: ActionsAdmin, request: HttpRequest) -> HttpResponseBase:
        """The rows of the list that the query string describes, as it shows them."""
        try:
            rows = model_admin.get_changelist_instance(request).first_rows(LARGEST_EXPORT + 1)  # type: ignore[attr-defined]
        except ListRefused as error:
            return model_admin.refuse_list(request, str(error))  # type: ignore[attr-defined, no-any-return]
        if request.method == "POST" and CONFIRMED in request.POST and 0 < len(rows) <= LARGEST_EXPORT:
            return self.export(model_admin, request, rows)
        return self.ask(model_admin, request, len(rows), selected=[])

    def preview(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        rows = list(self.rows(model_admin, request, ids).only("pk"))
        return self.ask(model_admin, request, len(rows), selected=rows)

    def ask(
        self, model_admin: ActionsAdmin, request: HttpRequest, number: int, selected: Sequence[Any]
    ) -> HttpResponse:
        singular, plural = model_admin.nouns()
        title = f"Export {number:,} {singular if number == 1 else plural}"
        too_many = number > LARGEST_EXPORT
        filters = "" if selected else f"?{request.GET.urlencode()}"
        context = {
            "title": f"Export more than {LARGEST_EXPORT:,} {plural}" if too_many else title,
            "button": title,
            "number": number,
            "too_many": too_many,
            "most": f"{LARGEST_EXPORT:,}",
            "selected": selected,
            "columns": self.columns(),
            "action_url": action_url(model_admin, self.name) + filters,
            "list_url": list_url(model_admin, request) + filters,
            "undo": self.describe_undo(model_admin, request),
        }
        return self.page(model_admin, request, context)

    def confirm(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> Any:
        rows = list(self.rows(model_admin, request, ids).order_by("-pk"))
        if not rows:
            model_admin.message_user(request, "The selected records are no longer there.", messages.WARNING)
            return HttpResponseRedirect(list_url(model_admin, request))
        return self.export(model_admin, request, rows)

    def export(self, model_admin: ActionsAdmin, request: HttpRequest, rows: Sequence[Any]) -> StreamingHttpResponse:
        """The file. What it holds is recorded before: the view's transaction commits before the file is sent."""
        if not self.is_allowed(model_admin, request):
            raise PermissionDenied
        singular, plural = model_admin.nouns()
        text = f"{len(rows):,} {singular if len(rows) == 1 else plural}"
        model_admin.record_read(request, self.name, rows)
        LogEntry.objects.create(
            user_id=request.user.pk or 0,
            content_type=ContentType.objects.get_for_model(model_admin.model),
            object_repr=text,
            action_flag=CHANGE,
            change_message=f"Exported {text}.",
        )
        model_admin.message_user(request, f"{text} exported. It cannot be undone.", messages.SUCCESS)
        keys = [row.pk for row in rows]
        response = StreamingHttpResponse(self.lines(model_admin, request, keys), content_type="text/csv; charset=utf-8")
        day = timezone.localdate().isoformat()
        response["Content-Disposition"] = f'attachment; filename="{plural}-{day}.csv"'
        return response

    def columns(self) -> list[str]:
        return [*self.serializer().own_fields, *self.more_columns]

    def lines(self, model_admin: ActionsAdmin, request: HttpRequest, keys: Sequence[int]) -> Iterator[str]:
        serializer, own = self.serializer(), self.serializer().own_fields
        more = [str(model_admin.opts.get_field(name).attname) for name in self.more_columns]  # type: ignore[union-attr]

        def cells(row: Any) -> list[str]:
            values = serializer.to_representation(row)
            return [as_admin_cell(value) for value in [*map(values.get, own), *(getattr(row, name) for name in more)]]

        yield BYTE_ORDER_MARK + csv_lines([self.columns()])
        for start in range(0, len(keys), EXPORTED_AT_ONCE):
            some = keys[start : start + EXPORTED_AT_ONCE]
            rows = {row.pk: row for row in self.rows(model_admin, request, some)}
            yield csv_lines(cells(rows[key]) for key in some if key in rows)


def as_admin_cell(value: Any) -> str:
    """The text of a cell, in which nothing is a formula. Lists are JSON, whose texts are escaped too."""
    if isinstance(value, datetime.datetime):
        return str(DateTimeField().to_representation(value))
    return as_cell(escape_texts(value) if isinstance(value, list | dict) else value)


def escape_texts(value: Any) -> Any:
    """The same list or object, with its texts escaped."""
    if isinstance(value, list):
        return [escape_texts(item) for item in value]
    if isinstance(value, dict):
        return {key: escape_texts(item) for key, item in value.items()}
    return escape_formula(value) if isinstance(value, str) else value
