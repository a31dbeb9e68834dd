"""Logging without the texts of exceptions, which can contain patients' data: only types and stack frames."""

import logging
import traceback
from types import TracebackType


class SafeFormatter(logging.Formatter):
    """Formats a record as `time LEVEL logger message`, and an exception as its types and frames without messages."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler's formatter may have left the full text here
        return super().format(record)

    def formatException(  # noqa: N802  (logging's name)
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
            lines += [
                f"  {frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(lines)


class UnknownHostFilter(logging.Filter):
    """Replaces Django's text for a Host that ALLOWED_HOSTS does not name, which repeats what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = "The Host of a request is none of ALLOWED_HOSTS; add it there if this server should answer to it."
        record.args = record.exc_info = None
        return True
