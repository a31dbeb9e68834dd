"""The lists of the admin. Their cost does not grow with the table: keyset pages, newest first; counts that stop at
10,000; filters that an index serves, and nothing else in the query string."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from django.contrib import admin
from django.contrib.admin import ShowFacets
from django.contrib.admin.checks import ModelAdminChecks
from django.contrib.admin.exceptions import DisallowedModelAdminLookup, DisallowedModelAdminToField
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_POPUP_VAR, TO_FIELD_VAR
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.core.checks import Error
from django.core.exceptions import BadRequest
from django.db import OperationalError, models, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from psycopg2.errors import QueryCanceled
from rest_framework.exceptions import ValidationError

from healthcare.admin.counts import EXACT_UP_TO, Count, complete_count, count_rows
from healthcare.admin.list_filters import ListRefused, ListTooSlow, QueryFilter
from healthcare.api.cursors import Cursor, Keyset, invalid_cursor
from healthcare.api.pagination import LONGEST_SEARCH
from healthcare.api.parsers import UNSTORABLE
from healthcare.api.suggestions import nearest_name
from healthcare.model_fields import ID_TEXT

CURSOR_VAR = "cursor"
LONGEST_VALUE = 500
LONGEST_KEY = 100  # characters of a primary key that is text
SUGGESTIONS = 20


class RowsInParts(Keyset):
    """The rows of a queryset as a list, newest first. `conditions` split them into parts without a row in common, where
    an index serves the order of each part and none the order of all."""

    def __init__(self, rows: Any, columns: list[str], conditions: Sequence[Q] = ()) -> None:
        only = conditions[0] if len(conditions) == 1 else Q()
        super().__init__(rows.filter(only), columns, descending=True)
        is_split = len(conditions) > 1 and not rows.query.is_empty()  # Django makes no union of empty querysets
        self.parts = [rows.filter(condition) for condition in conditions] if is_split else []

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Any]:
        if not self.parts:
            return super().fetch(cursor, limit)
        downwards = cursor is None or not cursor.back
        keys = self.merge(limit, self.beyond(cursor.values, downwards) if cursor else Q(), downwards=downwards)
        rows = {row.pk: row for row in self.queryset.filter(pk__in=[key[-1] for key in keys])}
        return [rows[key[-1]] for key in keys if key[-1] in rows]

    def merge(self, limit: int, condition: Q, *, downwards: bool) -> Any:
        """The first columns of the parts' rows, in order: each part contributes at most `limit` of them."""
        order = [f"-{column}" if downwards else column for column in self.columns]
        first, *others = [
            part.filter(condition).order_by(*order).values_list(*self.columns)[:limit] for part in self.parts
        ]
        return first.union(*others, all=True).order_by(*order)[:limit]

    def value(self, column: str, written: Any) -> Any:
        if isinstance(self.field(column), models.CharField):
            if not isinstance(written, str) or len(written) > LONGEST_KEY:
                raise invalid_cursor()
            return written
        return super().value(column, written)

    def counted(self) -> Count:
        """How many rows there are: see `counts`."""
        rows = self.queryset.order_by(*(f"-{column}" for column in self.columns))
        if rows.query.is_empty():
            return Count(0)
        if not self.parts:
            return count_rows(rows)
        return complete_count(self.merge(EXACT_UP_TO + 1, Q(), downwards=True).count(), rows)


