"""A live server on a PostgreSQL of its own, and calls of every kind on it."""

import re
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg2

from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import Answer, LiveServer

PATIENTS, LOGIN, REGISTER = "/api/patients/", "/api/auth/login/", "/api/auth/register/"
PASSWORD = "StrongPass123"
SECONDS_TO_FAIL, SECONDS_TO_HEAL = 5 * 4, 10 * 4  # four times what /readyz promises, for a busy machine
FORM = "application/x-www-form-urlencoded"


@dataclass
class Caller:
    """A user with a token pair and a session of the admin. `calls` has one call of each kind, by name."""

    server: LiveServer
    name: str = field(default_factory=lambda: f"user{uuid.uuid4().hex[:12]}")
    tokens: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens:  # of a server with the same data
            return
        _, self.tokens = self.server.register(self.name)
        execute(self.server.database_url, "UPDATE accounts_user SET is_staff = true, is_superuser = true")
        answer = self.log_in_to_admin()
        assert answer.status == 302, answer.body
        cookies = [cookie.split(";")[0] for cookie in answer.headers.get_all("Set-Cookie") or []]
        self.cookies = {"Cookie": "; ".join(cookies)}

    def log_in_to_admin(self) -> Answer:
        page = self.server.call("GET", "/admin/login/")
        cookie = page.headers["Set-Cookie"].split(";")[0]
        token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
        assert token
        form = b"username=%s&password=%s&csrfmiddlewaretoken=%s" % (self.name.encode(), PASSWORD.encode(), token[1])
        return self.server.call("POST", "/admin/login/?next=/admin/", form, **{"Cookie": cookie, "Content-Type": FORM})

    @property
    def writes(self) -> dict[str, Callable[[], Answer]]:
        """Calls that store something: even a read of patients, which the access log records."""
        call, token = self.server.call, self.tokens["access"]
        account = {"name": "X", "username": f"x{uuid.uuid4().hex[:9]}", "password": PASSWORD}
        account["email"] = f"{account['username']}@example.org"
        return {
            "fast read": partial(call, "GET", PATIENTS, None, token),
            "standard read": partial(call, "GET", f"{PATIENTS}?count=true", None, token, **{"X-Change-Reason": "x"}),
            "fast write": partial(call, "POST", PATIENTS, {"name": "X"}, token),
            "standard write": partial(
                call, "POST", PATIENTS, {"name": "X"}, token, **{"Idempotency-Key": uuid.uuid4().hex}
            ),
            "login": partial(call, "POST", LOGIN, {"username": self.name, "password": PASSWORD}),
            "refused login": partial(call, "POST", LOGIN, {"username": self.name, "password": "wrong"}),
            "register": partial(call, "POST", REGISTER, account),
            "refresh": partial(call, "POST", "/api/auth/refresh/", {"refresh": self.tokens["refresh"]}),
            "logout": partial(call, "POST", "/api/auth/logout/", None, token),
            "admin login": self.log_in_to_admin,
            "admin page": partial(call, "GET", "/admin/patients/patient/", **self.cookies),
        }

    @property
    def calls(self) -> dict[str, Callable[[], Answer]]:
        return self.writes | self.reads

    @property
    def reads(self) -> dict[str, Callable[[], Answer]]:
        call = self.server.call
        return {
            "public read": partial(call, "GET", "/api/doctors/?search=x"),  # not cached
            "account": partial(call, "GET", "/api/auth/me/", None, self.tokens["access"]),
            "admin": partial(call, "GET", "/admin/", **self.cookies),
        }

    def use_every_thread(self) -> set[int]:
        """The statuses of concurrent reads, so many that each thread of the server has used its session."""
        read = partial(self.server.call, "GET", "/api/doctors/?limit=1&search=x")
        return {answer.status for _ in range(4) for answer in call_concurrently(*[read] * 4)}


def execute(database_url: str, *statements: str) -> Any:
    """The first value of the last statement's first row, if it returns rows."""
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        session.autocommit = True
        for statement in statements:
            cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def is_unavailable(answer: Answer) -> bool:
    """Whether it is a 503 problem that says when to come back."""
    return (
        answer.status == 503
        and answer.headers["Content-Type"] == "application/problem+json"
        and int(answer.headers["Retry-After"]) > 0
    )


def failed_checks(server: LiveServer) -> list[str]:
    answer = server.call("GET", "/readyz")
    assert answer.status == 200 or is_unavailable(answer), answer.body
    failed: list[Any] = answer.json.get("failed", [])
    return failed


def wait_for_checks(server: LiveServer, *expected: str) -> float:
    """Wait until /readyz names exactly these checks. Return how many seconds it took."""
    began = time.monotonic()
    while (failed := failed_checks(server)) != [*expected]:
        assert time.monotonic() < began + 60, failed
        time.sleep(0.1)
    return time.monotonic() - began
