"""What is measured must be the same work: every server has to give the same answer before it is timed."""

import datetime
import http.client
import json
import re
from typing import Any

from benchmarks.data import Caller
from benchmarks.operations import Request
from benchmarks.targets import Running

TIME = re.compile(r"\d{4}-\d\d-\d\dT.*")
# What a write makes anew each time.
OWN_TO_EACH = {"id", "version", "created_at", "updated_at", "access", "refresh"}


def send(server: Running, request: Request, caller: Caller) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {caller.token}"} if request.token else {}
    if request.body:
        headers["Content-Type"] = "application/json"
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        client.request(request.method, request.path, body=request.body or None, headers=headers)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def check(operation: str, servers: list[Running], requests: dict[str, Request], caller: Caller) -> None:
    """Raises RuntimeError when a server answers otherwise than the first one, or the first one not as it should."""
    expected: Any = None
    for server in servers:
        request = requests[server.name].filled(caller, 17)
        status, body = send(server, request, caller)
        if status not in {200, 201}:
            raise RuntimeError(f"{server.name} answers {status} to {operation}: {body[:500]!r}")
        answer = comparable(json.loads(body), request.method == "GET")
        if expected is None:
            expected = answer
        if answer != expected or not answer:
            raise RuntimeError(f"{server.name} answers {operation} with {answer}, {servers[0].name} with {expected}.")


def comparable(answer: Any, reads: bool) -> Any:
    """Rows without their envelope, times as times, and of a write only what it was told to write."""
    if isinstance(answer, dict):
        rows = answer.get("results", answer.get("items"))
        if rows is not None:
            return comparable(rows, reads)
        return {
            name: None if name in OWN_TO_EACH and not reads else comparable(value, reads)
            for name, value in answer.items()
        }
    if isinstance(answer, list):
        return [comparable(row, reads) for row in answer]
    if isinstance(answer, str) and TIME.fullmatch(answer):
        return datetime.datetime.fromisoformat(answer)
    return answer
