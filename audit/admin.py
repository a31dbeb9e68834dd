"""The admin writes a row to the access log for every page that shows patients' data."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from audit.models import AccessLog, Basis
from audit.patient_data import patient_ids_of


class ReadsRecordedAdmin(ModelAdmin):
    """The base of the admin of every model that holds patients' data: records each read of a list, of autocomplete
    suggestions and of a single record.

    The row of the access log belongs to the view's transaction. Django renders the page after it, from the rows that
    the view has read.
    """

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().changelist_view(request, extra_context)
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if changelist is not None:
            self.record_read(request, "changelist", changelist.result_list)
        return response

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        response = super().changeform_view(request, object_id, *args, **kwargs)
        return self.with_read_recorded(request, "change", object_id, response)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().history_view(request, object_id, extra_context)
        return self.with_read_recorded(request, "history", object_id, response)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().delete_view(request, object_id, extra_context)
        return self.with_read_recorded(request, "delete", object_id, response)

    def get_paginator(self, request: HttpRequest, queryset: QuerySet, *args: Any, **kwargs: Any) -> Paginator:
        paginator = super().get_paginator(request, queryset, *args, **kwargs)
        if request.resolver_match and request.resolver_match.url_name == "autocomplete":
            paginator.page = with_callback(paginator.page, lambda rows: self.record_read(request, "suggest", rows))  # type: ignore[method-assign]
        return paginator

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        record = super().get_object(request, object_id, from_field)
        request.displayed_record = record  # type: ignore[attr-defined]
        return record

    def with_read_recorded(
        self, request: HttpRequest, action: str, object_id: str | None, response: HttpResponseBase
    ) -> Any:
        """The response, after recording the read of the record that it displays, if it displays one."""
        record = getattr(request, "displayed_record", None)
        if object_id is not None and record is not None and response.status_code == 200:
            self.record_read(request, action, [record])
        return response

    def record_read(self, request: HttpRequest, action: str, records: Iterable[Any]) -> None:
        AccessLog.objects.record(
            request.user.pk or 0,
            f"admin.{self.model._meta.model_name}.{action}",
            patient_ids_of(records),
            basis=Basis.STAFF,
            request_id=getattr(request, "request_id", ""),
            outcome=200,
            pure_read=request.method == "GET",
        )


def with_callback(get_page: Callable[[int | str], Page], callback: Callable[[list[Any]], None]) -> Any:
    """`Paginator.page`, but that it passes the rows of each page to the callback."""

    def page(number: int | str) -> Page:
        result = get_page(number)
        rows = list(result.object_list)
        result.object_list = rows
        callback(rows)
        return result

    return page
