"""Verify the token, ask PostgreSQL once, write the bytes. Session, row security, history and access log as with ours.

One round trip is one transaction: PostgreSQL makes one of all the statements of a message. The first enters as the
caller if session and user are alive, the second does what was asked for under the restricted role and returns JSON.
"""

import base64
import json
import os
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import jwt
import psycopg2

from benchmarks.references.floor import statements
from benchmarks.references.floor.login import log_in

KEY = os.environ["JWT_SIGNING_KEY"]
OPTIONS: Any = {"algorithms": ["HS256"], "audience": "healthcare-api", "issuer": "healthcare"}
PATIENT = re.compile(r"/api/patients/([0-9]{1,18})/(doctors/)?", re.ASCII)
local = threading.local()

Answer = tuple[str, bytes]
UNAUTHORIZED: Answer = "401 Unauthorized", b"{}"
NOT_FOUND: Answer = "404 Not Found", b"{}"


def ask(statement: str, values: dict[str, Any]) -> Any:
    """The last row of the last statement."""
    if not hasattr(local, "connection"):
        local.connection = psycopg2.connect(os.environ["DATABASE_URL"], options="-c timezone=UTC")
        local.connection.autocommit = True
    with local.connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def claims(environ: dict[str, Any]) -> dict[str, Any]:
    """The session and the user that a genuine token names; empty without one."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        named = jwt.decode(token, KEY, **OPTIONS)
    except jwt.InvalidTokenError:
        return {}
    return {"session": named["sid"], "user": int(named["user_id"])} if named["token_type"] == "access" else {}


def answer(environ: dict[str, Any]) -> Answer:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path == "/api/doctors/":
        return "200 OK", ask(statements.DOCTORS, {"limit": limit(environ)})[0].encode()
    if path == "/api/auth/login/":
        tokens = log_in(environ, KEY, ask)
        return ("200 OK", tokens) if tokens else UNAUTHORIZED
    values = claims(environ)
    if not values:
        return UNAUTHORIZED
    values["request"] = uuid4().hex
    found = PATIENT.fullmatch(path)
    if found:
        values["id"] = int(found[1])
        statement = statements.TREATING if found[2] else statements.ONE
    elif method == "GET":
        values |= {"limit": limit(environ), "before": before(environ)}
        statement = statements.PAGE
    if method in {"POST", "PATCH"}:
        values["body"] = json.dumps(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        statement = statements.CREATE if method == "POST" else statements.CHANGE
    caller, body = ask(statement, values)
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
