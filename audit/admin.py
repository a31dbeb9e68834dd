"""Recording who read patients' data in the admin."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from audit.models import AccessLog, Basis
from audit.patient_data import patient_ids_of


class ReadsRecordedAdmin(ModelAdmin):
    """For the admin of every model that is, or belongs to, a patient: records lists, suggestions and single records.

    In the view's own transaction. The page is drawn later, from the rows that were read here.
    """

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().changelist_view(request, extra_context)
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if changelist is not None:
            self.record_read(request, "changelist", changelist.result_list)
        return response

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return self.recorded(request, "change", object_id, super().changeform_view(request, object_id, *args, **kwargs))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return self.recorded(request, "history", object_id, super().history_view(request, object_id, extra_context))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return self.recorded(request, "delete", object_id, super().delete_view(request, object_id, extra_context))

    def get_paginator(self, request: HttpRequest, queryset: QuerySet, *args: Any, **kwargs: Any) -> Paginator:
        paginator = super().get_paginator(request, queryset, *args, **kwargs)
        if request.resolver_match and request.resolver_match.url_name == "autocomplete":
            paginator.page = recording(paginator.page, lambda rows: self.record_read(request, "suggest", rows))  # type: ignore[method-assign]
        return paginator

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        record = super().get_object(request, object_id, from_field)
        request.record_shown = record  # type: ignore[attr-defined]
        return record

    def recorded(self, request: HttpRequest, action: str, key: str | None, response: HttpResponseBase) -> Any:
        record = getattr(request, "record_shown", None)
        if key is not None and record is not None and response.status_code == 200:
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


def recording(turn: Any, record: Any) -> Any:
    def page(number: int | str) -> Page:
        turned: Page = turn(number)
        turned.object_list = list(turned.object_list)
        record(turned.object_list)
        return turned

    return page
