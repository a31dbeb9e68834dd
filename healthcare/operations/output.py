"""What a server writes beside its log: printed lines, warnings and uncaught exceptions, in the format of the log."""

import io
import logging
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from dotenv import load_dotenv

from healthcare.operations.logs import JSONFormatter, SafeFormatter, SafeHandler


class JSONLines(io.TextIOBase):
    """A text stream that writes each line as a record of the log."""

    def __init__(self, stream: TextIO, name: str, level: int) -> None:
        super().__init__()
        self.without_json, self.name, self.level = stream, name, level
        self.formatter, self.unfinished, self.lock = JSONFormatter(), "", threading.RLock()

    def write(self, text: str) -> int:
        with self.lock:
            *lines, self.unfinished = (self.unfinished + text).split("\n")
            records = [
                logging.LogRecord(self.name, self.level, "", 0, line.rstrip(), None, None)
                for line in lines
                if line.strip()
            ]
            self.without_json.write("".join(f"{self.formatter.format(record)}\n" for record in records))
        return len(text)

    def flush(self) -> None:
        self.without_json.flush()

    def fileno(self) -> int:
        return self.without_json.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


def format_output(project: Path | None = None) -> None:
    """Bring all output of this process into the format of the log: what it prints, if LOG_FORMAT is `json`, and its
    warnings and uncaught exceptions in either format, without their texts.

    `project` has the .env of a process that has not read the settings yet.
    """
    if project:
        load_dotenv(project / ".env")
    handler = SafeHandler()
    handler.setFormatter(SafeFormatter())
    if os.environ.get("LOG_FORMAT", "").strip().lower() == "json":
        handler.setFormatter(JSONFormatter())
        if not isinstance(sys.stderr, JSONLines):
            sys.stdout = JSONLines(sys.stdout, "healthcare.stdout", logging.INFO)
            sys.stderr = JSONLines(sys.stderr, "healthcare.stderr", logging.WARNING)
    log_exceptions(handler)


def log_exceptions(handler: logging.Handler) -> None:
    """Send warnings and uncaught exceptions to the handler. The logging of Django may not be set up yet."""

    def log(level: int, message: str, error: BaseException | None = None) -> None:
        exc_info = (type(error), error, error.__traceback__) if error else None
        handler.handle(logging.LogRecord("healthcare.errors", level, "", 0, message, None, exc_info))

    def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log(logging.CRITICAL, "uncaught exception", error)

    def log_uncaught_in_thread(arguments: Any) -> None:
        if arguments.exc_type is not SystemExit:
            log(logging.CRITICAL, "uncaught exception in a thread", arguments.exc_value)

    def log_unraisable(unraisable: Any) -> None:
        log(logging.ERROR, "exception that could not be raised", unraisable.exc_value)

    def log_warning(_: Warning | str, category: type[Warning], file: str, line: int, *__: Any) -> None:
        log(logging.WARNING, f"{category.__name__} at {file}:{line}")

    def log_instead_of_printing(*_: Any, **__: Any) -> None:
        log(logging.CRITICAL, "uncaught exception", sys.exception())

    sys.excepthook, threading.excepthook = log_uncaught, log_uncaught_in_thread
    traceback.print_exc = log_instead_of_printing  # multiprocessing calls it, and socketserver
    sys.unraisablehook, warnings.showwarning = log_unraisable, log_warning  # type: ignore[assignment]
