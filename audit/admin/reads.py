"""The admin writes a row to the access log for every page that shows patients' data."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.contenttypes.models import ContentType
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.forms import BaseForm, ModelChoiceField
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from audit.models import AccessLog, Basis
from audit.patient_data import patient_id_field_of, patient_ids_of
from healthcare.admin.history import HistoryAdmin


class Unnamed:
    """A record that reads like the one it wraps, but its text names nobody: "patient 17"."""

    def __init__(self, record: Model) -> None:
        self.record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self.record, name)

    def __str__(self) -> str:
        return f"{self.record._meta.verbose_name} {self.record.pk}"


class ReadsRecordedAdmin(HistoryAdmin):
    """The base of the admin of every model that holds patients' data: records each read of a list, of autocomplete
    suggestions and of single records, and each name that a form, a confirmation page or a popup shows.

    The row of the access log belongs to the view's transaction. Django renders the page after it, from the rows that
    the view has read. "Recent actions" and the messages that follow a change appear on pages of any model, so they hold
    ids instead of names.
    """

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().changelist_view(request, extra_context)
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if changelist is not None:
            self.record_read(request, "changelist", changelist.result_list)
        else:
            self.record_displayed(request, "delete", response)  # the confirmation page of the action
        return response

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        response = super().changeform_view(request, object_id, *args, **kwargs)
        if object_id is not None:
            self.record_displayed(request, "change", response)
        form = (getattr(response, "context_data", None) or {}).get("adminform")
        if chosen := patients_chosen(form.form) if form else []:
            self.record_read(request, "choose", chosen)
        return response

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().history_view(request, object_id, extra_context)
        self.record_displayed(request, "history", response)
        return response

    def restore_version_view(self, request: HttpRequest, object_id: str, event_id: int) -> Any:
        response = super().restore_version_view(request, object_id, event_id)
        self.record_displayed(request, "restore_version", response)
        return response

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().delete_view(request, object_id, extra_context)
        self.record_displayed(request, "delete", response)
        return response

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        request.displayed_records = list(objs)  # type: ignore[attr-defined]
        return super().get_deleted_objects(objs, request)

    def response_add(self, request: HttpRequest, obj: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.response_naming(request, "add", obj, super().response_add, *args, **kwargs)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self.response_naming(request, "change", obj, super().response_change)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        unnamed = f"{self.opts.verbose_name} {obj_id}"
        return super().response_delete(request, unnamed, obj_id)

    def response_naming(
        self,
        request: HttpRequest,
        action: str,
        record: Any,
        respond: Callable[..., HttpResponse],
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponse:
        """A popup gives the record's name to the form that opened it, which is a read. A message names nobody."""
        if IS_POPUP_VAR not in request.POST:
            return respond(request, Unnamed(record), *args, **kwargs)
        self.record_read(request, action, [record])
        return respond(request, record, *args, **kwargs)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self.log_unnamed(request, [obj], ADDITION, message)[0]

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self.log_unnamed(request, [obj], CHANGE, message)[0]

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> list[LogEntry]:
        return self.log_unnamed(request, queryset, DELETION, "")

    def log_changes(self, request: HttpRequest, records: Iterable[Any], flag: int, message: str) -> None:
        self.log_unnamed(request, records, flag, message)

    def log_unnamed(
        self, request: HttpRequest, records: Iterable[Any], action_flag: int, message: Any
    ) -> list[LogEntry]:
        kind = ContentType.objects.get_for_model(self.model, for_concrete_model=False)
        entries = [
            LogEntry(
                user_id=request.user.pk or 0,
                content_type_id=kind.pk,
                object_id=str(record.pk),
                object_repr=str(Unnamed(record)),
                action_flag=action_flag,
                change_message=json.dumps(message) if isinstance(message, list) else message,
            )
            for record in records
        ]
        return LogEntry.objects.bulk_create(entries)

    def get_paginator(self, request: HttpRequest, queryset: QuerySet, *args: Any, **kwargs: Any) -> Paginator:
        paginator = super().get_paginator(request, queryset, *args, **kwargs)
        if request.resolver_match and request.resolver_match.url_name == "autocomplete":
            paginator.page = with_callback(paginator.page, lambda rows: self.record_read(request, "suggest", rows))  # type: ignore[method-assign]
        return paginator

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        record = super().get_object(request, object_id, from_field)
        request.displayed_records = [record] if record else []  # type: ignore[attr-defined]
        return record

    def record_displayed(self, request: HttpRequest, action: str, response: HttpResponseBase) -> None:
        """Record the read of the records that the view has read, if it displays them."""
        if response.status_code in {200, 409} and (records := getattr(request, "displayed_records", None)):
            self.record_read(request, action, records)

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


def patients_chosen(form: BaseForm) -> list[Model]:
    """The records with patients' data that the form shows as chosen: from the query string, or from a refused form."""
    chosen: list[Model] = []
    for name, field in form.fields.items():
        if not isinstance(field, ModelChoiceField) or field.queryset is None:
            continue
        model: type[Model] = field.queryset.model
        if patient_id_field_of(model) and (value := form[name].value()):
            values = value if isinstance(value, list | tuple) else [value]
            with suppress(ValueError, TypeError):  # no id: nothing is shown
                chosen += field.queryset.filter(pk__in=[getattr(one, "pk", one) for one in values])
    return chosen


def with_callback(get_page: Callable[[int | str], Page], callback: Callable[[list[Any]], None]) -> Any:
    """`Paginator.page`, but that it passes the rows of each page to the callback."""

    def page(number: int | str) -> Page:
        result = get_page(number)
        rows = list(result.object_list)
        result.object_list = rows
        callback(rows)
        return result

    return page
