"""Verify the token, ask PostgreSQL once, write the bytes: session, row-level security, history and access log as ours.

One message to PostgreSQL is one transaction of three statements: the entry statement, SET LOCAL ROLE and the answer
statement (see `benchmarks.references.statements`). With FLOOR_PREPARES=1, which makes it the reference `floor+plan`,
entry and answer are prepared once a session, so PostgreSQL parses and plans them once; otherwise for every request.
"""

import base64
import json
import os
import re
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import jwt
import psycopg2

from benchmarks.references.floor.login import log_in
from benchmarks.references.statements import CALLS, LIMIT, PLANNED_ONCE, ROLE, numbered

KEY = os.environ["JWT_SIGNING_KEY"]
PREPARES = os.environ.get("FLOOR_PREPARES") == "1"
TOKEN_RULES: Any = {"algorithms": ["HS256"], "audience": "healthcare-api", "issuer": "healthcare"}
PATIENT_PATH = re.compile(r"/api/patients/([0-9]{1,18})/(doctors/)?", re.ASCII)
local = threading.local()

Answer = tuple[str, bytes]
UNAUTHORIZED: Answer = "401 Unauthorized", b"{}"
NOT_FOUND: Answer = "404 Not Found", b"{}"


def connect() -> Any:
    settings = {"timezone": "UTC"} | (PLANNED_ONCE if PREPARES else {})
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    connection = psycopg2.connect(os.environ["DATABASE_URL"], options=options)
    connection.autocommit = True
    return connection


def fetch_row(statement: str, values: dict[str, Any]) -> Any:
    """The last row of the last statement, over the connection of this thread."""
    if not hasattr(local, "connection"):
        local.connection, local.prepared = connect(), set()
    with local.connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def run_call(name: str, values: dict[str, Any], limit: int = 0) -> Any:
    """The caller's id and the JSON that a call returns."""
    statements = (CALLS[name].entry, CALLS[name].answer.replace(LIMIT, str(limit)))
    if not PREPARES:
        return fetch_row(message(*statements), values)
    forms = [prepared_form(statement) for statement in statements]
    known = getattr(local, "prepared", set())
    unknown = [preparation for preparation, execution in forms if execution not in known]
    row = fetch_row("".join(unknown) + message(*(execution for _, execution in forms)), values)
    local.prepared.update(execution for _, execution in forms)
    return row


def message(entry: str, answer: str) -> str:
    return f"{entry};\nSET LOCAL ROLE {ROLE};\n{answer}"


@lru_cache(maxsize=64)
def prepared_form(statement: str) -> tuple[str, str]:
    """The PREPARE of a statement and its EXECUTE."""
    text, names = numbered(statement)
    name = f"s{abs(hash(statement)):x}"
    places = f"({', '.join(f'%({one})s' for one in names)})" if names else ""
    return f"PREPARE {name} AS {text.replace('%', '%%')};\n", f"EXECUTE {name}{places}"


def claims(environ: dict[str, Any]) -> dict[str, Any]:
    """The session and the user that a genuine token names; empty without one."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        named = jwt.decode(token, KEY, **TOKEN_RULES)
    except jwt.InvalidTokenError:
        return {}
    return {"session": named["sid"], "user": int(named["user_id"])} if named["token_type"] == "access" else {}


def answer(environ: dict[str, Any]) -> Answer:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path == "/api/doctors/":
        return "200 OK", run_call("list_doctors", {}, limit(environ))[1].encode()
    if path == "/api/auth/login/":
        tokens = log_in(environ, KEY, fetch_row)
        return ("200 OK", tokens) if tokens else UNAUTHORIZED
    values = claims(environ)
    if not values:
        return UNAUTHORIZED
    values["request"] = uuid4().hex
    found = PATIENT_PATH.fullmatch(path)
    if found:
        values["id"] = int(found[1])
        name = "list_doctors_of_patient" if found[2] else "get_patient"
    elif method == "GET":
        values["before"] = before(environ)
        name = "list_patients"
    if method in {"POST", "PATCH"}:
        values["body"] = json.dumps(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        name = "create_patient" if method == "POST" else "change_patient"
    caller, body = run_call(name, values, limit(environ))
    if not caller:
        return UNAUTHORIZED
    return ("201 Created" if method == "POST" else "200 OK", body.encode()) if body else NOT_FOUND


def limit(environ: dict[str, Any]) -> int:
    return int(parse_qs(environ["QUERY_STRING"]).get("limit", ["100"])[0])


def before(environ: dict[str, Any]) -> int:
    """The id that the page comes before."""
    cursor = parse_qs(environ["QUERY_STRING"]).get("cursor")
    return int(json.loads(base64.urlsafe_b64decode(cursor[0] + "=="))[1]) if cursor else 2**63 - 1


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, body = answer(environ)
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
