"""A file of records, CSV (RFC 4180) or NDJSON, read one record at a time."""

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from rest_framework.exceptions import ParseError

from healthcare.api.parsers import decode_object
from healthcare.exports.csv_text import unescape_formula
from healthcare.imports.file_refused import FileRefused
from healthcare.imports.options import ReadOptions
from healthcare.imports.text_lines import text_lines
from healthcare.imports.unpacking import gathered, limited, unpacked

CSV, NDJSON = "text/csv", "application/x-ndjson"
DELIMITERS = (",", ";", "\t")
QUOTED_CELL = re.compile(r'"[^"]*(?:"|\Z)')
MIB = 1024 * 1024
JSON_WHITESPACE = " \t\r\n"
TOO_LARGE = "The file is too large; send a smaller one, packed with gzip or in parts."
MISSING_COLUMN = "`map` renames a column that the file does not have."

# The module's limit is one for the whole process and is for cells; FileLimits bounds whole records.
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class FileLimits:
    """How large a file may be; None is any size.

    - `packed`, `unpacked`: bytes of the file as it arrives, and after gzip.
    - `lines`: blank ones, too, which cost work and are no rows.
    - `line_bytes`: characters of one line, and of one record.
    - `columns`: of CSV.
    """

    packed: int | None = 20 * MIB
    unpacked: int | None = 200 * MIB
    rows: int | None = 50_000
    lines: int | None = 1_000_000
    line_bytes: int = MIB
    columns: int = 1000


UNLIMITED_FILE = FileLimits(packed=None, unpacked=None, rows=None, lines=None)


@dataclass(frozen=True)
class LineError:
    code: str
    detail: str
    pointer: str = ""


@dataclass(frozen=True)
class ReadRecord:
    """A record and the physical line where it begins. It has values, by the names of the fields, or errors."""

    line: int
    values: dict[str, Any] | None
    errors: list[LineError] = field(default_factory=list)


def accept_columns(columns: Sequence[str]) -> None:
    pass


def read_records(
    chunks: Iterable[bytes],
    *,
    media_type: str,
    gzipped: bool,
    options: ReadOptions,
    limits: FileLimits,
    check_columns: Callable[[Sequence[str]], None] = accept_columns,
) -> Iterator[ReadRecord]:
    """The records of a file, in its order, each read when it is asked for. Blank lines are no records.

    The values of CSV are texts without the escape of formulas, those of NDJSON are JSON values. A fault of one record
    is among its `errors`. Raises FileRefused for a fault of the file, perhaps after some records.
    `check_columns` gets the fields that the columns of CSV become, even if there is no record, and may raise.
    """
    content = limited(chunks, limits.packed, TOO_LARGE)
    if gzipped:
        content = gathered(unpacked(content))
    content = limited(content, limits.unpacked, "The file is too large when it is unpacked; send it in parts.")
    lines = limited_lines(text_lines(content, options.encoding, limits.line_bytes), limits.lines)
    read = read_csv(lines, options, limits, check_columns) if media_type == CSV else read_ndjson(lines, options)
    for count, record in enumerate(read, start=1):
        if limits.rows is not None and count > limits.rows:
            raise FileRefused(413, "too_many_rows", f"The file has more than {limits.rows:,} rows; send it in parts.")
        yield record


def limited_lines(lines: Iterator[str], maximum: int | None) -> Iterator[str]:
    if maximum is None:
        return lines
    return chain(islice(lines, maximum), too_many_lines(lines, maximum))


def too_many_lines(rest: Iterator[str], maximum: int) -> Iterator[str]:
    for _ in rest:
        raise FileRefused(413, "too_many_lines", f"The file has more than {maximum:,} lines; send it in parts.")
    yield from ()


# CSV


