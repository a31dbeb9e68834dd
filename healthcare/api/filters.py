"""Filters of lists (django-filter). An invalid or empty value is a 400."""

import datetime
from collections.abc import Callable
from typing import Any

import django_filters
from django import forms
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.utils import timezone
from django_filters.fields import ModelChoiceField
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework.request import Request

from healthcare.api.acting_for import owner_of
from healthcare.api.exceptions import refuse
from healthcare.api.fields import WHOLE_NUMBER
from healthcare.api.parsers import UNSTORABLE
from healthcare.characters import visible_text
from healthcare.rfc3339 import WRITE_A_DAY, WRITE_A_TIME, parse_date_time, parse_full_date

MAXIMUM_FILTER_LENGTH = 254  # characters


class ListFilterBackend(DjangoFilterBackend):
    """Filters lists only: other actions find a record by its id."""

    def get_filterset_class(self, view: Any, queryset: QuerySet | None = None) -> type[FilterSet] | None:
        return super().get_filterset_class(view, queryset) if view.action == "list" else None

    def get_filterset_kwargs(self, request: Any, queryset: QuerySet, view: Any) -> dict[str, Any]:
        filters: Any = self.get_filterset_class(view)
        empty = [name for name in filters.base_filters if not request.query_params.get(name, "-").strip()]
        refuse(empty, "blank", "Send a value to filter by, or leave the filter out.")
        kwargs: dict[str, Any] = super().get_filterset_kwargs(request, queryset, view)
        return kwargs


class ListFilterSet(FilterSet):
    """Deep-copies only the filters that the request names: copying all of them costs more than a query."""

    def __init__(
        self, data: Any = None, queryset: QuerySet | None = None, *, request: Any = None, prefix: str | None = None
    ) -> None:
        named = {name: one for name, one in self.base_filters.items() if name in (data or {}) or one.extra["required"]}
        vars(self)["base_filters"] = named  # FilterSet.__init__ copies them
        super().__init__(data, queryset, request=request, prefix=prefix)


class StorableText(forms.CharField):
    def to_python(self, value: Any) -> str:
        text = visible_text(super().to_python(value) or "")
        if UNSTORABLE.search(text):
            raise forms.ValidationError("Remove NUL characters and lone surrogates.", code="invalid")
        if value and not text:
            raise forms.ValidationError("Send a value of which something can be seen.", code="blank")
        return text


class TextFilter(django_filters.CharFilter):
    """Compares the whole text, case-insensitively."""

    field_class = StorableText

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": MAXIMUM_FILTER_LENGTH, "lookup_expr": "iexact", **kwargs})


class DayField(forms.Field):
    def to_python(self, value: Any) -> datetime.date | None:
        day = parse_full_date(value) if value else None
        if value and day is None:
            raise forms.ValidationError(WRITE_A_DAY, code="invalid")
        return day


@extend_schema_field(OpenApiTypes.DATE)
class DayFilter(django_filters.Filter):
    """A full-date of RFC 3339."""

    field_class = DayField


class TimeField(forms.Field):
    def to_python(self, value: Any) -> datetime.datetime | None:
        if not value:
            return None
        at = read_date_time(value)
        if at is None and (day := parse_full_date(value)):
            at = datetime.datetime.combine(day, datetime.time(), timezone.get_default_timezone())
        if at is None:
            raise forms.ValidationError(WRITE_A_TIME, code="invalid")
        return at


@extend_schema_field(OpenApiTypes.DATETIME)
class TimeFilter(django_filters.Filter):
    """A date-time of RFC 3339, or a full-date, which stands for its first moment in TIME_ZONE."""

    field_class = TimeField


def read_date_time(text: str) -> datetime.datetime | None:
    """The date-time of a query parameter, in which a `+` that was not percent-encoded arrives as a space."""
    return parse_date_time(f"{text[:10]}{text[10:].replace(' ', '+')}")


class WholeNumberFormField(forms.IntegerField):
    """Digits of ASCII, as in bodies. Django's field also takes other digits, spaces and underscores, as `int` does."""

    def to_python(self, value: Any) -> int | None:
        if value and not (isinstance(value, str) and WHOLE_NUMBER.fullmatch(value)):
            raise forms.ValidationError("Enter a whole number.", code="invalid")
        return super().to_python(value)


@extend_schema_field(OpenApiTypes.INT)
class WholeNumberFilter(django_filters.Filter):
    field_class = WholeNumberFormField


class RecordIdField(ModelChoiceField):
    # Whether the statement that uses the id also checks that the record exists. Then no query is needed here.
    checked_in_statement = False

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        digits = value.lstrip("0") if value.isascii() and value.isdigit() else ""
        number = int(digits) if 0 < len(digits) < 20 else 0
        in_range = 0 < number < 2**63
        if in_range and self.checked_in_statement:
            return number
        given: Any = self.queryset
        record = given.filter(pk=number).first() if in_range else None
        if record is None:
            raise forms.ValidationError("There is no such record.", code="does_not_exist")
        return record


@extend_schema_field({"type": "integer", "format": "int64", "minimum": 1})
class IdFilter(django_filters.ModelChoiceFilter):
    """The id of a record within `scope(owner)`; any other id is treated as missing."""

    field_class = RecordIdField

    def __init__(self, scope: Callable[[Any], QuerySet], **kwargs: Any) -> None:
        def choices(request: Request | None) -> QuerySet:
            return scope(owner_of(request) if isinstance(request, Request) else AnonymousUser())

        self.scope = scope

        kwargs["queryset"] = choices
        super().__init__(**kwargs)
