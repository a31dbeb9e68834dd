"""The access log: one line for each request, also if Django does not see it, without path, body or values."""

import logging
from http import HTTPMethod
from typing import Any

from healthcare.operations.request_ids import REQUEST_ID_KEY, TRACE_ID_KEY

ACCESS_LOGGER = "healthcare.access"
QUEUE_US = "healthcare.queue_us"  # in the WSGI environment: how long the request has waited for a thread
# In the WSGI environment: True if the request has its line, or will have it when its answer ends; False if the WSGI
# handler is going to write it, because other middleware may still change the answer.
LOGGED = "healthcare.logged"
STANDARD_METHODS = frozenset(HTTPMethod.__members__)

logger = logging.getLogger(ACCESS_LOGGER)


def write_access_line(
    environ: dict[str, Any],
    status: int,
    *,
    route: str,
    duration_us: int,
    size: int | None,
    caller: str | None = None,
    sqlstate: str | None = None,
    served_by: str | None = None,
) -> None:
    """Write the line of a request, whose ids `assign_ids` has set.

    `route` is the template as in the metrics, `size` the bytes of the answer's body, `caller` a keyed hash, and
    `served_by` is `fast` or `standard`, and None for an answer that is given outside Django.
    """
    environ[LOGGED] = True
    if not logger.isEnabledFor(logging.INFO):
        return
    method = environ.get("REQUEST_METHOD")
    method = method if method in STANDARD_METHODS else None  # a client may send anything
    # `logger.info` would search the stack for its caller, which is always this function.
    record = logger.makeRecord(
        ACCESS_LOGGER, logging.INFO, __file__, 0,
        "%s %s %d path=%s", (method, route, status, served_by), None, "write_access_line",
    )  # fmt: skip
    record.fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_us": duration_us,
        "queue_us": environ.get(QUEUE_US),
        "bytes": size,
        "worker": record.process,
        "caller": caller,
        "request_id": environ.get(REQUEST_ID_KEY),
        "trace_id": environ.get(TRACE_ID_KEY),
        "sqlstate": sqlstate,
        "path": served_by,
    }
    logger.handle(record)
