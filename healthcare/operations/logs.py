"""The format of the log, as text or as JSON: one line a record, without the texts of exceptions.

The text of an exception can contain patients' data, so only its types and stack frames are written. A record may have
fields, given by `extra={"fields": {...}}`: members of the JSON object, or `name=value` after the message of a text.
"""

import json
import logging
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from healthcare.operations.access_log import ACCESS_LOGGER

# A line of up to 4096 bytes reaches a pipe in one piece, also from several processes (PIPE_BUF of Linux).
LONGEST_MESSAGE = 1000  # characters
LONGEST_TRACEBACK = 2500  # characters of frames
MOST_EXCEPTIONS = 8  # in a chain
# Control characters, and the line separators at which some log viewers break lines, are written as in Python.
ESCAPES = {code: ascii(chr(code))[1:-1] for code in [*range(32), *range(127, 160), 0x2028, 0x2029]}
CODE_FOLDERS = (
    *(f"{sysconfig.get_path(name)}/" for name in ("purelib", "stdlib")),
    f"{Path(__file__).resolve().parents[2]}/",
)

encode_members = json.JSONEncoder(separators=(",", ":"), default=str).encode


class SafeFormatter(logging.Formatter):
    """Text: `time LEVEL logger message name=value …`, and the lines of an exception after it."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [format_time(record.created), record.levelname, record.name]
        if record.name != ACCESS_LOGGER:
            parts.append(message_of(record).translate(ESCAPES))
        fields: dict[str, Any] = getattr(record, "fields", {})
        parts += [f"{name}={'-' if value is None else value}" for name, value in fields.items()]
        lines = [" ".join(parts)]
        for one in describe_exceptions(record):
            lines += [one["type"], *(f"  {frame}" for frame in one["frames"])]
        return "\n".join(lines)


class JSONFormatter(logging.Formatter):
    """One JSON object in ASCII: `time`, `level`, `logger`, `message`, the fields, and `exception`, if there is one.

    A line of the access log has fields alone.
    """

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] = {
            "time": format_time(record.created), "level": record.levelname, "logger": record.name,
        }  # fmt: skip
        if record.name != ACCESS_LOGGER:
            members["message"] = message_of(record)
        members.update(getattr(record, "fields", ()))
        if exceptions := describe_exceptions(record):
            members["exception"] = exceptions
        return encode_members(members)


class SafeHandler(logging.StreamHandler):
    """Writes to stderr. For a record that cannot be formatted, it names the logger and does not repeat the arguments,
    as logging's own handler does."""

    def __init__(self) -> None:
        super().__init__(getattr(sys.stderr, "without_json", sys.stderr))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        message = "A record of this logger cannot be formatted."
        substitute = logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, message, None, None)
        try:
            self.stream.write(self.format(substitute) + self.terminator)
            self.flush()
        except (OSError, ValueError):
            pass  # stderr is closed


class UnknownHostFilter(logging.Filter):
    """Replaces Django's text for a Host that ALLOWED_HOSTS does not name, which repeats what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = "The Host of a request is none of ALLOWED_HOSTS; add it there if this server should answer to it."
        record.args = record.exc_info = None
        return True


class ExceptionTextFilter(logging.Filter):
    """Replaces the texts of asyncio, which repeat exceptions and arguments. The exception stays in the record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = "asyncio reports an exception or a late callback", None
        return True


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, with microseconds."""
    whole, microseconds = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{format_second(whole)}.{microseconds:06d}Z"


last_second = (0, "1970-01-01T00:00:00")


def format_second(seconds: int) -> str:
    global last_second
    known, text = last_second
    if known != seconds:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        last_second = seconds, text
    return text


def message_of(record: logging.LogRecord) -> str:
    message = record.getMessage().encode(errors="backslashreplace").decode()  # a lone surrogate is no JSON
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"


def describe_exceptions(record: logging.LogRecord) -> list[dict[str, Any]]:
    """The exception of a record and its causes, each with its `type` and its `frames`, the innermost last.

    If there are too many frames, the outer ones are left out.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return []
    described: list[dict[str, Any]] = [
        {"type": f"{type(one).__module__}.{type(one).__qualname__}", "frames": [*frames_of(one)]}
        for one in chain_of(error)
    ]
    excess = sum(len(frame) for one in described for frame in one["frames"]) - LONGEST_TRACEBACK
    while excess > 0:
        longest = max(described, key=lambda one: len(one["frames"]))["frames"]
        excess -= len(longest.pop(0))
    return described


def chain_of(error: BaseException) -> list[BaseException]:
    """The exception, then what it was raised from, and so on. Those of a group follow the group."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(chain) < MOST_EXCEPTIONS:
        one = waiting.pop(0)
        if one is None or one in chain:
            continue
        chain.append(one)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting.append(one.__cause__ or (None if one.__suppress_context__ else one.__context__))
    return chain


def frames_of(error: BaseException) -> Iterator[str]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        for folder in CODE_FOLDERS:
            file = file.removeprefix(folder)
        yield f"{file}:{line} in {frame.f_code.co_name}"
