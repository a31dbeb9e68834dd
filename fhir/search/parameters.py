"""Search parameters by R4's types: each reads the values of a request and gives the rows that a value selects."""

import datetime
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db.models import Q
from django.db.models.lookups import GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual
from django.utils import timezone

from fhir.references import LITERAL_REFERENCE, RECORD_ID, own_reference
from fhir.search.sql import (
    NormalizedText,
    birth_bounds,
    has_exact_word,
    has_identifier,
    has_phone,
    has_word,
    has_word_of_name,
)
from fhir.search.terms import TermIndex

NONE = Q(pk__in=())
ESCAPED = re.compile(r"\\([\\,|$])")
PREFIXED = re.compile(r"(?P<prefix>[a-z]{2})?(?P<text>[0-9].*)", re.ASCII | re.DOTALL)
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le")
PARTIAL_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>Z|[+ -][0-9]{2}:[0-9]{2})?)?)?)?",
    re.ASCII,
)
SEARCHED_REFERENCE = re.compile(
    r"[A-Za-z0-9.-]{1,64}|[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}|(?:https?|urn):[^\s|]+", re.ASCII
)
MOST_LISTED_TYPES = 12
INDEXED_WORDS = 3  # of a name, the longest: each is a join
WRITE_A_DATE = (
    f"Write a date as YYYY, YYYY-MM or YYYY-MM-DD, after one of these prefixes or none: {', '.join(PREFIXES)}."
)
WRITE_AN_INSTANT = (
    "Write a date or a time, such as 2026-05, 2026-05-31 or 2026-05-31T10:00:00Z, after one of these prefixes or none: "
    f"{', '.join(PREFIXES)}."
)


class BadValueError(ValueError):
    """A value that the parameter cannot have. Its text tells the client what to write."""


def split_unescaped(text: str, separator: str) -> list[str]:
    """The parts between the separators that no backslash escapes (https://hl7.org/fhir/R4/search.html#escaping)."""
    parts, escaped = [""], False
    for character in text:
        if character == separator and not escaped:
            parts.append("")
            continue
        parts[-1] += character
        escaped = character == "\\" and not escaped
    return parts


def unescape(text: str) -> str:
    return ESCAPED.sub(r"\1", text)


@dataclass(frozen=True)
class Context:
    """Of one search: whose records it searches, on which server, and its texts as SQL normalizes them.

    `indexed` is false where merged records are searched too, which the terms of search do not have.
    """

    owner: Any
    base: str
    indexed: bool = True
    normalized: Mapping[str, NormalizedText] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SearchParameter:
    """A search parameter of one of R4's types. `absent` selects the rows without a value, for `:missing`; None where
    every row has one. `documentation` goes into the CapabilityStatement."""

    type: ClassVar[str]
    modifiers: ClassVar[Set[str]] = frozenset()
    unescapes: ClassVar[bool] = True  # false for a parameter that splits its values itself
    normalizes: ClassVar[bool] = False  # whether it needs `Context.normalized`
    absent: Q | None = None
    documentation: str = ""

    def check(self, text: str) -> None:
        """Raises BadValueError for a value that the parameter cannot have."""

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        """The rows that a value selects, one that has been checked. `modifier` is one of `modifiers`, or empty."""
        raise NotImplementedError

    def missing(self, text: str) -> Q:
        """The rows without a value where the text is `true`, the rows with one where it is `false`."""
        if self.absent is None:
            return NONE if text == "true" else ~NONE
        return self.absent if text == "true" else ~self.absent


# Token: https://hl7.org/fhir/R4/search.html#token


class TokenParameter(SearchParameter):
    type = "token"


@dataclass(frozen=True, kw_only=True)
class IdParameter(TokenParameter):
    """`_id`. A text that is no id of this server is of no resource. `lookup` is the field that holds the id."""

    lookup: str = "pk"

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        return Q(**{self.lookup: int(text)}) if RECORD_ID.fullmatch(text) else NONE


@dataclass(frozen=True, kw_only=True)
class CodeParameter(TokenParameter):
    """A code, or true and false: the rows of each. `system` is that of the codes; a boolean has none, and no bar."""

    unescapes: ClassVar[bool] = False
    rows: Mapping[str, Q]
    system: str = ""

    def read(self, text: str) -> tuple[str | None, str]:
        """The system, None where the value names none, and the code."""
        parts = [unescape(part) for part in split_unescaped(text, "|")]
        if len(parts) == 1:
            return None, parts[0]
        if len(parts) > 2 or not self.system:
            raise BadValueError(self.advice)
        return parts[0], parts[1]

    @property
    def advice(self) -> str:
        return f"Write one of these: {', '.join(self.rows)}."

    def check(self, text: str) -> None:
        system, code = self.read(text)
        if code not in self.rows and not (system and not code):
            raise BadValueError(self.advice)

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        system, code = self.read(text)
        if system not in {None, self.system}:
            return NONE
        return self.rows[code] if code else self.missing("false")


