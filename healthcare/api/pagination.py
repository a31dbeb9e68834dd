"""Keyset paging: a page costs the same however deep it lies. The pages are linked in the Link header (RFC 8288)."""

import base64
import binascii
import re
from typing import Any

from django.db.models import Model, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

DEFAULT_LIMIT, MAXIMUM_LIMIT = 100, 500
CURSOR = re.compile(r"\A([<>])([0-9]{1,18})\Z")


class KeysetPagination(BasePagination):
    """By descending id (newest first) or another `key`. `?limit=` rows (1 to 500, default 100) from `?cursor=` on.

    A cursor is opaque to clients: ``<id`` for the rows older than that id, ``>id`` for the newer ones, in base64url.
    `?count=true` adds `X-Total-Count`, the one thing here whose cost grows with the list.
    """

    key = "pk"

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet, request: Request, view: APIView | None = None
    ) -> list[Model]:
        self.request = request
        limit = read_limit(request.query_params.get("limit"))
        direction, key = read_cursor(request.query_params.get("cursor"))
        self.total = queryset.count() if read_flag(request, "count") else None
        if direction == ">":
            rows = list(queryset.filter(**{f"{self.key}__gt": key}).order_by(self.key)[: limit + 1])
            page = rows[:limit][::-1]
        else:
            older = queryset.filter(**{f"{self.key}__lt": key}) if direction else queryset
            rows = list(older.order_by(f"-{self.key}")[: limit + 1])
            page = rows[:limit]
        keys = [getattr(row, self.key) for row in (page[0], page[-1])] if page else []
        self.headers = self.links(direction, *keys, more=len(rows) > limit) if page else {}
        return page

    def links(self, direction: str, first: int, last: int, *, more: bool) -> dict[str, str]:
        """The Link header of a page between these keys, if there are pages beside it."""
        found = []
        if more or direction == ">":
            found.append(f'<{self.link("<", last)}>; rel="next"')
        if direction == "<" or (more and direction == ">"):
            found.append(f'<{self.link(">", first)}>; rel="prev"')
        return {"Link": ", ".join(found)} if found else {}

    def link(self, direction: str, key: int) -> str:
        cursor = base64.urlsafe_b64encode(f"{direction}{key}".encode()).decode().rstrip("=")
        return replace_query_param(self.request.build_absolute_uri(), "cursor", cursor)

    def get_paginated_response(self, data: Any) -> Response:
        total = {} if self.total is None else {"X-Total-Count": str(self.total)}
        return Response(data, headers=self.headers | total)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return schema

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAXIMUM_LIMIT, "default": DEFAULT_LIMIT}
        return [
            parameter("limit", limit, "The most rows to answer."),
            parameter("cursor", {"type": "string"}, "Opaque; taken from a `Link` of an earlier page."),
            parameter("count", {"type": "boolean", "default": False}, "Adds `X-Total-Count`."),
        ]


def parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def read_limit(value: str | None) -> int:
    if value is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", value, re.ASCII) or not 1 <= int(value) <= MAXIMUM_LIMIT:
        raise ValidationError({"limit": [f"Enter a whole number from 1 to {MAXIMUM_LIMIT}."]})
    return int(value)


def read_cursor(value: str | None) -> tuple[str, int]:
    """The direction (empty on the first page) and the id next to the page."""
    if value is None:
        return "", 0
    try:
        padded = value.encode("ascii") + b"=" * (-len(value) % 4)
        match = CURSOR.match(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
    except (binascii.Error, UnicodeError):
        match = None
    if match is None:
        raise ValidationError({"cursor": ["Take the cursor from a Link header of this list."]})
    return match[1], int(match[2])


def read_flag(request: Request, name: str, default: bool = False) -> bool:
    """A query parameter that is `true` or `false`."""
    value = request.query_params.get(name)
    if value not in {None, "true", "false"}:
        raise ValidationError({name: ["Write true or false."]})
    return default if value is None else value == "true"