class BoundedChangeList(ChangeList):
    """A page of a list, with the cursors of the pages before and after it."""

    model_admin: "ListAdmin"
    count: Count | None  # None for hits of a search that are more than a page
    newer_url = older_url = first_url = ""
    note = ""  # a sentence about what the list leaves out

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.request, self.cursor_text = request, request.GET.get(CURSOR_VAR) or None
        super().__init__(request, *args, **kwargs)
        if not self.is_popup:
            self.title = capfirst(str(self.opts.verbose_name_plural))

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """The rows that the filters leave, newest first. A search is applied to a page of them alone."""
        for parameters in (self.params, self.filter_params):
            parameters.pop(CURSOR_VAR, None)
        self.filter_specs, self.has_filters, rest, _, self.has_active_filters = self.get_filters(request)
        rows: Any = self.root_queryset
        for one in self.filter_specs:
            rows = one.queryset(request, rows)
        self.clear_all_filters_qs = self.get_query_string(remove=[*self.get_filters_params()])
        self.columns = self.model_admin.list_columns(self)
        return self.apply_select_related(rows).order_by(*(f"-{column}" for column in self.columns))

    def filter_of(self, kind: type[Any]) -> Any:
        """The filter of this class, None if the list has none."""
        return next((one for one in self.filter_specs if isinstance(one, kind)), None)

    def get_ordering_field_columns(self) -> dict[int, Any]:
        return {}  # no column is marked as the one that sorts

    def get_results(self, request: HttpRequest) -> None:
        text = self.query.strip()
        limit, count = self.list_per_page, None
        if text:
            ways = self.model_admin.search_ways(self, text)
        else:
            every = self.in_parts()
            ways, count = [lambda: every], every.counted()
        rows, cursor, found = self.find_page(ways, limit)
        page, more, back = found[:limit], len(found) > limit, cursor is not None and cursor.back
        self.result_list: list[Any] = page[::-1] if back else page
        self.count = count or (None if more or cursor else Count(len(page)))
        self.set_links(rows, cursor, more=more)
        # What Django's templates read. They offer to select all pages if the list is longer than the page.
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count, self.show_admin_actions = False, True
        self.can_show_all = self.multi_page = False

    def find_page(self, ways: Sequence[Callable[[], Any]], limit: int) -> tuple[Any, Cursor | None, list[Any]]:
        """The page of the first of these ways that finds rows, else of the last one, with its rows and its cursor."""
        page = None
        for way in ways:
            rows = way()
            try:
                cursor = rows.read(self.cursor_text)
            except ValidationError:  # perhaps of another way
                continue
            page = rows, cursor, rows.fetch(cursor, limit + 1)
            if page[-1]:
                return page
        if page is None:
            raise ListRefused("This link does not lead to a page of this list; open the list anew.")
        return page

    def first_rows(self, limit: int) -> list[Any]:
        """The first rows of the list, with the columns alone that are keys or order the list."""
        keys = {field.name for field in self.opts.concrete_fields if field.primary_key or field.is_relation}
        self.queryset = self.queryset.select_related(None).only(*keys, *self.columns)
        self.cursor_text, text = None, self.query.strip()
        ways = self.model_admin.search_ways(self, text) if text else [self.in_parts]
        return self.find_page(ways, limit - 1)[-1]

    def set_links(self, rows: Any, cursor: Cursor | None, *, more: bool) -> None:
        back = cursor is not None and cursor.back
        if cursor is not None:
            self.first_url = self.get_query_string()
        if not self.result_list:
            return
        if more if back else cursor is not None:
            self.newer_url = self.link(rows.cursor(self.result_list[0], back=True))
        if more or back:
            self.older_url = self.link(rows.cursor(self.result_list[-1], back=False))

    def link(self, cursor: Cursor) -> str:
        return self.get_query_string({CURSOR_VAR: cursor.text()})

    def in_parts(self) -> RowsInParts:
        return RowsInParts(self.queryset, self.columns, self.model_admin.list_parts(self))

    @property
    def count_text(self) -> str:
        """How many rows the list has, or how many hits."""
        options, searched = self.opts, bool(self.query.strip())
        if self.count is None:
            return f"more than {self.list_per_page:,} found" if not self.cursor_text else "further results"
        if searched:
            return f"{self.count} found"
        one = self.count.number == 1 and self.count.is_exact
        return f"{self.count} {options.verbose_name if one else options.verbose_name_plural}"


class ListChecks(ModelAdminChecks):
    """Django's checks, but that a list takes the filters of this project alone."""

    def _check_list_filter_item(self, obj: Any, item: Any, label: str) -> list[Error]:
        if isinstance(item, type) and issubclass(item, QueryFilter):
            return []
        text = f"{label} is not a subclass of healthcare.admin.list_filters.QueryFilter."
        hint = "Django's filters accept lookups that no index serves."
        return [Error(text, hint=hint, obj=obj.__class__, id="admin_lists.E001")]


