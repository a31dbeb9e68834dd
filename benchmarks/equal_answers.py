"""Equal work: every server gives the same answer to the same request before it is timed."""

import datetime
import http.client
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from benchmarks.data import Caller
from benchmarks.operations import EVERYDAY_CALLS, BenchmarkRequest, plain_requests
from benchmarks.servers import SEARCHES, RunningServer

SAMPLE_NUMBER = 17  # of the member of the sample whose answers are compared
LONGEST_QUOTE = 1000  # characters of an answer in an error
TAGGED = 100  # records whose entity tags are fetched
TIME = re.compile(r"\d{4}-\d\d-\d\dT.*")
# Fields of a write's answer that differ between any two writes.
GENERATED_FIELDS = {"id", "version", "created_at", "updated_at", "access", "refresh"}


class UnequalError(Exception):
    """A server does not do the same work as the others, or none."""


def send_request(server: RunningServer, request: BenchmarkRequest, caller: Caller) -> tuple[int, bytes, dict[str, str]]:
    """The status, the body and the headers, by their names in lower case, of the answer."""
    headers = {"Authorization": f"Bearer {caller.token}"} if request.token else {}
    if request.body:
        headers["Content-Type"] = "application/json"
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        client.request(request.method, request.path, request.body or None, headers | dict(request.headers))
        response = client.getresponse()
        return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
    finally:
        client.close()


def fetch_json(operation: str, server: RunningServer, request: BenchmarkRequest, caller: Caller) -> Any:
    """The JSON of an answer with the expected status, None without a body; raises UnequalError for another status."""
    status, body, _ = send_request(server, request, caller)
    if status != request.status:
        raise UnequalError(f"{server.name} answers {operation} with status {status}: {quoted(body)}")
    return json.loads(body) if body else None


def with_entity_tags(server: RunningServer, caller: Caller) -> Caller:
    """The caller with the sample "tagged": records as `id=tag`, each with its current entity tag."""
    get_one = plain_requests(caller, server.server.paging)["get one"]
    tagged = []
    for number in range(TAGGED):
        _, _, headers = send_request(server, get_one.filled(caller, number), caller)
        tagged.append(f"{caller.samples['patients'][number]}={headers['etag']}")
    return replace(caller, samples={**caller.samples, "tagged": tagged})


def supports(operation: str, server: RunningServer, caller: Caller) -> bool:
    """Whether a server can search: one that cannot answers 400 to `?search=`, or returns everybody for any name."""
    if operation not in SEARCHES:
        return True
    request = plain_requests(caller, server.server.paging)["search miss"].filled(caller, 0)
    status, body, _ = send_request(server, request, caller)
    return (status, body) == (200, b"[]")


def check_equal_answers(operation: str, servers: Iterable[RunningServer], caller: Caller) -> None:
    """Raises UnequalError when a server gives another answer than the first one, or finds the wrong patients."""
    first = None
    for server in servers:
        request = plain_requests(caller, server.server.paging)[operation]
        answer = fetch_json(operation, server, request.filled(caller, SAMPLE_NUMBER), caller)
        rows = comparable(answer, is_write=request.method != "GET")
        first = first or (server.name, rows)
        if operation in SEARCHES:
            sought = unquote(caller.samples[request.sample][SAMPLE_NUMBER])
            if (operation == "search hit") != (sought in [row["name"] for row in rows]):
                raise UnequalError(f"{server.name} finds {quoted(rows)} in a {operation} for {sought}.")
        elif not rows or rows != first[1]:
            raise UnequalError(
                f"{server.name} answers {operation} with {quoted(rows)}, {first[0]} with {quoted(first[1])}."
            )


def check_everyday_answer(operation: str, server: RunningServer, caller: Caller) -> None:
    """Raises UnequalError when the answer is not the one that the operation asks for."""
    call = EVERYDAY_CALLS[operation]
    answer = fetch_json(operation, server, call.request.filled(caller, SAMPLE_NUMBER), caller)
    if not call.is_expected(answer):
        raise UnequalError(f"{server.name} answers {operation} with {quoted(answer)}.")


def quoted(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) < LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def comparable(value: Any, is_write: bool) -> Any:
    """Rows without their envelope, times as times, and a write without the fields that the server generates."""
    if isinstance(value, dict):
        rows = value.get("results", value.get("items"))
        if rows is not None:
            return comparable(rows, is_write)
        return {
            name: None if is_write and name in GENERATED_FIELDS else comparable(inner, is_write)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [comparable(row, is_write) for row in value]
    if isinstance(value, str) and TIME.fullmatch(value):
        time = datetime.datetime.fromisoformat(value)
        return time.replace(microsecond=time.microsecond // 1000 * 1000)  # ninja writes milliseconds
    return value
