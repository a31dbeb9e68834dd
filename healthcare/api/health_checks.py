"""The answers of /healthz and /readyz, for the server, for METRICS and for Django."""

import secrets
from dataclasses import dataclass

from healthcare.api.problems import CONTENT_TYPE, ID_PLACEHOLDER, SAFE_HEADERS, problem_template
from healthcare.operations import health
from healthcare.operations.readiness import REMEDIES

LIVE, READY = "/healthz", "/readyz"
HEALTH_CHECKS = frozenset({LIVE, READY})
READY_RETRY_AFTER = 5  # seconds


@dataclass(frozen=True)
class HealthAnswer:
    """An answer to a health check, with the headers that every answer has."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_health_check(path: str, request_id: str = "") -> HealthAnswer | None:
    """The answer to a GET or HEAD of a health check; None for every other path. It never waits."""
    if path not in HEALTH_CHECKS:
        return None
    return report_health(health.monitor.failed() if path == READY else (), request_id)


def report_health(failed: tuple[str, ...], request_id: str = "") -> HealthAnswer:
    """200, or for failed checks a 503 problem (RFC 9457) that names them."""
    request_id = request_id or secrets.token_hex(16)
    headers = {"Content-Type": "application/json", **SAFE_HEADERS, "X-Request-Id": request_id}
    body = b'{"status":"ok"}'
    if failed:
        detail = " ".join(REMEDIES.get(name, "The server is about to stop.") for name in failed)
        body = problem_template(503, detail, failed).replace(ID_PLACEHOLDER, request_id).encode()
        headers |= {"Content-Type": CONTENT_TYPE, "Retry-After": str(READY_RETRY_AFTER)}
    return HealthAnswer(503 if failed else 200, {**headers, "Content-Length": str(len(body))}, body)
