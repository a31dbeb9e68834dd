"""The two formats of an export, CSV (RFC 4180) and NDJSON, and which one a request asks for."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rest_framework.exceptions import ErrorDetail, NotAcceptable, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from healthcare.api.pagination import read_flag
from healthcare.exports.csv_text import BYTE_ORDER_MARK, as_cell, csv_lines


class ExportFormat:
    """How records are written, each of which is given as the API represents it in JSON."""

    name: ClassVar[str]
    media_type: ClassVar[str]
    content_type: ClassVar[str]

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def head(self) -> bytes:
        return b""

    def line(self, values: Mapping[str, Any]) -> bytes:
        raise NotImplementedError


class CSVFormat(ExportFormat):
    """A header and a line for each record, in UTF-8. Lists are JSON; null is an empty cell, as the empty text is."""

    name, media_type, content_type = "csv", "text/csv", "text/csv; charset=utf-8; header=present"

    def __init__(self, columns: Sequence[str], *, byte_order_mark: bool = False) -> None:
        super().__init__(columns)
        self.byte_order_mark = byte_order_mark

    def head(self) -> bytes:
        return ((BYTE_ORDER_MARK if self.byte_order_mark else "") + csv_lines([self.columns])).encode()

    def line(self, values: Mapping[str, Any]) -> bytes:
        return csv_lines([[as_cell(values[column]) for column in self.columns]]).encode()


class NDJSONFormat(ExportFormat):
    """An object on each line, in UTF-8."""

    name, media_type, content_type = "ndjson", "application/x-ndjson", "application/x-ndjson"

    def line(self, values: Mapping[str, Any]) -> bytes:
        rendered: bytes = JSONRenderer().render({column: values[column] for column in self.columns})
        return rendered + b"\n"


FORMATS: dict[str, type[ExportFormat]] = {kind.name: kind for kind in (CSVFormat, NDJSONFormat)}


def choose_format(request: Request) -> type[ExportFormat]:
    """The format that `?format=` names, else the one that `Accept` prefers; CSV where it prefers none.

    Raises ValidationError (400) for another name, and NotAcceptable (406) if `Accept` names other types alone.
    """
    name = request.query_params.get("format")
    if name is not None:
        if name not in FORMATS:
            raise ValidationError({"format": [ErrorDetail(f"Send one of these: {', '.join(FORMATS)}.", "invalid")]})
        return FORMATS[name]
    by_type = {kind.media_type: kind for kind in FORMATS.values()}
    media_type = request._request.get_preferred_type([*by_type])
    if media_type is None:
        raise NotAcceptable
    return by_type[media_type]


def read_byte_order_mark(request: Request, kind: type[ExportFormat]) -> bool:
    """Whether `?bom=true` asks for a byte order mark. Raises ValidationError (400) for a format that has none."""
    wanted = read_flag(request.query_params, "bom")
    if wanted and kind is not CSVFormat:
        raise ValidationError({"bom": [ErrorDetail("Only CSV has a byte order mark; leave this out.", "invalid")]})
    return wanted
