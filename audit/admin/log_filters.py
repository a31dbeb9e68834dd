"""The filters of the access log and of the seals. None of them reads more than a bounded part of the log."""

import datetime
from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest

from audit.admin.wording import table_texts
from audit.models import AccessLog, Basis
from audit.tables import sealed_tables
from healthcare.admin.id_ranges import TimedRows
from healthcare.admin.list_filters import ChoiceFilter, DayRangeFilter, InputFilter, read_id, start_of_day

ACCESSES = TimedRows(AccessLog, "at")


class LoggedPatientFilter(InputFilter):
    title = "patient"
    fields: ClassVar = {"patient": ("Patient’s id", "number")}

    def read(self) -> None:
        text = self.given("patient")
        self.patient_id = read_id("patient", text) if text else None

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.patient_id is None else queryset.filter(patient_ids__contains=[self.patient_id])


class ActorFilter(InputFilter):
    """Who read, by the whole username in any case, or by the user's id (`actor`), which outlives the user."""

    title = "user"
    fields: ClassVar = {"username": ("Username", "text")}
    parameters: ClassVar = ("username", "actor")

    def read(self) -> None:
        self.actor = read_id("actor", self.given("actor")) if self.given("actor") else None
        if username := self.given("username").strip().lower():
            users = get_user_model()._default_manager.filter(username__lower=username)
            found = users.values_list("pk", flat=True).first() or -1
            self.actor = found if self.actor in {None, found} else -1

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.actor is None else queryset.filter(actor=self.actor)


class OutcomeFilter(ChoiceFilter):
    title = "outcome"
    parameters: ClassVar = ("outcome",)

    def options(self) -> Mapping[str, str]:
        return {"shown": "Shown", "refused": "Refused"}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        shown = Q(outcome__lt=400) | Q(outcome=409)
        return queryset.filter(shown if self.value == "shown" else ~shown) if self.value else queryset


class BasisFilter(ChoiceFilter):
    title = "basis"
    parameters: ClassVar = ("basis",)

    def options(self) -> Mapping[str, str]:
        return {basis.value: str(basis.label) for basis in Basis}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(basis=self.value) if self.value else queryset


class LoggedDayFilter(DayRangeFilter):
    """The rows of one local day. Their ids are found by a search over the primary key, since no index has the time."""

    title = "day"
    column = "at"
    fields: ClassVar = {"day": ("Day", "date")}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        [day] = self.days
        self.ids: list[int] = []
        if day is None:
            return queryset
        limits = (start_of_day(day), start_of_day(day + datetime.timedelta(days=1)))
        self.ids = [ACCESSES.first_id_since(moment) or 0 for moment in limits]
        return queryset.filter(id__gte=self.ids[0], id__lt=self.ids[1])


class TableFilter(ChoiceFilter):
    title = "rows of"
    parameters: ClassVar = ("table",)

    def options(self) -> Mapping[str, str]:
        return {table.name: table_texts()[table.name] for table in sealed_tables()}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(table=self.value) if self.value else queryset
