"""The lists of records (`ownership.Record`): their filters, the state of each row, and the search that the API has."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from healthcare.admin.list_filters import ChoiceFilter, DayRangeFilter, OwnerFilter
from healthcare.admin.lists import BoundedChangeList, ListAdmin
from healthcare.ownership import RecordQuerySet

ALL = "all"


class StateFilter(ChoiceFilter):
    """The active records, or those of another state, or all."""

    title = "state"
    parameters: ClassVar = ("state",)
    default = "active"

    def options(self) -> Mapping[str, str]:
        return {state: state.capitalize() for state in (*self.model_admin.states, ALL)}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.value == ALL else queryset.filter(self.model_admin.states[self.value])


class RecordListAdmin(ListAdmin):
    """A list of records. The index of an owner's records in each state serves the filter by owner, one on `created_at`
    that by time."""

    list_select_related: ClassVar[list[str]] = ["created_by"]
    list_filter: ClassVar[Any] = [StateFilter, OwnerFilter, DayRangeFilter]

    def records(self) -> RecordQuerySet:
        records: RecordQuerySet = self.model._default_manager.all()
        return records

    @property
    def ended_column(self) -> str:
        return self.records().ended_column

    @property
    def states(self) -> Mapping[str, Q]:
        """The condition of each state. A record is in one of them."""
        ended = f"{self.ended_column}__isnull"
        name = "ended" if self.ended_column == "ended_at" else "deleted"
        return {"active": Q(**{ended: True}), name: Q(**{ended: False})}

    def state_of(self, record: Any) -> str:
        active, ended, *_ = self.states
        return active if getattr(record, self.ended_column) is None else ended

    @admin.display(description="State")
    def state(self, record: Any) -> SafeString:
        state = self.state_of(record)
        return format_html('<span class="record-state state-{}">{}</span>', state, state.capitalize())

    @admin.display(description="Owner")
    def owner(self, record: Any) -> str:
        return str(record.created_by or "-")

    def list_columns(self, changelist: BoundedChangeList) -> list[str]:
        days = changelist.filter_of(DayRangeFilter)
        return ["created_at", "id"] if days and days.is_active else ["id"]

    def list_parts(self, changelist: BoundedChangeList) -> Sequence[Q]:
        """An owner's records of all states: each state has an index of its own."""
        owner, state = changelist.filter_of(OwnerFilter), changelist.filter_of(StateFilter)
        if owner and owner.owner_id and state and state.value == ALL:
            return [*self.states.values()]
        return ()

    def suggest(self, request: HttpRequest, queryset: Any, text: str) -> list[Any]:
        return super().suggest(request, queryset.active(), text)  # a hidden record cannot be chosen
