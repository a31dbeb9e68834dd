"""The ids under which a request is found again: in the log, in the history and in a trace.

The reverse proxies in front send them: `X-Request-Id` and `traceparent` (W3C Trace Context). With TRUSTED_PROXIES=0
there are no proxies, so a client has sent them, and they are ignored.
"""

import re
import secrets
import sys
from typing import Any

from django.conf import settings

# Keys of the WSGI environment, which is `request.META`. No header can set them: those have the prefix HTTP_.
REQUEST_ID_KEY, TRACE_ID_KEY = "healthcare.request_id", "healthcare.trace_id"
LONGEST_REQUEST_ID = 64
REQUEST_ID_PATTERN = rf"^[A-Za-z0-9._-]{{1,{LONGEST_REQUEST_ID}}}$"  # also of JSON Schema
TRACE_HEADERS = ("HTTP_TRACEPARENT", "HTTP_TRACESTATE", "HTTP_BAGGAGE")
is_request_id = re.compile(REQUEST_ID_PATTERN).fullmatch
# Version 00 ends after the flags; a later one may continue after a dash. Version ff and ids of zeros are invalid.
parse_traceparent = re.compile(
    r"(?:00|(?P<later>(?!00|ff)[0-9a-f]{2}))-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?(later)(?:-.*)?)"
).fullmatch


def assign_ids(environ: dict[str, Any]) -> str:
    """Set both ids in the WSGI environment, and return that of the request. The trace's is None without a trace.

    A header that is malformed, or was sent several times, counts as missing. Trace headers that do not count are
    removed, so that tracing libraries do not read them either.
    """
    request_id = trace_id = None
    if settings.TRUSTED_PROXIES:
        sent = environ.get("HTTP_X_REQUEST_ID")
        if sent and is_request_id(sent):
            request_id = sent
        trace_id = find_trace_id(environ.get("HTTP_TRACEPARENT", ""))
    if trace_id is None:
        for header in TRACE_HEADERS:
            environ.pop(header, None)
    if request_id is None:
        request_id = secrets.token_hex(16)
    environ[REQUEST_ID_KEY], environ[TRACE_ID_KEY] = request_id, trace_id
    return request_id


def take_trace_from_opentelemetry(environ: dict[str, Any]) -> None:
    """Set the id of the trace that OpenTelemetry records for this request, if it is in use."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            environ[TRACE_ID_KEY] = f"{context.trace_id:032x}"


def find_trace_id(traceparent: str) -> str | None:
    """The trace id in a traceparent header; None if it is malformed."""
    found = parse_traceparent(traceparent)
    return found["trace_id"] if found else None
