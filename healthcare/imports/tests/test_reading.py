"""Files of records: what they contain comes out once, and each fault has one clear answer that repeats no data."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcare.exports.csv_text import escape_formula
from healthcare.imports.file_refused import FileRefused
from healthcare.imports.options import ReadOptions
from healthcare.imports.reading import CSV, NDJSON, UNLIMITED_FILE, FileLimits, ReadRecord, read_records
from healthcare.imports.unpacking import gathered

MIB = 1024 * 1024
OF_API = FileLimits()


def records(
    content: bytes | Iterable[bytes],
    media_type: str = CSV,
    *,
    gzipped: bool = False,
    limits: FileLimits = OF_API,
    **options: Any,
) -> list[ReadRecord]:
    chunks = [content] if isinstance(content, bytes) else content
    return [
        *read_records(chunks, media_type=media_type, gzipped=gzipped, options=ReadOptions(**options), limits=limits)
    ]


def values(content: bytes | Iterable[bytes], *args: Any, **options: Any) -> list[tuple[int, dict[str, Any] | None]]:
    return [(record.line, record.values) for record in records(content, *args, **options)]


def faults(content: bytes | Iterable[bytes], *args: Any, **options: Any) -> list[tuple[int, str, str]]:
    return [
        (record.line, error.code, error.detail)
        for record in records(content, *args, **options)
        for error in record.errors
    ]


def refusal(content: bytes | Iterable[bytes], *args: Any, **options: Any) -> tuple[int, str, str]:
    with pytest.raises(FileRefused) as caught:
        records(content, *args, **options)
    return caught.value.status_code, str(caught.value.get_codes()), str(caught.value.detail)


# Lines


def test_lines_may_end_in_any_way_and_are_counted_as_an_editor_counts_them() -> None:
    content = b"name,note\r\nAda,1\nBob,2\rCem,3\n\r\n\r\r\nDan,4"
    expected = [
        (2, {"name": "Ada", "note": "1"}),
        (3, {"name": "Bob", "note": "2"}),
        (4, {"name": "Cem", "note": "3"}),
        (8, {"name": "Dan", "note": "4"}),
    ]
    assert values(content) == expected
    assert values(bytes([byte]) for byte in content) == expected  # a CRLF may be in two chunks


def test_line_ends_in_quotation_marks_are_data_and_count() -> None:
    assert values(b'name,note\n"Ada","one\r\ntwo\rthree\nfour"\nBob,\n') == [
        (2, {"name": "Ada", "note": "one\r\ntwo\rthree\nfour"}),
        (6, {"name": "Bob", "note": ""}),
    ]


def test_other_separators_of_unicode_end_no_line() -> None:
    cell = "a\x0b\x0c\x1c\x85\u2028\u2029b"
    assert values(f"name\n{cell}\n".encode()) == [(2, {"name": cell})]


@pytest.mark.parametrize("blank", ["", " ", ",", " , ", '"",""'])
def test_lines_without_anything_are_no_records(blank: str) -> None:
    assert values(f"name,note\n{blank}\nAda,1\n{blank}".encode()) == [(3, {"name": "Ada", "note": "1"})]


def test_a_byte_order_mark_is_taken_off_once() -> None:
    mark = "\ufeff".encode()
    assert values(mark + b"name\nAda\n") == [(2, {"name": "Ada"})]
    assert values([mark[:1], mark[1:], b"name\n", mark + b"Ada"]) == [(2, {"name": "\ufeffAda"})]
    assert values(mark + b'{"name": "Ada"}', NDJSON) == [(1, {"name": "Ada"})]


# CSV


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("name,note", ","),
        ("name;note", ";"),
        ("name\tnote", "\t"),
        ('"a;b;c",note', ","),
        ('"a,b"";c,d";note', ";"),
        ("name", ","),
        ("a,b;c", ","),
    ],
    ids=["comma", "semicolon", "tab", "semicolons-quoted", "commas-quoted", "one-column", "tie"],
)
def test_the_delimiter_is_found_in_the_header_outside_quotation_marks(header: str, found: str) -> None:
    [expected] = csv.reader([header], delimiter=found)
    row = found.join(str(number) for number, _ in enumerate(expected))
    assert values(f"{header}\n{row}".encode()) == [(2, {name: str(n) for n, name in enumerate(expected)})]


def test_a_delimiter_that_is_given_is_not_looked_for() -> None:
    assert values(b"a;b|c;d\n1;2|3;4", delimiter="|") == [(2, {"a;b": "1;2", "c;d": "3;4"})]


def test_formulas_are_data_and_the_escape_is_taken_off() -> None:
    content = b"name,phone,note\n=1+1,+91 98450 12345,'=x\n@a,-1,''=x\n"
    assert values(content) == [
        (2, {"name": "=1+1", "phone": "+91 98450 12345", "note": "=x"}),
        (3, {"name": "@a", "phone": "-1", "note": "'=x"}),
    ]


def test_a_quotation_mark_within_a_cell_is_data() -> None:
    assert values(b"name,note\nAda,5' 11\" tall\n") == [(2, {"name": "Ada", "note": "5' 11\" tall"})]


def test_a_row_of_another_length_is_a_fault_of_that_row() -> None:
    detail = "The row has {} cells, but the header names 2 columns."
    content = b'name,note\nAda,1\nBob\n"C\nem",2,3\nDan,4\n'
    assert faults(content) == [(3, "cells", detail.format(1)), (4, "cells", detail.format(3))]
    assert [record.line for record in records(content) if record.values] == [2, 6]


@pytest.mark.parametrize(
    ("content", "code", "detail"),
    [
        ("", "header", "The file is empty."),
        ("\n \r\n", "header", "The file is empty."),
        ("\nname\nAda", "header", "Name the columns on line 1."),
        ("name,note,name\n", "header", "Columns 1 and 3 have one name; keep one."),
        ("name, name \n", "header", "Columns 1 and 2 have one name; keep one."),
        ("Ada Lovelace,Ada Lovelace\n", "header", "Columns 1 and 2 have one name; keep one."),
        ("name,,note\n", "header", "Column 2 has no name; name it, or remove it."),
        ("name,note,\nAda,1,\n", "header", "Column 3 has no name; name it, or remove it."),
        (
            'name,note\nAda,"x" y\n',
            "quotation_mark",
            "Line 2 has text after a closing quotation mark; "
            "write two quotation marks for one that belongs to the text.",
        ),
        (
            'name,note\nAda,1\nBob,"x\nCem,2\n',
            "quotation_mark",
            "A quotation mark in the record that begins on line 3 is never closed.",
        ),
        (
            '"name,note\nAda,1',
            "quotation_mark",
            "A quotation mark in the record that begins on line 1 is never closed.",
        ),
        ("name,note\nAda,1\nBob,\0\n", "nul", None),
        ("name," * 1000 + "\n", "too_many_columns", "The header names more than 1,000 columns."),
    ],
    ids=[
        "empty",
        "blank",
        "blank-first-line",
        "doubled",
        "doubled-but-for-blanks",
        "doubled-data",
        "no-name",
        "no-last-name",
        "text-after-quotation-mark",
        "open-quotation-mark",
        "open-quotation-mark-in-header",
        "nul",
        "columns",
    ],
)
def test_a_fault_of_the_file_has_one_answer(content: str, code: str, detail: str | None) -> None:
    nul = "Line 3 contains a NUL character. If the file is UTF-16, send `encoding=utf-16le`; if not, remove it."
    assert refusal(content.encode()) == (400, code, detail or nul)


CELLS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))
    return [[f"column_{number}" for number in range(width)], *(row for row in rows if any(map(str.strip, row)))]


@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\r\n", "\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-16le", "gb18030"]),
    size=st.integers(1, 64),
)
def test_what_the_csv_module_writes_is_read_again(
    table: list[list[str]], delimiter: str, line_end: str, encoding: str, size: int
) -> None:
    text = io.StringIO()
    # The module quotes only the line end that it writes, unless it is CRLF.
    quoting = csv.QUOTE_MINIMAL if line_end == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([table[0], *([escape_formula(cell) for cell in row] for row in table[1:])])
    content = text.getvalue().encode(encoding)
    chunks = [content[start : start + size] for start in range(0, len(content), size)]

    read = records(chunks, delimiter=delimiter, encoding=encoding)

    assert [record.values for record in read] == [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    # A record begins where its first cell is, and no line is counted twice.
    lines = [record.line for record in read]
    assert lines == sorted(set(lines))


# Renamed columns


def test_columns_are_renamed() -> None:
    names = {"Full Name": "name", "a:b": "note"}
    assert values(b"Full Name,a:b,age\nAda,1,2\n", names=names) == [(2, {"name": "Ada", "note": "1", "age": "2"})]
    assert values(b'{"Full Name": "Ada", "age": 2}\n{"a:b": 1}\n', NDJSON, names=names) == [
        (1, {"name": "Ada", "age": 2}),
        (2, {"note": 1}),
    ]


@pytest.mark.parametrize(
    ("content", "media_type", "code", "detail"),
    [
        (b"name\nAda\n", CSV, "map", "`map` renames a column that the file does not have."),
        (b'{"name": "Ada"}', NDJSON, "map", "`map` renames a column that the file does not have."),
        (b"Full Name,name\nAda,Bob\n", CSV, "header", "Columns 1 and 2 have one name; keep one."),
    ],
    ids=["csv", "ndjson", "two-columns-of-one-name"],
)
def test_a_column_that_cannot_be_renamed_is_a_fault_of_the_file(
    content: bytes, media_type: str, code: str, detail: str
) -> None:
    assert refusal(content, media_type, names={"Full Name": "name"}) == (400, code, detail)


def test_two_keys_of_one_name_are_a_fault_of_the_line() -> None:
    assert faults(b'{"Full Name": "Ada", "name": "Bob"}', NDJSON, names={"Full Name": "name"}) == [
        (1, "json", "Two keys become one field by `map`; send one of them.")
    ]


# NDJSON


def test_each_line_of_ndjson_is_strict_json() -> None:
    content = (
        b'{"a": [1, null]}\r\n\n{"a": 1, "a": 2}\n[1]\n{"a": "\\u0000"}\n{"a": NaN}\n{"a": 1} {"b": 2}\n{"a": 1e999}'
    )
    deep = b'\n{"a": ' + b"[" * 32 + b"]" * 32 + b"}\n" + b"[" * 100_000
    assert values(content, NDJSON)[0] == (1, {"a": [1, None]})
    assert faults(content + deep, NDJSON) == [
        (3, "json", "An object contains the same key twice; send each key once."),
        (4, "json", "The line is not a JSON object."),
        (5, "json", "A string contains a NUL character or a lone surrogate; remove it."),
        (6, "json", "NaN and Infinity are not JSON; send a number or null."),
        (7, "json", "The line is not valid JSON."),
        (8, "json", "A number is too large; send a smaller one."),
        (9, "json", "The line is nested more than 32 levels deep."),
        (10, "json", "The line is nested more than 32 levels deep."),
    ]


@pytest.mark.parametrize("content", [b"", b"\n \t\r\n"], ids=["empty", "blank"])
def test_ndjson_without_a_line_is_refused(content: bytes) -> None:
    assert refusal(content, NDJSON) == (400, "empty", "The file is empty.")


def test_ndjson_never_takes_an_escape_off() -> None:
    assert values(b'{"note": "\'=x"}', NDJSON) == [(1, {"note": "'=x"})]


@given(st.lists(st.dictionaries(CELLS, CELLS | st.integers() | st.none() | st.booleans()), min_size=1, max_size=5))
def test_what_json_writes_is_read_again(objects: list[dict[str, Any]]) -> None:
    content = "\n".join(map(json.dumps, objects)).encode()
    assert values(content, NDJSON) == [*enumerate(objects, start=1)]


# Encodings


@pytest.mark.parametrize(
    ("label", "codec"),
    [("latin1", "windows-1252"), ("ISO-8859-1", "windows-1252"), ("utf-16", "utf-16le"), ("sjis", "shift_jis")],
)
def test_an_encoding_has_the_labels_of_the_web(label: str, codec: str) -> None:
    name = "Renée – Müller" if codec == "windows-1252" else "東京"
    assert values(f"name\n{name}\n".encode(codec), encoding=label) == [(2, {"name": name})]


@pytest.mark.parametrize(
    ("content", "encoding", "detail"),
    [
        (b"name\nAda\r\nM\xfcller\n", "utf-8", "Line 3 is not text in utf-8. Name the encoding"),
        (b"name\nAda\n\xff", "utf-8", "Line 3 is not text in utf-8. Name the encoding"),
        (b"name\nAda\n\xe2\x82", "utf-8", "Line 3 is not text in utf-8. Name the encoding"),
        (b"name\nAda\n\xed\xa0\x80", "utf-8", "Line 3 is not text in utf-8. Name the encoding"),
        (b"name\n\x81\n", "windows-1252", "Line 2 is not text in windows-1252. Name the encoding"),
        ("name\nAda".encode("utf-16le")[:-1], "utf-16le", "Line 2 is not text in utf-16le. Name the encoding"),
    ],
    ids=["latin", "last-line", "cut", "surrogate", "undefined", "half-a-unit"],
)
def test_bytes_that_are_no_text_are_a_fault_of_the_file(content: bytes, encoding: str, detail: str) -> None:
    for chunks in ([content], [bytes([byte]) for byte in content]):
        status, code, text = refusal(chunks, encoding=encoding)
        assert (status, code) == (400, "encoding")
        assert text.startswith(detail)


@pytest.mark.parametrize("codec", ["utf-16le", "utf-16be"])
def test_utf_16_is_recognised_by_its_mark(codec: str) -> None:
    content = "\ufeffname\nAda".encode(codec)
    assert refusal(content)[2] == (
        f"Line 1 is not text in utf-8. The file seems to be UTF-16; send `encoding={codec}`."
    )
    assert values(content, encoding=codec) == [(2, {"name": "Ada"})]


def test_a_nul_has_its_line_also_in_utf_16_without_a_mark() -> None:
    assert refusal("name\nAda".encode("utf-16le"))[:2] == (400, "nul")
    assert refusal(b'{"a": 1}\n{"a": "\0"}\n', NDJSON)[2].startswith("Line 2 contains a NUL character.")


# Gzip

PLAIN = b"name\nAda\n"
PACKED = gzip.compress(PLAIN, mtime=0)


@pytest.mark.parametrize(
    "content",
    [[PACKED], [PACKED + gzip.compress(b"", mtime=0)], [bytes([byte]) for byte in PACKED], [b"", PACKED, b""]],
    ids=["whole", "two-members", "bytes", "empty-chunks"],
)
def test_gzip_is_unpacked(content: list[bytes]) -> None:
    assert values(content, gzipped=True) == [(2, {"name": "Ada"})]


def test_a_second_member_goes_on_in_the_same_line() -> None:
    assert values(PACKED + gzip.compress(b"Bob", mtime=0), gzipped=True)[1] == (3, {"name": "Bob"})


def test_what_follows_a_large_member_is_read_once() -> None:
    large = "x" * 120_000
    content = gzip.compress(f"name\n{large}\n".encode(), mtime=0)
    content += b"".join(gzip.compress(f"{number}\n".encode(), mtime=0) for number in range(300))
    read = [(record or {})["name"] for _, record in values(content, gzipped=True)]
    assert read == [large, *map(str, range(300))]


def test_small_pieces_are_gathered_before_lines_are_looked_for_in_them() -> None:
    gathered_pieces = list(gathered([b"a"] * 200_000))
    assert b"".join(gathered_pieces) == b"a" * 200_000
    assert len(gathered_pieces) == 4


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "The gzip file ends too early; send all of it."),
        (PACKED[:-1], "The gzip file ends too early; send all of it."),
        (PACKED[:5], "The gzip file ends too early; send all of it."),
        (PACKED + PACKED[:-4], "The gzip file ends too early; send all of it."),
        (PLAIN, "The file is not valid gzip; pack it again, or leave out `Content-Encoding: gzip`."),
        (PACKED + PLAIN, "The file is not valid gzip; pack it again, or leave out `Content-Encoding: gzip`."),
        (PACKED[:-8] + bytes(8), "The file is not valid gzip; pack it again, or leave out `Content-Encoding: gzip`."),
        (zlib.compress(PLAIN), "The file is not valid gzip; pack it again, or leave out `Content-Encoding: gzip`."),
    ],
    ids=["empty", "cut", "cut-head", "cut-member", "plain", "trailing", "checksum", "zlib"],
)
def test_broken_gzip_is_a_fault_of_the_file(content: bytes, detail: str) -> None:
    assert refusal(content, gzipped=True) == (400, "gzip", detail)


# Limits


def test_a_file_within_the_limits_is_read_and_one_byte_more_is_not() -> None:
    content = b"name\nAda\nBob\n"
    assert (
        len(records(content, limits=FileLimits(packed=13, unpacked=13, rows=2, lines=3, line_bytes=5, columns=1))) == 2
    )
    assert refusal(content, limits=FileLimits(packed=12)) == (
        413,
        "too_large",
        "The file is too large; send a smaller one, packed with gzip or in parts.",
    )
    assert refusal(content, limits=FileLimits(unpacked=12)) == (
        413,
        "too_large",
        "The file is too large when it is unpacked; send it in parts.",
    )
    assert refusal(content, limits=FileLimits(rows=1)) == (
        413,
        "too_many_rows",
        "The file has more than 1 rows; send it in parts.",
    )
    assert refusal(content, limits=FileLimits(lines=2)) == (
        413,
        "too_many_lines",
        "The file has more than 2 lines; send it in parts.",
    )
    assert refusal(content, limits=FileLimits(line_bytes=4)) == (
        413,
        "line_too_long",
        "Line 1 is longer than 4 characters; shorten it.",
    )


def test_the_records_before_a_limit_are_read_when_they_are_asked_for() -> None:
    reading = read_records(
        [b"name\nAda\nBob\n", b"Cem\n"],
        media_type=CSV,
        gzipped=False,
        options=ReadOptions(),
        limits=FileLimits(rows=1),
    )
    assert next(reading) == ReadRecord(2, {"name": "Ada"})


class Endless:
    """Chunks without an end, of which a reader within its limits takes few."""

    def __init__(self, beginning: bytes, chunk: bytes) -> None:
        self.beginning = beginning
        self.chunk = chunk
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        yield self.beginning
        while True:
            self.taken += len(self.chunk)
            yield self.chunk


@pytest.mark.parametrize(
    ("beginning", "chunk", "media_type", "code"),
    [
        (b"", b"x" * 65536, CSV, "line_too_long"),
        (b"", b"a," * 32768, CSV, "line_too_long"),
        (b'name\n"', b"x\n" * 32768, CSV, "record_too_long"),
        (b'{"a": "', b"x" * 65536, NDJSON, "line_too_long"),
        (b"[", b"[" * 65536, NDJSON, "line_too_long"),
    ],
    ids=["line", "columns", "open-quotation-mark", "json", "brackets"],
)
def test_a_line_without_an_end_is_not_read_much_beyond_the_limit(
    beginning: bytes, chunk: bytes, media_type: str, code: str
) -> None:
    endless = Endless(beginning, chunk)
    assert refusal(endless, media_type, limits=UNLIMITED_FILE)[:2] == (413, code)
    assert endless.taken <= 2 * MIB


def test_a_gzip_bomb_is_unpacked_only_up_to_the_limit() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress((b"a" * 1023 + b"\n") * 16 * 1024) + packer.flush()
    assert len(bomb) < MIB // 10
    assert refusal(bomb, gzipped=True, limits=FileLimits(unpacked=MIB, rows=None))[:2] == (413, "too_large")


def test_many_empty_members_are_unpacked_in_linear_work() -> None:
    empty = gzip.compress(b"", mtime=0)
    assert values(empty * 10_000 + PACKED, gzipped=True) == [(2, {"name": "Ada"})]