@dataclass(frozen=True, kw_only=True)
class IdentifierParameter(TokenParameter):
    """Identifiers, whose values are compared in any case. `own` is a column of values without a system, `pairs` one of
    objects with a system and a value, or `fhir` for those that are kept there, of which `index` knows nothing."""

    unescapes: ClassVar[bool] = False
    normalizes: ClassVar[bool] = True
    own: str
    pairs: str
    index: TermIndex | None = None

    def read(self, text: str) -> tuple[str | None, str]:
        parts = [unescape(part) for part in split_unescaped(text, "|")]
        if len(parts) > 2 or not any(parts):
            raise BadValueError(
                "Write `value`, `system|value`, `|value` or `system|`, and a bar of the value as `\\|`."
            )
        return (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])

    def check(self, text: str) -> None:
        self.read(text)

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        system, value = self.read(text)
        rows = Q(has_identifier(self.own, self.pairs, system, value))
        # A value without any ASCII letter or digit may have no term.
        if self.index and context.indexed and any(one.isascii() and one.isalnum() for one in value):
            return self.index.with_term(f"id:{context.normalized[text].key}", context.owner) & rows
        return rows


@dataclass(frozen=True, kw_only=True)
class ContactParameter(TokenParameter):
    """Phone numbers, e-mail addresses, or both. Numbers are compared by their digits; the shorter one of two may lack
    the first ones, such as the country's. R4 allows no bar in their values."""

    normalizes: ClassVar[bool] = True
    phones: Sequence[str] = ()
    email: str = ""
    index: TermIndex

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        rows, normalized = NONE, context.normalized[text]
        if self.phones and normalized.digits:
            found = Q(has_phone(self.phones, normalized.digits))
            rows |= self.index.with_phone(normalized.digits, context.owner) & found if context.indexed else found
        if self.email:
            found = Q(**{f"{self.email}__iexact": text})
            term = f"mail:{normalized.folded}"
            rows |= self.index.with_term(term, context.owner) & found if context.indexed else found
        return rows


# String: https://hl7.org/fhir/R4/search.html#string


@dataclass(frozen=True, kw_only=True)
class StringParameter(SearchParameter):
    type = "string"
    modifiers: ClassVar[Set[str]] = frozenset({"exact", "contains"})
    normalizes: ClassVar[bool] = True
    column: str


@dataclass(frozen=True, kw_only=True)
class NameParameter(StringParameter):
    """A name: each word of the value must begin a word of the name, with `:contains` be in one.

    Case, accents and punctuation do not count. With `:exact` the value must be the whole name or one of its words.
    """

    index: TermIndex

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        if modifier == "exact":
            return Q(**{self.column: text}) | Q(has_exact_word(self.column, text))
        anywhere = modifier == "contains"
        words = sorted({*context.normalized[text].words}, key=len, reverse=True)
        rows = ~NONE if words else NONE
        for place, word in enumerate(words):
            in_row = Q(has_word_of_name(self.column, word, anywhere=anywhere))
            if context.indexed and place < INDEXED_WORDS:
                rows &= self.index.with_word(word, context.owner, anywhere=anywhere)
                rows &= ~self.index.replaces_others | in_row
            else:
                rows &= in_row
        return rows


@dataclass(frozen=True, kw_only=True)
class TextParameter(StringParameter):
    """A text without an index, such as an address: compared as a name is, in every row of the owner."""

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        if modifier == "exact":
            return Q(**{self.column: text})
        words = {*context.normalized[text].words}
        rows = ~NONE if words else NONE
        for word in sorted(words):
            rows &= Q(has_word(self.column, word, anywhere=modifier == "contains"))
        return rows


# Date: https://hl7.org/fhir/R4/search.html#date


def read_date(text: str) -> tuple[str, re.Match[str]]:
    """The prefix and the parts of a value. Raises BadValueError."""
    prefixed = PREFIXED.fullmatch(text)
    prefix = (prefixed and prefixed["prefix"]) or "eq"
    date = prefixed and PARTIAL_DATE.fullmatch(prefixed["text"])
    if not date or prefix not in PREFIXES:
        raise BadValueError
    return prefix, date


def read_days(text: str) -> tuple[str, datetime.date, datetime.date]:
    """The prefix and the first and the last day of a date. Raises BadValueError for a time too."""
    prefix, date = read_date(text)
    if date["hour"]:
        raise BadValueError
    try:
        first = datetime.date(int(date["year"]), int(date["month"] or 1), int(date["day"] or 1))
    except ValueError as error:
        raise BadValueError from error
    if date["day"]:
        return prefix, first, first
    last_month = int(date["month"] or 12)
    for day in (31, 30, 29, 28):
        try:
            return prefix, first, datetime.date(first.year, last_month, day)
        except ValueError:
            continue
    raise AssertionError


