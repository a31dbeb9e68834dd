"""The filters of the admin's lists. Each reads its own query parameters and refuses a value that it does not know. An
index serves each of them, so that it costs the same in a table of any size."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib.admin import ListFilter
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date

from healthcare.model_fields import ID_TEXT


class ListRefused(Exception):  # noqa: N818
    """A list cannot be shown as the query string asks. The text tells staff what to change."""


class ListTooSlow(ListRefused):
    """PostgreSQL has ended the query of a list: see API_STATEMENT_TIMEOUT."""


class QueryFilter(ListFilter):
    """A filter with the query parameters `parameters`. An empty value is no value, as forms send it."""

    parameters: ClassVar[Sequence[str]]

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.model, self.model_admin = model, model_admin
        for name in self.parameters:
            if value := params.pop(name, [""])[-1]:
                self.used_parameters[name] = value
        self.read()

    def read(self) -> None:
        """Check the values. Raises ListRefused."""

    def expected_parameters(self) -> list[str | None]:
        return [*self.parameters]

    def has_output(self) -> bool:
        return True

    @property
    def is_narrow(self) -> bool:
        """Whether the filter may leave few rows of those that a search finds. A search takes the state and the owner
        into account by itself."""
        return bool(self.used_parameters)

    def given(self, name: str) -> str:
        return str(self.used_parameters.get(name, ""))


class ChoiceFilter(QueryFilter):
    """A choice of links. Without a value it is `default`, or every row where that is empty."""

    default: ClassVar[str] = ""

    def options(self) -> Mapping[str, str]:
        """The label of each value."""
        raise NotImplementedError

    @property
    def value(self) -> str:
        return self.given(self.parameters[0]) or self.default

    def read(self) -> None:
        if self.value and self.value not in self.options():
            known = ", ".join(self.options())
            raise ListRefused(f"Choose one of these values for “{self.parameters[0]}”: {known}.")

    def choices(self, changelist: Any) -> Iterator[Any]:
        [name] = self.parameters
        options = self.options() if self.default else {"": "All", **self.options()}
        for value, label in options.items():
            link = {name: None if value == self.default else value or None}
            yield {"selected": value == self.value, "query_string": changelist.get_query_string(link), "display": label}


class FieldChoiceFilter(ChoiceFilter):
    """The choices of a column, whose name is the parameter."""

    def options(self) -> Mapping[str, str]:
        field = self.model._meta.get_field(self.parameters[0])
        return {str(value): str(label) for value, label in field.choices}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(**{self.parameters[0]: self.value}) if self.value else queryset


class InputFilter(QueryFilter):
    """Fields to type in, in a form of their own that keeps the other parameters. `fields` gives each parameter its
    label and the type of its input."""

    template = "admin/list_filter_text.html"
    fields: ClassVar[Mapping[str, tuple[str, str]]]
    help_text = ""

    def __init_subclass__(cls) -> None:
        if "parameters" not in vars(cls):
            cls.parameters = tuple(getattr(cls, "fields", ()))

    def choices(self, changelist: Any) -> Iterator[Any]:
        """The inputs, for the template."""
        for name, (label, kind) in self.fields.items():
            yield {"name": name, "label": label, "type": kind, "value": self.given(name)}

    def others(self) -> list[tuple[str, str]]:
        """The parameters of the rest of the list, which the form sends along."""
        own = (*self.parameters, "cursor")
        return [(name, str(value)) for name, value in self.request.GET.items() if name not in own]

    @property
    def is_active(self) -> bool:
        return bool(self.used_parameters)

    def without(self) -> str:
        query = self.request.GET.copy()
        for name in (*self.parameters, "cursor"):
            query.pop(name, None)
        return f"?{query.urlencode()}"


class RecordIdFilter(InputFilter):
    """Rows that refer to the record with an id, which `column` holds."""

    column: ClassVar[str]

    def read(self) -> None:
        [name] = self.fields
        self.record_id = read_id(name, self.given(name)) if self.given(name) else None

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.record_id is None else queryset.filter(**{self.column: self.record_id})


def read_id(name: str, text: str) -> int:
    if not ID_TEXT.match(text.strip()):
        raise ListRefused(f"Write a number for “{name}”: the id of the record.")
    return int(text)


class OwnerFilter(InputFilter):
    """The records of one owner, by the whole username in any case, or by the user's id (`created_by`). A username that
    nobody has finds what one finds that owns nothing."""

    title = "owner"
    fields: ClassVar = {"owner": ("Username", "text")}
    parameters: ClassVar = ("owner", "created_by")
    is_narrow = False

    def read(self) -> None:
        users = get_user_model()._default_manager
        found: set[int] = set()
        if key := self.given("created_by"):
            found.add(read_id("created_by", key))
        if username := self.given("owner").strip().lower():
            found.add(users.filter(username__lower=username).values_list("pk", flat=True).first() or 0)
        # The owner's id; 0 if there is none with this username, None without a choice.
        self.owner_id = None if not found else found.pop() if len(found) == 1 else 0
        if self.owner_id and not self.given("owner"):
            self.used_parameters["owner"] = (
                users.filter(pk=self.owner_id).values_list("username", flat=True).first() or ""
            )

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.owner_id is None:
            return queryset
        return queryset.filter(created_by=self.owner_id) if self.owner_id else queryset.none()


class DayRangeFilter(InputFilter):
    """Rows whose time `column` lies on one of these local days, the last one included."""

    column: ClassVar[str] = "created_at"
    title = "day of creation"
    fields: ClassVar = {"created_from": ("From", "date"), "created_to": ("To", "date")}

    def read(self) -> None:
        self.days = [self.read_day(name) for name in self.fields]

    def read_day(self, name: str) -> datetime.date | None:
        text = self.given(name)
        try:
            day = parse_date(text) if text else None
        except ValueError:
            day = None
        if text and (day is None or not 1900 <= day.year <= 9000):
            raise ListRefused(f"Write a day for “{name}” as 2026-12-31.")
        return day

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        first, last = self.days
        if first:
            queryset = queryset.filter(**{f"{self.column}__gte": start_of_day(first)})
        if last:
            queryset = queryset.filter(**{f"{self.column}__lt": start_of_day(last + datetime.timedelta(days=1))})
        return queryset


def start_of_day(day: datetime.date) -> datetime.datetime:
    """Midnight of a local day; where a change of the clock skips it, the moment of the change."""
    return timezone.make_aware(datetime.datetime.combine(day, datetime.time()))


class FlagFilter(ChoiceFilter):
    """A boolean column."""

    def options(self) -> Mapping[str, str]:
        return {"yes": "Yes", "no": "No"}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(**{self.parameters[0]: self.value == "yes"}) if self.value else queryset
