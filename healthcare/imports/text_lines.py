"""The physical lines of a file as text."""

import codecs
import io
from collections.abc import Iterable, Iterator

import webencodings

from healthcare.exports.csv_text import BYTE_ORDER_MARK
from healthcare.imports.file_refused import FileRefused

UTF_16 = {codecs.BOM_UTF16_LE: "utf-16le", codecs.BOM_UTF16_BE: "utf-16be"}
LINE_ENDS = ("\r", "\n")


def text_lines(chunks: Iterable[bytes], encoding: str, longest: int) -> Iterator[str]:
    """Each line with its end, which is CRLF, LF or CR; the last one may have none. A byte order mark is taken off.

    Raises FileRefused: 400 for bytes that are no text in this encoding and for a NUL character, each with its line, and
    413 for a line of more than `longest` characters.
    """
    number = 1  # of the line that `rest` begins
    rest = ""
    is_beginning = True
    try:
        for text in decoded(chunks, encoding):
            if is_beginning:
                text, is_beginning = text.removeprefix(BYTE_ORDER_MARK), not text
            lines = io.StringIO(rest + text, newline="").readlines()
            for at, line in enumerate(lines, start=number):
                check_line(line, at, longest)
            rest = lines.pop() if lines else ""  # the next chunk may continue it, even after a CR
            number += len(lines)
            yield from lines
    except UnicodeDecodeError as error:
        at = number + rest.endswith(LINE_ENDS)
        raise FileRefused(400, "encoding", f"Line {at} is not text in {encoding}. {encoding_hint(error)}") from None
    if rest:
        yield rest


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[str]:
    """The text of each chunk. Raises UnicodeDecodeError, after all the text before that place."""
    known = webencodings.lookup(encoding)
    if known is None:
        raise LookupError("not a label of the WHATWG Encoding Standard")
    decoder = known.codec_info.incrementaldecoder("strict")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk)
        yield decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        yield known.codec_info.decode(error.object[: error.start], "replace")[0]
        raise


def check_line(line: str, number: int, longest: int) -> None:
    if "\0" in line:
        hint = "If the file is UTF-16, send `encoding=utf-16le`; if not, remove it."
        raise FileRefused(400, "nul", f"Line {number} contains a NUL character. {hint}")
    if len(line) > longest:
        raise FileRefused(413, "line_too_long", f"Line {number} is longer than {longest:,} characters; shorten it.")


def encoding_hint(error: UnicodeDecodeError) -> str:
    if label := UTF_16.get(error.object[:2]):
        return f"The file seems to be UTF-16; send `encoding={label}`."
    return "Name the encoding of the file, as in `encoding=windows-1252`, or save it as UTF-8."
