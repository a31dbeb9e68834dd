"""Options of an import: each value is one of those documented, and each wrong one is an error of its parameter."""

import dataclasses
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from healthcare.imports.dates import WRITE_A_FORMAT
from healthcare.imports.options import ImportOptions, ReadOptions


def errors(**parameters: list[str]) -> Any:
    with pytest.raises(ValidationError) as caught:
        ImportOptions.parse(parameters)
    return caught.value.detail


def test_the_first_value_of_each_parameter_is_the_default() -> None:
    assert ImportOptions.parse({}) == ImportOptions()
    assert ImportOptions().parameters() == {
        "mode": "check",
        "match": "identifier",
        "on_match": "skip",
        "on_likely": "hold",
        "partial": False,
        "empty": "keep",
        "map": [],
        "date_format": "",
        "encoding": "utf-8",
        "delimiter": "",
    }


def test_every_parameter_is_read() -> None:
    options = ImportOptions.parse(
        {
            "mode": ["apply"],
            "match": ["none"],
            "on_match": ["update"],
            "on_likely": ["create"],
            "partial": ["true"],
            "empty": ["clear"],
            "map": ["Full Name:name", "a:b:note"],
            "date_format": ["%d.%m.%Y"],
            "encoding": ["latin1"],
            "delimiter": ["|"],
            "unknown": ["1"],
        }
    )
    reading = ReadOptions({"Full Name": "name", "a:b": "note"}, "latin1", "|")
    assert options == ImportOptions("apply", "none", "update", "create", True, "clear", "%d.%m.%Y", reading)
    assert ImportOptions.parse(as_sent(options)) == options


def as_sent(options: ImportOptions) -> dict[str, list[str]]:
    sent = {name: value if name == "map" else [value] for name, value in options.parameters().items()}
    return sent | {"partial": [str(options.partial).lower()]}


def test_each_wrong_value_is_an_error_of_its_parameter() -> None:
    assert errors(mode=["Apply"], partial=["1"], on_match=[""], date_format=["%d.%m.%y"], map=["name"]) == {
        "mode": ["Write `check` or `apply`."],
        "on_match": ["Write `skip` or `update` or `refuse`."],
        "partial": ["Write `false` or `true`."],
        "date_format": [WRITE_A_FORMAT],
        "map": ["Write the column of the file, a colon and the name of the field: `Full Name:name`."],
    }


@pytest.mark.parametrize("label", ["", "klingon", "x-user-defined", "utf-7", "utf-32", "ütf-8", "hex", "\0", "idna"])
def test_an_encoding_that_is_no_label_of_the_web_is_refused(label: str) -> None:
    assert errors(encoding=[label]) == {
        "encoding": ["Write a label of the WHATWG Encoding Standard: `utf-8`, `windows-1252` or `utf-16le`."]
    }


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r", "\0", "tab"])
def test_a_delimiter_that_separates_nothing_is_refused(delimiter: str) -> None:
    assert errors(delimiter=[delimiter]) == {"delimiter": ["Write one character: `,`, `;` or a tab (%09)."]}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([":name"], "Write the column of the file, a colon and the name of the field: `Full Name:name`."),
        (["Full Name:"], "Write the column of the file, a colon and the name of the field: `Full Name:name`."),
        (["a" * 201 + ":name"], "Write the column of the file, a colon and the name of the field: `Full Name:name`."),
        (["a:name", "a:note"], "Name a column of the file once."),
        (["a:name", "b:name"], "Name a field once: two columns cannot both become it."),
        ([f"a{n}:b{n}" for n in range(201)], "Rename at most 200 columns."),
    ],
    ids=["no-column", "no-field", "long", "column-twice", "field-twice", "many"],
)
def test_names_that_are_not_clear_are_refused(values: list[str], error: str) -> None:
    assert errors(map=values) == {"map": [error]}


def test_the_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImportOptions().mode = "apply"  # type: ignore[misc]
