"""What an import is asked to do, from the query parameters of a request or the options of the command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import webencodings
from rest_framework.exceptions import ErrorDetail, ValidationError

from healthcare.imports.dates import WRITE_A_FORMAT, is_date_format

# The values of each parameter, the default first.
CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("check", "apply"),
    "match": ("identifier", "none"),
    "on_match": ("skip", "update", "refuse"),
    "on_likely": ("hold", "create"),
    "partial": ("false", "true"),
    "empty": ("keep", "clear"),
}
LONGEST_NAME = 200  # characters of a column's name
MOST_NAMES = 200  # columns that one import renames
NO_DELIMITERS = frozenset('"\r\n\0\ufeff')


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read.

    - `names`: the name of the field for a column or key that has another name in the file.
    - `encoding`: a WHATWG label.
    - `delimiter`: of CSV; empty to find it in the header.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    delimiter: str = ""


@dataclass(frozen=True)
class ImportOptions:
    mode: str = "check"
    match: str = "identifier"
    on_match: str = "skip"
    on_likely: str = "hold"
    partial: bool = False
    empty: str = "keep"
    date_format: str = ""
    read: ReadOptions = field(default_factory=ReadOptions)

    @classmethod
    def parse(cls, parameters: Mapping[str, Sequence[str]]) -> "ImportOptions":
        """The options of these parameters, each a list of the values that were sent.

        Raises ValidationError (400) with an error for each wrong parameter. Unknown ones are not looked at.
        """
        errors: dict[str, list[ErrorDetail]] = {}
        chosen: dict[str, Any] = {}
        for name, choices in CHOICES.items():
            value = parameters.get(name, choices)[0]
            chosen[name] = value
            if value not in choices:
                errors[name] = [ErrorDetail(f"Write {' or '.join(f'`{choice}`' for choice in choices)}.", "invalid")]
        checks = {"date_format": check_date_format, "encoding": check_encoding, "delimiter": check_delimiter}
        for name, check in checks.items():
            if name in parameters:
                chosen[name] = parameters[name][0]
                if error := check(chosen[name]):
                    errors[name] = [ErrorDetail(error, "invalid")]
        names, error = parse_names(parameters.get("map", ()))
        if error:
            errors["map"] = [ErrorDetail(error, "invalid")]
        if errors:
            raise ValidationError(errors)
        reading = ReadOptions(names, chosen.pop("encoding", "utf-8"), chosen.pop("delimiter", ""))
        return cls(**{**chosen, "partial": chosen["partial"] == "true"}, read=reading)

    def parameters(self) -> dict[str, Any]:
        """All of them by the names of the parameters, as JSON."""
        return {
            **{name: getattr(self, name) for name in CHOICES},
            "map": [f"{column}:{name}" for column, name in self.read.names.items()],
            "date_format": self.date_format,
            "encoding": self.read.encoding,
            "delimiter": self.read.delimiter,
        }


def check_date_format(text: str) -> str:
    return "" if is_date_format(text) else WRITE_A_FORMAT


def check_encoding(text: str) -> str:
    encoding = webencodings.lookup(text)
    known = encoding is not None and encoding.name != "x-user-defined"
    return "" if known else "Write a label of the WHATWG Encoding Standard: `utf-8`, `windows-1252` or `utf-16le`."


def check_delimiter(text: str) -> str:
    return "" if len(text) == 1 and text not in NO_DELIMITERS else "Write one character: `,`, `;` or a tab (%09)."


def parse_names(values: Sequence[str]) -> tuple[dict[str, str], str]:
    """The field for each column of `Full Name:name`, and what is wrong with them. A column may contain colons."""
    names: dict[str, str] = {}
    for value in values:
        column, _, name = (part.strip() for part in value.rpartition(":"))  # without a colon there is no column
        if not (column and name) or max(len(column), len(name)) > LONGEST_NAME:
            return {}, "Write the column of the file, a colon and the name of the field: `Full Name:name`."
        if column in names:
            return {}, "Name a column of the file once."
        if name in names.values():
            return {}, "Name a field once: two columns cannot both become it."
        names[column] = name
    return names, f"Rename at most {MOST_NAMES} columns." if len(names) > MOST_NAMES else ""
