"""Text in the cells of CSV: no formula for a spreadsheet, and the same text again for an import."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcare.exports.csv_text import (
    CELL_ENDS,
    as_cell,
    begins_formula,
    csv_lines,
    escape_formula,
    json_cell,
    unescape_formula,
)

# Any text that UTF-8 can write, most of it with what the escape is about.
ANY_TEXT = st.text(st.one_of(st.sampled_from("'\"=+-@;\t\r\n ,[{＝\u200b\u3000\x00a1"), st.characters(codec="utf-8")))
SEGMENTS = str.maketrans(dict.fromkeys(CELL_ENDS, "\n"))


@given(ANY_TEXT)
def test_what_was_escaped_is_unescaped_to_the_same_text(text: str):
    assert unescape_formula(escape_formula(text)) == text


@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
def test_any_text_survives_writing_and_reading_a_row(texts: list[str]):
    written = csv_lines([[as_cell(text) for text in texts]])
    [row] = csv.reader(io.StringIO(written, newline=""), strict=True)
    assert [unescape_formula(cell) for cell in row] == texts


@given(ANY_TEXT)
def test_no_cell_begins_with_a_formula(text: str):
    escaped = escape_formula(text)
    assert escaped[:1] not in {*"=+-@\t\r\n"}
    for segment in escaped.translate(SEGMENTS).split("\n"):
        assert not begins_formula(segment, 0)


@given(st.lists(st.dictionaries(ANY_TEXT, st.one_of(ANY_TEXT, st.none(), st.booleans(), st.integers()), max_size=3)))
def test_a_list_is_json_that_needs_no_escape(value: list[dict[str, object]]):
    cell = json_cell(value)
    assert json.loads(cell) == value
    assert escape_formula(cell) == unescape_formula(cell) == cell
    assert not CELL_ENDS & {*cell}


def test_a_text_with_very_many_beginnings_of_cells_is_read_once():
    text = "'" + ";" * 500_000  # hours, if each beginning were looked for from the start
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize(
    "text",
    ["=1", "+1", "-1", "@a", "＝1", "＋1", "－1", "＠a", "﹢1", " =1", '"=1', "\u200b=1", "\u3000=1", "\x01=1", "'=1"],
)
def test_what_a_spreadsheet_could_run_begins_with_one_more_apostrophe(text: str):
    assert escape_formula(text) == f"'{text}"
    assert escape_formula(f"a;{text}") == f"a;'{text}"


@pytest.mark.parametrize("blank", ["\t", "\r", "\n"])
def test_only_at_the_beginning_of_a_text_a_blank_alone_is_escaped(blank: str):
    assert escape_formula(f"{blank}1") == f"'{blank}1"
    assert unescape_formula(f"'{blank}1") == f"{blank}1"
    assert escape_formula(f"a;{blank}1") == f"a;{blank}1"


@pytest.mark.parametrize("text", ["+91 98450 12345", "=1+1", "-2", "O'Brien", "'tis", "a;=1"])
def test_what_was_never_escaped_stays_as_it_is(text: str):
    assert unescape_formula(text) == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""), ("", ""), (True, "true"), (False, "false"), (0, "0"), (-5, "-5"), ([], "[]"),
        ("2020-01-02", "2020-01-02"), ([{"a": "x;=1"}], '[{"a": "x\\u003b=1"}]'), ("'=x", "''=x"),
    ],
)  # fmt: skip
def test_values_are_written_as_the_api_represents_them(value: object, cell: str):
    assert as_cell(value) == cell
