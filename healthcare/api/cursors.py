"""Cursors of keyset pagination: positions in a list, given by the values of the columns that it is ordered by."""

import base64
import binascii
import datetime
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from django.conf import settings
from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import Field, Model, Q, QuerySet
from django.db.models.fields.tuple_lookups import Tuple, TupleGreaterThan, TupleLessThan
from rest_framework.exceptions import ValidationError

from healthcare.api.parsers import UNSTORABLE
from healthcare.model_fields import LARGEST_ID

COMPACT_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Cursor:
    """A position in a list, at the row with these values. `back` selects the rows before it, else those after it."""

    values: tuple[Any, ...]
    back: bool

    def text(self) -> str:
        """Base64url of encrypted JSON: the values may be a patient's name, and URLs end up in logs."""
        parts = [self.back, *(value if isinstance(value, int) else str(value) for value in self.values)]
        content = COMPACT_JSON.encode(parts)
        return base64.urlsafe_b64encode(cursor_cipher().encrypt(content.encode(), None)).decode().rstrip("=")


def decode_cursor(text: str) -> list[Any] | None:
    """The parts of a cursor; None for any other text, such as a cursor that was changed or has another key."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        encrypted = base64.b64decode(padded, altchars=b"-_", validate=True)
        parts = json.loads(cursor_cipher().decrypt(encrypted, None))
    except (binascii.Error, InvalidTag, ValueError):
        return None
    known = isinstance(parts, list) and len(parts) > 1 and isinstance(parts[0], bool)
    known = known and all(type(part) in {int, str} and not UNSTORABLE.search(str(part)) for part in parts[1:])
    return parts if known else None


@cache
def cursor_cipher() -> AESSIV:
    """AES-SIV (RFC 5297): it needs no nonce, so that the same position always has the same cursor."""
    key = hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=b"cursors").digest()
    return AESSIV(key)


def invalid_cursor() -> ValidationError:
    return ValidationError({"cursor": ["Use a cursor from a Link header of this list, unchanged."]})


class Keyset:
    """The rows of a queryset in the order of some columns, of which the last is unique."""

    def __init__(self, queryset: QuerySet, columns: list[str], *, descending: bool) -> None:
        self.queryset, self.columns, self.descending = queryset, columns, descending

    def cursor(self, row: Any, *, back: bool) -> Cursor:
        return Cursor(tuple(self.column_value(row, column) for column in self.columns), back)

    def column_value(self, row: Any, column: str) -> Any:
        value = getattr(row, column)
        return value.isoformat() if hasattr(value, "isoformat") else value

    def read(self, text: str | None) -> Cursor | None:
        """Decode the cursor that a client sent; None for none. Raises ValidationError (400) for any other text."""
        if text is None:
            return None
        parts = decode_cursor(text)
        if parts is None or len(parts) != len(self.columns) + 1:
            raise invalid_cursor()
        back, *values = parts
        return Cursor(
            tuple(self.value(column, value) for column, value in zip(self.columns, values, strict=True)), back
        )

    def value(self, column: str, written: Any) -> Any:
        if column == self.columns[-1]:
            if type(written) is not int or not 0 <= written <= LARGEST_ID:
                raise invalid_cursor()
            return written
        try:
            value = self.field(column).to_python(written)
        except (InvalidValue, TypeError, ValueError) as error:
            raise invalid_cursor() from error
        if isinstance(value, datetime.datetime) and value.tzinfo is None:
            raise invalid_cursor()  # those of a Link header have an offset
        return value

    def beyond(self, values: tuple[Any, ...], downwards: bool) -> Q:
        if len(self.columns) == 1:
            return Q(**{f"{self.columns[0]}__{'lt' if downwards else 'gt'}": values[0]})
        # A row comparison: an index on the columns serves it, however many rows share a value.
        return Q((TupleLessThan if downwards else TupleGreaterThan)(Tuple(*self.columns), values))

    def field(self, column: str) -> Field:
        field: Field = self.queryset.model._meta.get_field(column)
        return field

    def count(self) -> int:
        return self.queryset.count()

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Model]:
        """At most `limit` rows beyond the cursor, the nearest first."""
        downwards = self.descending != (cursor is not None and cursor.back)
        rows = self.queryset.order_by(*(f"-{column}" if downwards else column for column in self.columns))
        if cursor:
            rows = rows.filter(self.beyond(cursor.values, downwards))
        return list(rows[:limit])