class ListAdmin(admin.ModelAdmin):
    """Lists whose cost does not grow with the table.

    - `list_filter` takes subclasses of `list_filters.QueryFilter` alone. Every other parameter is refused (400).
    - A list is not sorted by its columns: it shows the newest rows first.
    - `search_ways` finds the rows of `?q=`, `suggest` those of an autocomplete.
    """

    checks_class = ListChecks
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return BoundedChangeList

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        check_list_parameters(request, self)
        try:
            with transaction.atomic():  # so that the transaction can go on
                return super().get_changelist_instance(request)
        except OperationalError as error:
            if not isinstance(error.__cause__, QueryCanceled):
                raise
            raise ListTooSlow(
                "The search took too long, so the database has ended it. Write a longer part of the name, or remove a "
                "filter, and try again."
            ) from error

    def list_columns(self, changelist: BoundedChangeList) -> list[str]:
        """The columns that order the rows, each descending; the last one is unique. An index begins with them, after
        the columns that the filters fix."""
        return [str(self.opts.pk.name)]

    def list_parts(self, changelist: BoundedChangeList) -> Sequence[Q]:
        """Conditions that split the rows into lists that an index serves each; empty if one serves the whole list."""
        return ()

    def search_ways(self, changelist: BoundedChangeList, text: str) -> Sequence[Callable[[], Any]]:
        """What finds the rows that match the text, with the methods of `RowsInParts`: fetch, read and cursor. The next
        is tried if the one before finds nothing."""
        found, _ = self.get_search_results(changelist.request, changelist.queryset, text)
        return [lambda: RowsInParts(found, changelist.columns)]

    def suggest(self, request: HttpRequest, queryset: Any, text: str) -> list[Any]:
        """The rows that an autocomplete suggests, at most SUGGESTIONS: a person types on if there are more."""
        found = self.get_search_results(request, queryset, text)[0] if text.strip() else queryset
        return list(found[:SUGGESTIONS])

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return True  # `check_list_parameters` has refused all but those of the filters

    def known_parameters(self, request: HttpRequest) -> set[str]:
        filters: Any = self.get_list_filter(request)
        names = {name for one in filters for name in one.parameters}
        search = {SEARCH_VAR} if self.get_search_fields(request) else set()
        return names | search | {CURSOR_VAR, IS_POPUP_VAR, TO_FIELD_VAR}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            return super().changelist_view(request, extra_context)
        except ListTooSlow as error:
            response = self.refuse_list(request, str(error), HTTPStatus.SERVICE_UNAVAILABLE)
            response["Retry-After"] = "5"
            response.is_page_for_staff = True  # type: ignore[attr-defined]  # for RequestMiddleware
            return response
        except ListRefused as error:
            return self.refuse_list(request, str(error))
        except (DisallowedModelAdminLookup, DisallowedModelAdminToField):
            return self.refuse_list(request, "Remove the parameters of the address that you do not know.")

    def refuse_list(
        self, request: HttpRequest, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> HttpResponseBase:
        """The page that says why a list cannot be shown, and which filters it has."""
        context = {
            **self.admin_site.each_context(request),
            "title": "This list cannot be shown",
            "reason": reason,
            "opts": self.opts,
            "parameters": sorted(self.known_parameters(request) - {CURSOR_VAR, IS_POPUP_VAR, TO_FIELD_VAR}),
        }
        return TemplateResponse(request, "admin/list_refused.html", context, status=status)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Refuse (400) a selection with a value that is not a key, and one of rows on other pages."""
        if request.POST.get("select_across", "0") not in {"", "0"}:
            raise ListRefused("An action works on the rows that are ticked on one page.")
        key = self.opts.pk
        for selected in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if "\0" in selected if isinstance(key, models.CharField) else not ID_TEXT.match(selected):
                raise BadRequest
        return super().response_action(request, *args, **kwargs)


def check_list_parameters(request: HttpRequest, model_admin: ListAdmin) -> None:
    """Raise ListRefused for a parameter that the list does not know, that is repeated or that cannot be stored."""
    known = model_admin.known_parameters(request)
    for name, values in request.GET.lists():
        if name not in known:
            shown = name[:60]
            nearest = nearest_name(shown, known)
            hint = f"Did you mean “{nearest}”?" if nearest else "Remove it from the address."
            raise ListRefused(f"This list has no filter “{shown}”. {hint}")
        if len(values) > 1:
            raise ListRefused(f"The address has “{name}” more than once; leave it in once.")
        longest = LONGEST_SEARCH if name == SEARCH_VAR else LONGEST_VALUE
        if UNSTORABLE.search(values[0]) or (name != CURSOR_VAR and len(values[0]) > longest):
            raise ListRefused(f"Write at most {longest} characters of ordinary text for “{name}”.")
