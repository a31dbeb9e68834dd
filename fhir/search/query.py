"""The parameters of a search, read once: criteria, which select rows, and result parameters, which shape the answer."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from django.db.models import Q, QuerySet

from fhir.bundles import CURSOR_PARAMETER, read_count
from fhir.exceptions import Invalid
from fhir.issues import Issue
from fhir.requests import EVERYWHERE
from fhir.search.parameters import (
    NONE,
    BadValueError,
    Context,
    SearchParameter,
    StringParameter,
    split_unescaped,
    unescape,
)
from fhir.search.sql import normalize
from healthcare.api.cursors import Cursor, decode_cursor
from healthcare.api.exceptions import LimitedErrors
from healthcare.api.parsers import UNSTORABLE
from healthcare.api.unknown_parameters import printable_parameter, suggest

SEALED = "_query"  # of `next` links after POST: the parameters, encrypted, since URLs end up in logs
IGNORED = {"_totalMethod"}  # fhirpy and others send it to every server
SUMMARIES = {"true", "text", "data", "count", "false"}
TOTALS = {"none", "estimate", "accurate"}
RESULT_PARAMETERS = {"_sort", "_count", "_elements", "_summary", "_total", "_include", CURSOR_PARAMETER}
# Limits of one search. Each value, and each word of a string, is a condition of the statement. Each criterion may be a
# join, and one that uses the index of terms several; PostgreSQL takes seconds to plan many joins. So only the first
# criteria use that index.
MAXIMUM_CRITERIA = 20
MAXIMUM_VALUES = 200
MAXIMUM_CHARACTERS = 10_000
MAXIMUM_CHARACTERS_OF_STRINGS = 1000
INDEXED_CRITERIA = 4
ELEMENT_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Criterion:
    """A parameter that selects rows: those for which one of the values matches."""

    name: str
    parameter: SearchParameter
    modifier: str
    values: Sequence[str]

    @property
    def texts_to_normalize(self) -> Sequence[str]:
        return self.values if self.parameter.normalizes and self.modifier != "missing" else ()

    def condition(self, context: Context) -> Q:
        """The rows for which one of the values matches."""
        matches = self.parameter.missing if self.modifier == "missing" else None
        rows = NONE
        for value in self.values:
            rows |= matches(value) if matches else self.parameter.condition(value, self.modifier, context)
        return rows


def filter_rows(rows: QuerySet, criteria: Sequence[Criterion], context: Context) -> QuerySet:
    """The rows that meet all criteria. Sends one statement to normalize the texts of the criteria, if there are any."""
    context = replace(context, normalized=normalize(text for one in criteria for text in one.texts_to_normalize))
    for place, criterion in enumerate(criteria):
        indexed = context.indexed and place < INDEXED_CRITERIA
        rows = rows.filter(criterion.condition(replace(context, indexed=indexed)))
    return rows


@dataclass
class Query:
    """What a search asks for. `used` are the parameters that had an effect, as the `self` link repeats them."""

    criteria: list[Criterion] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    used: dict[str, list[str]] = field(default_factory=dict)

    @property
    def elements(self) -> frozenset[str]:
        text = self.results.get("_elements")
        return frozenset(text.split(",")) if text else frozenset()

    @property
    def summary(self) -> str:
        return self.results.get("_summary", "false")

    @property
    def count(self) -> int:
        return read_count(self.results)

    @property
    def counts_only(self) -> bool:
        """`_count=0` is the same as `_summary=count` (https://hl7.org/fhir/R4/search.html#count)."""
        return self.summary == "count" or self.count == 0

    @property
    def wants_total(self) -> bool:
        return self.counts_only or self.results.get("_total", "none") != "none"

    @property
    def includes(self) -> list[str]:
        return self.results["_include"].split(",") if "_include" in self.results else []

    @property
    def sorts(self) -> list[str]:
        return self.results["_sort"].split(",") if "_sort" in self.results else []


class QueryReader:
    """Reads the parameters that a viewset knows. Raises Invalid (400) with an issue for each wrong one.

    `source` is the header that they stand in, if they do: its issues name it and not the parameters.
    """

    def __init__(self, view: Any, *, lenient: bool, source: str = "") -> None:
        self.source = source
        self.parameters: Mapping[str, SearchParameter] = view.search_parameters
        self.sorts, self.inclusions = view.sort_columns, view.search_inclusions
        self.lenient = lenient
        self.issues: list[Issue] = []

    def read(self, pairs: Iterable[tuple[str, str]]) -> Query:
        query = Query()
        for name, text in pairs:
            if name in RESULT_PARAMETERS - ({"_include"} if not self.inclusions else set()):
                self.read_result(query, name, text)
            elif name not in EVERYWHERE | IGNORED:
                self.read_criterion(query, name, text)
        self.check_size(query.criteria)
        self.refuse()
        return query

    def read_criteria(self, text: str) -> list[Criterion]:
        """The criteria in a query string: of a conditional create, whose header has no result parameters."""
        query = Query()
        for name, value in parse_qsl(text, keep_blank_values=True):
            self.read_criterion(query, name, value)
        self.check_size(query.criteria)
        self.refuse()
        return query.criteria

    def check_size(self, criteria: Sequence[Criterion]) -> None:
        """Add an issue for a search that exceeds a limit."""
        texts = [(one, text) for one in criteria for text in one.values]
        strings = sum(len(text) for one, text in texts if isinstance(one.parameter, StringParameter))
        limits = [
            (len(criteria), MAXIMUM_CRITERIA, "parameters that select"),
            (len(texts), MAXIMUM_VALUES, "values"),
            (sum(len(text) for _, text in texts), MAXIMUM_CHARACTERS, "characters"),
            (strings, MAXIMUM_CHARACTERS_OF_STRINGS, "characters of names and addresses"),
        ]
        for number, most, what in limits:
            if not self.issues and number > most:
                self.issues.append(Issue("too-costly", f"Search for at most {most} {what} at once."))

    def refuse(self) -> None:
        if self.issues:
            raise Invalid(*self.issues[: LimitedErrors.LIMIT])

    def read_criterion(self, query: Query, text: str, value: str) -> None:
        name, colon, modifier = text.partition(":")
        parameter = self.parameters.get(name)
        expression = f"http.{self.source or printable_parameter(text)}"
        if parameter is None:
            problem = "This search has no such parameter"
            self.unknown(suggest(name, {*self.parameters}, problem, "remove it"), expression)
            return
        modifiers = parameter.modifiers | {"missing"}
        if colon and modifier not in modifiers:
            known = ", ".join(f":{one}" for one in sorted(modifiers))
            self.unknown([f"`{name}` has no such modifier; use one of these: {known}."], expression)
            return
        values = [unescape(one) if parameter.unescapes else one for one in split_unescaped(value, ",")]
        if UNSTORABLE.search(value):
            self.issues.append(Issue("value", "Remove NUL characters and lone surrogates.", expression))
        elif not all(one.strip() for one in values):
            self.issues.append(Issue("value", "Send a value, or leave the parameter out.", expression))
        elif modifier == "missing" and value not in {"true", "false"}:
            self.issues.append(Issue("value", "Write true or false.", expression))
        else:
            try:
                criterion = Criterion(name, parameter, modifier, values)
                if modifier != "missing":
                    for one in values:
                        parameter.check(one)
            except BadValueError as error:
                self.issues.append(Issue("value", str(error), expression))
                return
            query.criteria.append(criterion)
            query.used.setdefault(text, []).append(value)

    def unknown(self, detail: Sequence[str], expression: str) -> None:
        """Other than a wrong value, `Prefer: handling=lenient` ignores it
        (https://hl7.org/fhir/R4/search.html#errors)."""
        if not self.lenient:
            self.issues.append(Issue("not-supported", str(detail[0]), expression))

    def read_result(self, query: Query, name: str, text: str) -> None:
        if name in query.results:
            if name != "_include":
                self.issues.append(Issue("value", "Send this parameter once.", f"http.{name}"))
                return
            text = f"{query.results[name]},{text}"
        detail = self.problem_of_result(name, text)
        if detail:
            self.issues.append(Issue("value", detail, f"http.{name}"))
            return
        query.results[name] = text
        if name == "_count":
            text = str(read_count({name: text}))
        query.used[name] = text.split(",") if name == "_include" else [text]

    def problem_of_result(self, name: str, text: str) -> str:
        """What is wrong with the value of a result parameter; empty if nothing is."""
        choices: dict[str, set[str]] = {
            "_summary": SUMMARIES,
            "_total": TOTALS,
        }
        if name in choices and text not in choices[name]:
            return f"Write one of these: {', '.join(sorted(choices[name]))}."
        if name == "_sort":
            return self.problem_of_sorts(text.split(","))
        if name == "_elements" and not all(ELEMENT_NAME.fullmatch(one) for one in text.split(",")):
            return "Write names of elements, separated by commas."
        if name == "_include" and not {*text.split(",")} <= {*self.inclusions}:
            return f"Write one of these: {', '.join(sorted(self.inclusions))}."
        return ""

    def problem_of_sorts(self, sorts: Sequence[str]) -> str:
        keys = [one.removeprefix("-") for one in sorts]
        if not {*keys} <= {*self.sorts} or len({*keys}) < len(keys):
            return (
                f"Write one of these or several, each once, with - for the descending order: {', '.join(self.sorts)}."
            )
        if len({one.startswith("-") for one in sorts}) > 1:
            return "Sort by all keys in the same direction: with - before each of them, or before none."
        return ""


def seal(used: Mapping[str, Sequence[str]]) -> str:
    """The parameters as an encrypted text, which `unseal` reads."""
    pairs = [text for name, values in used.items() for value in values for text in (name, value)]
    return Cursor(tuple(pairs), back=False).text()


def unseal(text: str) -> Iterator[tuple[str, str]]:
    """The parameters that `seal` wrote. Raises Invalid (400) for any other text."""
    parts = decode_cursor(text)
    if parts is None or len(parts) % 2 == 0 or not all(isinstance(part, str) for part in parts[1:]):
        raise Invalid(Issue("value", "Use a link of this Bundle, unchanged.", f"http.{SEALED}"))
    yield from zip(parts[1::2], parts[2::2], strict=True)
