"""SQL expressions over the columns of a row, which decide whether a row has a value. Indexes only narrow the rows."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db import connection
from django.db.models import BooleanField, DateField, F, Func, TextField, Value

from fhir.patient import ABSOLUTE_URI
from healthcare.phones import as_search_text

FEWEST_DIGITS = 7  # of a phone number that may lack the digits of the country or the area
SYSTEM_OF_TOKEN = re.compile(r"\A(?:\\.|[^\\|])*\|")


class NormalizedText(NamedTuple):
    """A text as `healthcare.search` normalizes it: its words, its digits from the last one, as an identifier, and
    without case and accents."""

    words: list[str]
    digits: str
    key: str
    folded: str


def normalize(texts: Iterable[str]) -> dict[str, NormalizedText]:
    """Normalizes all texts of a search in one statement."""
    wanted = sorted({*texts})
    if not wanted:
        return {}
    identifiers = [SYSTEM_OF_TOKEN.sub("", text) for text in wanted]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT search_split(search_fold(text)), search_digits(phone), search_key(identifier), search_fold(text) "
            "FROM unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS given(text, phone, identifier, place) "
            "ORDER BY place",
            [wanted, [as_search_text(text) for text in wanted], identifiers],
        )
        return {text: NormalizedText(*row) for text, row in zip(wanted, cursor.fetchall(), strict=True)}


class Condition(Func):
    """A condition on a row. Its template passes the columns and the values once, in a FROM list that names them."""

    output_field = BooleanField()
    conditional = True


def text_value(text: str) -> Value:
    return Value(text, output_field=TextField())


def kept(column: str, element: str) -> str:
    """SQL for the text of an element that is kept beside the row as JSON; null without it. The type `json` keeps the
    digits of numbers, however long they are; `jsonb` would convert them and could refuse them."""
    return f"NULLIF({column}, '')::json #>> '{{elements,{element}}}'"


def kept_element(element: str) -> Func:
    return Func(F("fhir"), template=f"({kept('%(expressions)s', element)})", output_field=TextField())


def has_word_of_name(column: str, word: str, *, anywhere: bool) -> Condition:
    """That a normalized word begins one of the words of a name, as the terms of search have them, or is in one."""
    matches = "strpos(word, wanted) > 0" if anywhere else "starts_with(word, wanted)"
    return Condition(
        F(column),
        text_value(word),
        template=f"(SELECT coalesce(bool_or({matches}), false) "  # noqa: S608
        "FROM (SELECT %(expressions)s) given(name, wanted), unnest(search_words(given.name)) word)",
    )


def has_word(column: str, word: str, *, anywhere: bool) -> Condition:
    """That a normalized word begins a word of a text, or is in it. The cheap comparison goes first."""
    begins = "AND strpos(' ' || array_to_string(search_split(search_fold(given.text)), ' '), ' ' || wanted) > 0"
    return Condition(
        F(column),
        text_value(word),
        template=f"(SELECT strpos(search_fold(given.text), wanted) > 0 {'' if anywhere else begins} "  # noqa: S608
        "FROM (SELECT %(expressions)s) given(text, wanted))",
    )


def has_exact_word(column: str, word: str) -> Condition:
    return Condition(
        F(column),
        text_value(word),
        template=r"(SELECT wanted = ANY (regexp_split_to_array(given.name, '\s+')) "
        "FROM (SELECT %(expressions)s) given(name, wanted))",
    )


# The systems and the values of identifiers in a list of pairs, and of those that are kept beside the row.
PAIRS = "SELECT pair.system, pair.value FROM jsonb_to_recordset(given.list) pair(system text, value text)"
KEPT = (
    "SELECT coalesce(one ->> 'system', ''), one ->> 'value' "  # noqa: S608
    f"FROM json_array_elements(({kept('given.list', 'identifier')})::json) one"
)


def has_identifier(own: str, pairs: str, system: str | None, value: str) -> Condition:
    """That a row has an identifier with this value, in this system. An empty system means none, None any; without a
    value any value counts. `pairs` is a column of pairs, or `fhir` for the identifiers that are kept there.

    A system that is no URI is written as the text of the type, so that in R4 such an identifier has no system."""
    identifiers = f"SELECT '' AS system, given.own AS value UNION ALL {KEPT if pairs == 'fhir' else PAIRS}"
    conditions = ["had.value <> ''"]
    if value:
        conditions.append("upper(had.value) = upper(given.value)")
    if system is not None:
        conditions.append("had.system = given.system" if system else "had.system !~ given.uri")
    return Condition(
        F(own),
        F(pairs),
        text_value(system or ""),
        text_value(value),
        text_value(f"^({ABSOLUTE_URI.pattern})$"),
        template="EXISTS (SELECT FROM (SELECT %(expressions)s) given(own, list, system, value, uri), "
        f"LATERAL ({identifiers}) had WHERE {' AND '.join(conditions)})",
    )


def has_phone(columns: Sequence[str], digits: str) -> Condition:
    """That a phone number of the row has these digits, which come from the last one: all of them, or the last seven or
    more if one of the two numbers has no more."""
    numbers = ", ".join(f"search_digits(given.{column})" for column in columns)
    return Condition(
        text_value(digits),
        *(F(column) for column in columns),
        template=f"EXISTS (SELECT FROM (SELECT %(expressions)s) given(wanted, {', '.join(columns)}), "
        f"unnest(ARRAY[{numbers}]) had WHERE had = wanted "
        f"OR (length(had) >= {FEWEST_DIGITS} AND starts_with(wanted, had)) "
        f"OR (length(wanted) >= {FEWEST_DIGITS} AND starts_with(had, wanted)))",
    )


def birth_bounds() -> tuple[Func, Func]:
    """The first and the last day of what is known of a birth: a date, the month that a FHIR client sent, or a year."""
    month = f"""(SELECT to_date(month, 'YYYY-MM') FROM (SELECT {kept("given.fhir", "birthDate")}) sent(month)
        WHERE month ~ '^[0-9]{{4}}-(0[1-9]|1[0-2])$' AND left(month, 4) = given.year::text)"""  # noqa: S608
    return (
        known_day(month, "make_date(given.year, 1, 1)"),
        known_day(f"({month} + interval '1 month' - interval '1 day')::date", "make_date(given.year, 12, 31)"),
    )


def known_day(of_month: str, of_year: str) -> Func:
    return Func(
        F("birth_date"),
        F("birth_year"),
        F("fhir"),
        template=f"(SELECT coalesce(given.date, {of_month}, {of_year}) "  # noqa: S608
        "FROM (SELECT %(expressions)s) given(date, year, fhir))",
        output_field=DateField(),
    )