class RecordLines:
    """The lines of a file for csv.reader, which asks for another one as long as a quotation mark is open."""

    def __init__(self, lines: Iterable[str], longest: int) -> None:
        self.lines = iter(lines)
        self.longest = longest
        self.number = 0  # of the last line that was read
        self.start = 1  # the line where the record begins
        self.length = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.number += 1
        self.length += len(line)
        if self.length > self.longest:
            raise FileRefused(
                413,
                "record_too_long",
                f"The record that begins on line {self.start} is longer than {self.longest:,} characters; "
                "close its quotation mark.",
            )
        return line

    def begin_record(self) -> None:
        self.start = self.number + 1
        self.length = 0


def csv_rows(lines: Iterable[str], delimiter: str, longest: int) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record and the line where it begins, but for records that are blank.

    Raises FileRefused for quotation marks after which no reader can tell where a record begins. A quotation mark within
    a cell that does not begin with one is text, as spreadsheets read it.
    """
    source = RecordLines(lines, longest)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            if source.ended:
                detail = f"A quotation mark in the record that begins on line {source.start} is never closed."
            else:
                detail = (
                    f"Line {source.number} has text after a closing quotation mark; "
                    "write two quotation marks for one that belongs to the text."
                )
            raise FileRefused(400, "quotation_mark", detail) from None
        if any(cell.strip() for cell in cells):
            yield source.start, cells


def read_csv(
    lines: Iterator[str], options: ReadOptions, limits: FileLimits, check_columns: Callable[[Sequence[str]], None]
) -> Iterator[ReadRecord]:
    first = next(lines, "")
    rows = csv_rows(chain([first], lines), options.delimiter or find_delimiter(first), limits.line_bytes)
    start, header = next(rows, (0, []))
    if start != 1:
        raise FileRefused(400, "header", "The file is empty." if not start else "Name the columns on line 1.")
    columns = column_names(header, options.names, limits.columns)
    check_columns(columns)
    for line, cells in rows:
        if len(cells) == len(columns):
            yield ReadRecord(line, dict(zip(columns, map(unescape_formula, cells), strict=True)))
        else:
            detail = f"The row has {len(cells)} cells, but the header names {len(columns)} columns."
            yield ReadRecord(line, None, [LineError("cells", detail)])


def find_delimiter(header: str) -> str:
    """The most frequent of the delimiters outside quotation marks; a comma if there is none."""
    counts = Counter(QUOTED_CELL.sub("", header))
    return max(DELIMITERS, key=lambda delimiter: counts[delimiter])


def column_names(header: Sequence[str], names: Mapping[str, str], most: int) -> list[str]:
    """The names of the fields that the columns of a header become. Raises FileRefused (400) if they are not clear."""
    if len(header) > most:
        raise FileRefused(400, "too_many_columns", f"The header names more than {most:,} columns.")
    columns = [cell.strip() for cell in header]
    if "" in columns:
        raise FileRefused(400, "header", f"Column {columns.index('') + 1} has no name; name it, or remove it.")
    refuse_doubled(columns)
    if names.keys() - set(columns):
        raise FileRefused(400, "map", MISSING_COLUMN)
    columns = [names.get(column, column) for column in columns]
    refuse_doubled(columns)
    return columns


def refuse_doubled(columns: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for number, column in enumerate(columns, start=1):
        if column in first:
            # Without the name: a file without a header has data there.
            raise FileRefused(400, "header", f"Columns {first[column]} and {number} have one name; keep one.")
        first[column] = number


# NDJSON


def read_ndjson(lines: Iterator[str], options: ReadOptions) -> Iterator[ReadRecord]:
    missing = set(options.names)  # keys to rename that no object has had
    is_empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip(JSON_WHITESPACE):
            continue
        is_empty = False
        try:
            value = decode_object(line, "The line")
            renamed = {options.names.get(key, key): item for key, item in value.items()}
            if len(renamed) != len(value):
                raise ParseError("Two keys become one field by `map`; send one of them.")
        except ParseError as error:
            missing.clear()
            yield ReadRecord(number, None, [LineError("json", str(error.detail))])
        else:
            missing -= value.keys()
            yield ReadRecord(number, renamed)
    if is_empty:
        raise FileRefused(400, "empty", "The file is empty.")
    if missing:
        raise FileRefused(400, "map", MISSING_COLUMN)
