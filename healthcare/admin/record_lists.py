"""The lists of records (`ownership.Record`): their filters, the state of each row, and the search that the API has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from healthcare.admin.list_filters import ChoiceFilter, DayRangeFilter, OwnerFilter
from healthcare.admin.lists import SUGGESTIONS, BoundedChangeList, ListAdmin, RowsInParts
from healthcare.ownership import RecordQuerySet
from healthcare.search.index import Index
from healthcare.search.staff_hits import NarrowedHits, StaffHits
from healthcare.search.statements import PageOfHits

ALL = "all"


@dataclass(frozen=True)
class FoundThrough:
    """Records are found by the terms of the record that they refer to. `most` is the number of those, the best matches.
    `shared` says that very many records may refer to one of them."""

    index: Index
    most: int
    shared: bool = False


class StateFilter(ChoiceFilter):
    """The active records, or those of another state, or all."""

    title = "state"
    parameters: ClassVar = ("state",)
    default = "active"
    is_narrow = False

    def options(self) -> Mapping[str, str]:
        return {state: state.capitalize() for state in (*self.model_admin.states, ALL)}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.value == ALL else queryset.filter(self.model_admin.states[self.value])


class RecordListAdmin(ListAdmin):
    """A list of records. The index of an owner's records in each state serves the filter by owner, one on `created_at`
    that by time."""

    list_select_related: ClassVar[list[str]] = ["created_by"]
    # What `?q=` searches: the terms of the records, or those of the records that these foreign keys refer to.
    search_index: ClassVar[Index | None] = None
    found_through: ClassVar[Mapping[str, FoundThrough]] = {}
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

    def get_search_fields(self, request: HttpRequest) -> Any:
        """What Django shows the search box for. No list of records searches columns."""
        return ("id",) if self.search_index or self.found_through else ()

    def search_ways(self, changelist: BoundedChangeList, text: str) -> Sequence[Callable[[], Any]]:
        """The best matches first, then the newest; if nothing matches, the records of the owner with this username."""
        owner = changelist.filter_of(OwnerFilter).owner_id
        if self.search_index is None:
            return [lambda: self.rows_through(changelist, text, owner)]
        state = changelist.filter_of(StateFilter)
        options: Any = {"owner": owner, "hidden": {"active": [False], ALL: [False, True]}.get(state.value, [True])}
        filters: list[Any] = changelist.filter_specs
        is_unknown_to_index = owner is not None and not self.search_index.owner
        if is_unknown_to_index or any(one.is_narrow for one in filters):
            candidates = state.queryset(changelist.request, self.records())
            hits: StaffHits = NarrowedHits(changelist.queryset, candidates, self.search_index, text, **options)
            changelist.note = f"Filtered among the {NarrowedHits.MOST_NARROWED:,} best matches."
        else:
            hits = StaffHits(changelist.queryset, self.search_index, text, **options)
        return [lambda: hits, lambda: self.rows_of_owner(changelist, text)]

    def rows_of_owner(self, changelist: BoundedChangeList, username: str) -> RowsInParts:
        owner = get_user_model()._default_manager.filter(username__lower=username.strip().lower()).first()
        rows = changelist.queryset.filter(created_by=owner) if owner else changelist.queryset.none()
        state = changelist.filter_of(StateFilter)
        return RowsInParts(rows, ["id"], [*self.states.values()] if state.value == ALL else ())

    def rows_through(self, changelist: BoundedChangeList, text: str, owner: int | None) -> RowsInParts:
        """The records that refer to what matches, the newest first."""
        conditions, earlier, counts = list[Q](), Q(), list[str]()
        for name, through in self.found_through.items():
            model = self.model._meta.get_field(name).related_model
            hits = StaffHits(model._default_manager.all(), through.index, text, owner=owner, hidden=[False, True])
            keys = [*hits.look_up(PageOfHits(None, through.most))]
            parts = [Q(**{name: key}) for key in keys] if through.shared else [Q(**{f"{name}__in": keys})]
            conditions += [part & ~earlier for part in parts if keys]
            earlier |= Q(**{f"{name}__in": keys}) if keys else Q()
            counts.append(f"{through.most} {model._meta.verbose_name_plural}")
        changelist.note = f"Searched with the best matches among {' and '.join(counts)}."
        rows = changelist.queryset if conditions else changelist.queryset.none()
        return RowsInParts(rows, changelist.columns, conditions)

    def suggest(self, request: HttpRequest, queryset: Any, text: str) -> list[Any]:
        active = queryset.active()  # a hidden record cannot be chosen
        if self.search_index and text.strip():
            return StaffHits(active, self.search_index, text, owner=None).fetch(None, SUGGESTIONS)
        return list(active[:SUGGESTIONS])