@dataclass(frozen=True, kw_only=True)
class BirthParameter(SearchParameter):
    """A date of birth, of which the month or the year alone may be known: the range of days that it stands for is
    compared with that of the value, as R4's prefixes say."""

    type = "date"

    def check(self, text: str) -> None:
        try:
            read_days(text)
        except BadValueError as error:
            raise BadValueError(WRITE_A_DATE) from error

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        prefix, first, last = read_days(text)
        earliest, latest = birth_bounds()
        years = Q(birth_year__gte=first.year, birth_year__lte=last.year)  # the index of births has the year first
        equal = years & Q(GreaterThanOrEqual(earliest, first)) & Q(LessThanOrEqual(latest, last))
        after = Q(birth_year__gte=last.year) & Q(GreaterThan(latest, last))
        before = Q(birth_year__lte=first.year) & Q(LessThan(earliest, first))
        return {
            "eq": equal,
            "ne": Q(birth_year__isnull=False) & ~equal,
            "gt": after,
            "lt": before,
            "ge": after | equal,
            "le": before | equal,
        }[prefix]


def read_instants(text: str) -> tuple[str, datetime.datetime, datetime.datetime]:
    """The prefix, and the first moment of a date or a time and the first one after it. Raises BadValueError.

    A time without a zone is one of TIME_ZONE, as R4 wants it.
    """
    prefix, date = read_date(text)
    if not date["hour"]:
        _, first, last = read_days(text)
        return prefix, *(start_of(day) for day in (first, last + datetime.timedelta(days=1)))  # type: ignore[return-value]
    fraction = date["fraction"] or ""
    micros = int(fraction[:6].ljust(6, "0"))
    zone = (date["zone"] or "").replace(" ", "+")  # a `+` that was not percent-encoded arrives as a space
    written = (
        f"{date['year']}-{date['month']}-{date['day']}T{date['hour']}:{date['minute']}:{date['second'] or '00'}{zone}"
    )
    try:
        start = datetime.datetime.fromisoformat(written).replace(microsecond=micros)
    except ValueError as error:
        raise BadValueError from error
    if start.tzinfo is None:
        start = start.replace(tzinfo=timezone.get_default_timezone())
    if fraction:
        width = datetime.timedelta(microseconds=10 ** max(0, 6 - len(fraction)))
    else:
        width = datetime.timedelta(seconds=1) if date["second"] else datetime.timedelta(minutes=1)
    return prefix, start, start + width


def start_of(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), timezone.get_default_timezone())


@dataclass(frozen=True, kw_only=True)
class InstantParameter(SearchParameter):
    """A moment in a column, which the value's range contains or not, or which lies after or before it."""

    type = "date"
    column: str

    def check(self, text: str) -> None:
        try:
            read_instants(text)
        except (BadValueError, OverflowError) as error:
            raise BadValueError(WRITE_AN_INSTANT) from error

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        prefix, start, end = read_instants(text)
        from_start, from_end = Q(**{f"{self.column}__gte": start}), Q(**{f"{self.column}__gte": end})
        before_start, before_end = Q(**{f"{self.column}__lt": start}), Q(**{f"{self.column}__lt": end})
        return {
            "eq": from_start & before_end,
            "ne": before_start | from_end,
            "gt": from_end,
            "lt": before_start,
            "ge": from_start,
            "le": before_end,
        }[prefix]


# Reference: https://hl7.org/fhir/R4/search.html#reference


@dataclass(frozen=True, kw_only=True)
class ReferenceParameter(SearchParameter):
    """A reference to a record of this server: `id`, `Type/id` or its URL. `rows` gives those that refer to an id, by
    the type of what they refer to. References to `other_types`, which R4 allows too, and to elsewhere are kept unread,
    so nothing is found by them."""

    type = "reference"
    rows: Mapping[str, Callable[[int], Q]]
    other_types: Set[str] = frozenset()

    def check(self, text: str) -> None:
        if not SEARCHED_REFERENCE.fullmatch(text):
            raise BadValueError(f"Write an id, or a reference such as {next(iter(self.rows))}/1.")
        literal = LITERAL_REFERENCE.fullmatch(text)
        types = self.rows.keys() | self.other_types
        if literal and literal["type"] not in types:
            listed = f": {', '.join(sorted(types))}" if len(types) <= MOST_LISTED_TYPES else " of R4"
            raise BadValueError(f"Write a reference to one of these types{listed}.")

    def condition(self, text: str, modifier: str, context: Context) -> Q:
        found = own_reference(text, context.base)
        types, key = ((found[0],), found[1]) if found else (tuple(self.rows), text)
        rows = NONE
        if RECORD_ID.fullmatch(key):
            for name in self.rows.keys() & set(types):
                rows |= self.rows[name](int(key))
        return rows
