"""Keyset pagination: the cost of a page does not depend on its depth. The Link header (RFC 8288) links the pages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from healthcare.api.cursors import Cursor, Keyset
from healthcare.api.exceptions import refuse
from healthcare.api.parsers import UNSTORABLE
from healthcare.replicas.hits import ReplicaHits
from healthcare.search.hits import Hits

DEFAULT_LIMIT, MAXIMUM_LIMIT = 100, 500
LONGEST_SEARCH = 200  # characters
FLAGS = {"true": True, "1": True, "false": False, "0": False}
SEARCH = (
    "Finds names by whole words, prefixes and similar spellings, in any order, case and with or without accents; "
    "identifiers, phone numbers and e-mails as a whole. Exact matches come first, then prefixes, then similar words. "
    "Of more than 12 different words, the 12 longest count."
)


class KeysetPagination(BasePagination):
    """Pages in order of descending id (newest first), of another `key`, or of an `ordering_fields` column on request.

    `?limit=` sets the number of rows (1 to 500, default 100), and the opaque `?cursor=` where they start.
    `?count=true` adds `X-Total-Count`, the only part whose cost grows with the list; a search counts to 10,000.
    """

    key = "pk"

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet, request: Request, view: APIView | None = None
    ) -> list[Model]:
        self.request = request
        limit = read_limit(request.query_params)
        self.rows = self.order(queryset, view)
        cursor = self.rows.read(request.query_params.get("cursor"))
        self.total = self.rows.count() if read_flag(request.query_params, "count") else None
        rows = self.rows.fetch(cursor, limit + 1)
        page, more, back = rows[:limit], len(rows) > limit, cursor is not None and cursor.back
        page = page[::-1] if back else page
        self.headers = {}
        if page:
            ends = self.rows.cursor(page[0], back=True), self.rows.cursor(page[-1], back=False)
            self.headers = link_header(request._request, cursor, *ends, more=more)
        return page

    def order(self, queryset: QuerySet, view: APIView | None) -> Keyset | Hits:
        """The rows in the requested order; search results come in order of rank."""
        text, ordering = read_search(self.request, view), read_ordering(self.request.query_params, ordering_of(view))
        if text is not None:
            refuse(
                ["ordering"] if ordering else [],
                "invalid",
                "`ordering` cannot be combined with `search`; leave one out.",
            )
            hits = ReplicaHits if getattr(view, "reads_replicas", False) else Hits
            return hits.of(queryset, view, text, hidden=read_flag(self.request.query_params, "deleted"))
        if ordering is None:
            return Keyset(queryset, [self.key], descending=True)
        return Keyset(queryset, [ordering.lstrip("-"), self.key], descending=ordering.startswith("-"))

    def get_paginated_response(self, data: Any) -> Response:
        total = {} if self.total is None else {"X-Total-Count": str(self.total)}
        return Response(data, headers=self.headers | total)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return schema

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAXIMUM_LIMIT, "default": DEFAULT_LIMIT}
        parameters = [
            query_parameter("limit", limit, "Maximum number of records in the answer."),
            query_parameter(
                "cursor",
                {"type": "string"},
                "Opaque position in the list; take it from the `Link` header of another page.",
            ),
            query_parameter(
                "count", {"type": "boolean", "default": False}, "Adds `X-Total-Count`; a search counts to 10,000."
            ),
        ]
        if names := ordering_of(view):
            choices = {"type": "string", "enum": [sign + name for name in names for sign in ("", "-")]}
            parameters.append(
                query_parameter(
                    "ordering",
                    choices,
                    "Column to sort by; a leading `-` sorts in descending order. Default: newest first.",
                )
            )
        if is_searchable(view):
            text = {"type": "string", "maxLength": LONGEST_SEARCH}
            parameters.append(query_parameter("search", text, SEARCH))
        return parameters


def is_searchable(view: APIView | None) -> bool:
    return getattr(view, "action", "") == "list" and getattr(view, "search_index", None) is not None


def read_search(request: Request, view: APIView | None) -> str | None:
    """The text to search for; None without one, also for a search box that was cleared (`?search=`)."""
    return read_search_text(request.query_params) if is_searchable(view) else None


def read_search_text(parameters: Mapping[str, str]) -> str | None:
    text = parameters.get("search", "")
    if len(text) > LONGEST_SEARCH or UNSTORABLE.search(text):
        refuse(["search"], "invalid", f"Send the text to search for, at most {LONGEST_SEARCH} characters.")
    return text if text.strip() else None


def query_parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def ordering_of(view: APIView | None) -> Sequence[str]:
    """The columns by which `?ordering=` may sort a view's list."""
    return getattr(view, "ordering_fields", ()) if getattr(view, "action", "") == "list" else ()


def read_ordering(parameters: Mapping[str, str], allowed: Sequence[str]) -> str | None:
    value = parameters.get("ordering")
    if value is not None and value.removeprefix("-") not in allowed:
        detail = f"Send one of these, with a leading - for descending order: {', '.join(allowed)}."
        raise ValidationError({"ordering": [ErrorDetail(detail, "invalid")]})
    return value


def link_header(
    request: HttpRequest,
    cursor: Cursor | None,
    before: Cursor,
    after: Cursor,
    *,
    more: bool,
    query: tuple[str, str] | None = None,
) -> dict[str, str]:
    """The Link header (RFC 8288) of the page at a cursor; empty if there is no other page.

    `before` and `after` are the cursors at the first and the last row of the page; `more` says whether rows follow.
    `query` is what `query_around_cursor` returns for the request, if it is known already. Parameters that came in a
    body are not repeated in a URL.
    """
    back = cursor is not None and cursor.back
    ends = [(after, "next")] if more or back else []
    if cursor and (more or not back):
        ends.append((before, "prev"))
    if not ends:
        return {}
    start, end = query or query_around_cursor({} if request.method == "POST" else joined_parameters(request.GET))
    url = f"{request.scheme}://{request.get_host()}{request.path}?{start}"
    return {"Link": ", ".join(f'<{url}{position.text()}{end}>; rel="{relation}"' for position, relation in ends)}


def query_around_cursor(parameters: Mapping[str, str]) -> tuple[str, str]:
    """The query string of other pages of a list, before and after the value of `cursor`, in the order of the names."""
    start, end = (
        urlencode(sorted(item for item in parameters.items() if chosen(item[0])))
        for chosen in ("cursor".__gt__, "cursor".__lt__)
    )
    return f"{start}{'&' if start else ''}cursor=", f"{'&' if end else ''}{end}"


def joined_parameters(parameters: QueryDict) -> dict[str, str]:
    """The parameters by name. Only lists of names may be repeated; their parts are joined by commas."""
    return {name: ",".join(values) for name, values in parameters.lists()}


def read_limit(parameters: Mapping[str, str]) -> int:
    value = parameters.get("limit")
    if value is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", value, re.ASCII) or not 1 <= int(value) <= MAXIMUM_LIMIT:
        raise ValidationError({"limit": [f"Enter a whole number from 1 to {MAXIMUM_LIMIT}."]})
    return int(value)


def read_flag(parameters: Mapping[str, str], name: str, default: bool = False) -> bool:
    """The value of a boolean query parameter: true or false in any case, 1 or 0. Raises ValidationError (400)."""
    value = parameters.get(name)
    if value is None:
        return default
    if value.lower() not in FLAGS:
        raise ValidationError({name: ["Write true or false."]})
    return FLAGS[value.lower()]
