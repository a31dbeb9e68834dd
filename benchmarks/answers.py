"""What is measured must be the same work: every server has to give the same answer before it is timed."""

import datetime
import http.client
import json
import re
from typing import Any
from urllib.parse import unquote

from benchmarks.data import Caller
from benchmarks.operations import SEARCHES, Request, requests
from benchmarks.targets import Running

NUMBER = 17  # of the sample that is compared
LONGEST = 1000  # characters of an answer in an error
TIME = re.compile(r"\d{4}-\d\d-\d\dT.*")
# What a write makes anew each time.
MADE = {"id", "version", "created_at", "updated_at", "access", "refresh"}


class UnequalError(Exception):
    """A server does not do the same work as the others, or none."""


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


def is_offered(operation: str, server: Running, caller: Caller) -> bool:
    """Whether a server can do it: one that cannot search answers 400 to `?search=`, or everybody to any name."""
    if operation not in SEARCHES:
        return True
    stranger = requests(caller, server.target.paging)["search miss"].filled(caller, 0)
    return send(server, stranger, caller) == (200, b"[]")


def check(operation: str, servers: list[Running], caller: Caller) -> None:
    """Raises UnequalError when a server answers otherwise than the first one, or any of them not as it should."""
    first = None
    for server in servers:
        request = requests(caller, server.target.paging)[operation]
        rows = answer(operation, server, request.filled(caller, NUMBER), caller)
        first = rows if first is None else first
        if operation in SEARCHES:
            sought = unquote(caller.samples[request.sample][NUMBER])
            if (operation == "search hit") != (sought in [row["name"] for row in rows]):
                raise UnequalError(f"{server.name} finds {shown(rows)} in a {operation} for {sought}.")
        elif not rows or rows != first:
            raise UnequalError(
                f"{server.name} answers {operation} with {shown(rows)}, {servers[0].name} with {shown(first)}."
            )


def shown(rows: Any) -> str:
    text = repr(rows)
    return text if len(text) < LONGEST else f"{text[:LONGEST]}…"


def answer(operation: str, server: Running, request: Request, caller: Caller) -> Any:
    status, body = send(server, request, caller)
    if status not in {200, 201}:
        raise UnequalError(f"{server.name} answers {status} to {operation}: {shown(body)}")
    return comparable(json.loads(body), made=request.method != "GET")


def comparable(value: Any, made: bool) -> Any:
    """Rows without their envelope, times as times, and of a write only what it was told to write."""
    if isinstance(value, dict):
        rows = value.get("results", value.get("items"))
        if rows is not None:
            return comparable(rows, made)
        return {name: None if made and name in MADE else comparable(inner, made) for name, inner in value.items()}
    if isinstance(value, list):
        return [comparable(row, made) for row in value]
    if isinstance(value, str) and TIME.fullmatch(value):
        time = datetime.datetime.fromisoformat(value)
        return time.replace(microsecond=time.microsecond // 1000 * 1000)  # ninja writes milliseconds
    return value
