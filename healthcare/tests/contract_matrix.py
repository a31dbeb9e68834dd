"""The contract as a table: every route, method, caller and object, with the status of each cell.

`find_deviations(cast)` sends every call of the table and returns what differs, as sentences. It is a function, so that
a test can run the table again under a patch: with the scopes of the code removed, say.
"""

import base64
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import jwt
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair
from conftest import PASSWORD
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SAFE = {"GET", "HEAD", "OPTIONS"}
# Whose records a caller's own are; the callers without a living login borrow alice's, and must not reach them.
ACTIVE_CALLERS = {"owner": "alice", "other": "bob", "staff": "staff"}
REJECTED_CALLERS = ["inactive", "expired", "tampered", "revoked", "refresh token"]
CALLERS = ["anonymous", *ACTIVE_CALLERS, *REJECTED_CALLERS]
OBJECTS = ["own", "another's", "missing", "deleted"]
MISSING_ID = 2**40

Body = Callable[["Cast", str], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A route and what each method answers to a caller it is meant for; a method that is not named answers 405.

    `access`: PRIVATE answers only to a living login, and a record only to its owner; SHARED is read by anyone and
    written by any living login; COMMON asks for a living login, whoever's; OPEN asks nobody who they are; a PAGE
    neither, and it may be cached. `records` names the kind of record that the id in the path means, by method where
    that differs. HEAD follows GET; OPTIONS answers 200 unless it is named. `finds_deleted` names the methods that reach
    a deleted record too: to bring it back, say.
    """

    route: str
    access: str
    methods: dict[str, int]
    body: Body = lambda cast, owner: {}
    records: str | dict[str, str] = ""
    finds_deleted: Set[str] = frozenset()

    def kind(self, method: str) -> str:
        return self.records if isinstance(self.records, str) else self.records.get(method, self.records["GET"])

    def expected(self, method: str, caller: str, target: str) -> int:
        reads = self.access == "SHARED" and method in SAFE
        if self.access in {"PRIVATE", "SHARED", "COMMON"} and (
            caller in REJECTED_CALLERS or (caller == "anonymous" and not reads)
        ):
            return 401
        default = {"HEAD": self.methods.get("GET", 405), "OPTIONS": 200}.get(method, 405)
        status = self.methods.get(method, default)
        if target == "deleted" and ("GET" if method == "HEAD" else method) in self.finds_deleted:
            return status
        visible = target in ({"", "own", "another's"} if self.access in {"SHARED", "COMMON"} else {"", "own"})
        return status if visible or status == 405 or method == "OPTIONS" else 404


def registration(cast: "Cast", owner: str) -> dict[str, Any]:
    name = uuid.uuid4().hex
    return {"name": "New", "email": f"{name}@example.org", "username": name, "password": PASSWORD}


def duplicate(cast: "Cast", owner: str) -> dict[str, Any]:
    return {"duplicate": cast.ids["duplicate", owner]}


def merged(cast: "Cast", owner: str) -> dict[str, Any]:
    return {"duplicate": cast.ids["merged", owner]}


def new_assignment(cast: "Cast", owner: str) -> dict[str, Any]:
    return {"patient": cast.ids["patient", owner], "doctor": cast.ids["doctor", owner]}


PAGE = {"GET": 200, "OPTIONS": 405}
ONE_RECORD = {"GET": 200, "PUT": 200, "PATCH": 200, "DELETE": 204}
ROWS = [
    Row("api/auth/register/", "OPEN", {"POST": 201}, registration),
    Row("api/auth/login/", "OPEN", {"POST": 200}, lambda cast, owner: {"username": owner, "password": PASSWORD}),
    Row("api/auth/refresh/", "OPEN", {"POST": 200}, lambda cast, owner: {"refresh": cast.tokens[owner]["refresh"]}),
    Row("api/auth/logout/", "PRIVATE", {"POST": 204}),
    Row("api/auth/me/", "PRIVATE", {"GET": 200, "PATCH": 200}, lambda cast, owner: {"name": "Renamed"}),
    Row(
        "api/auth/password/",
        "PRIVATE",
        {"POST": 204},
        lambda cast, owner: {"current_password": PASSWORD, "new_password": "Another-Pass-9"},
    ),
    Row("api/auth/sessions/", "PRIVATE", {"GET": 200}),
    Row("api/auth/sessions/<int:pk>/", "PRIVATE", {"DELETE": 204}, records="session"),
    Row("api/patients/", "PRIVATE", {"GET": 200, "POST": 201}, lambda cast, owner: {"name": "New", "age": 34}),
    Row("api/patients/<int:pk>/", "PRIVATE", ONE_RECORD, lambda cast, owner: {"name": "Changed"}, "patient"),
    Row("api/patients/<int:pk>/restore/", "PRIVATE", {"POST": 200}, records="patient", finds_deleted={"POST"}),
    Row("api/patients/<int:pk>/merge/", "PRIVATE", {"POST": 200}, duplicate, "patient"),
    Row("api/patients/<int:pk>/unmerge/", "PRIVATE", {"POST": 200}, merged, "patient"),
    Row("api/patients/<int:pk>/doctors/", "PRIVATE", {"GET": 200}, records="patient"),
    Row("api/patients/<int:pk>/duplicates/", "PRIVATE", {"GET": 200}, records="patient"),
    Row("api/patients/<int:pk>/history/", "PRIVATE", {"GET": 200}, records="patient"),
    Row("api/patients/<int:pk>/access-log/", "PRIVATE", {"GET": 200}, records="patient"),
    Row("api/doctors/<int:pk>/history/", "COMMON", {"GET": 200}, records="doctor"),
    Row("api/mappings/<int:pk>/history/", "PRIVATE", {"GET": 200}, records="mapping", finds_deleted={"GET"}),
    Row("api/doctors/<int:pk>/patients/", "COMMON", {"GET": 200}, records="doctor"),
    Row("api/doctors/", "SHARED", {"GET": 200, "POST": 201}, lambda cast, owner: {"name": "New"}),
    Row("api/doctors/<int:pk>/", "SHARED", ONE_RECORD, lambda cast, owner: {"name": "Changed"}, "doctor"),
    Row("api/doctors/<int:pk>/restore/", "SHARED", {"POST": 200}, records="doctor", finds_deleted={"POST"}),
    Row("api/mappings/", "PRIVATE", {"GET": 200, "POST": 201}, new_assignment),
    Row(
        "api/mappings/<int:pk>/",
        "PRIVATE",
        {"GET": 200, "PATCH": 200, "DELETE": 204},
        lambda cast, owner: {"role": "Changed"},
        {"GET": "patient", "PATCH": "mapping", "DELETE": "mapping"},
        finds_deleted={"PATCH"},
    ),
    Row("", "PAGE", PAGE),
    Row("api/", "PAGE", PAGE),
    Row("healthz", "PAGE", PAGE),
    Row("readyz", "PAGE", PAGE),
    Row("api/docs/", "PAGE", PAGE),
    Row("api/schema/", "PAGE", {"GET": 200}),
]


def api_routes(urlconf: str | None = None) -> dict[str, URLPattern]:
    """Every route outside the admin, by its template."""

    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, URLPattern]]:
        for pattern in patterns:
            template = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, template)
            elif not template.startswith("admin/"):
                yield template, pattern

    return dict(walk(get_resolver(urlconf).url_patterns, ""))


def find_missing_rows(rows: list[Row] = ROWS, urlconf: str | None = None) -> list[str]:
    """Routes without a row, rows without a route, and rows that stand twice."""
    known, tested = set(api_routes(urlconf)), [row.route for row in rows]
    return [
        *(f"{route} has no row in the matrix" for route in sorted(known - set(tested))),
        *(f"{route} has a row and no route" for route in sorted(set(tested) - known)),
        *(f"{route} has two rows" for route in sorted({route for route in tested if tested.count(route) > 1})),
    ]


@dataclass
class Cast:
    """Alice, bob and a member of staff, each with one record of every kind that is there and one that is gone."""

    users: dict[str, User]
    ids: dict[tuple[str, str], int] = field(default_factory=dict)
    deleted_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)
    clients: dict[str, APIClient] = field(default_factory=dict)

    @classmethod
    def build(cls, make_user: Callable[..., User]) -> "Cast":
        cast = cls({name: make_user(name) for name in ("alice", "bob")})
        cast.users["staff"] = make_user("staff", is_staff=True, is_superuser=True)
        ids = itertools.count(10_000)  # no two records share an id, of whatever kind they are
        for name, user in cast.users.items():
            session = LoginSession.objects.start(user, "tests", "127.0.0.1")
            cast.tokens[name] = issue_token_pair(session)
            cast._give(name, ids)
        cast._let_callers_in(make_user)
        return cast

    def _give(self, name: str, ids: Iterator[int]) -> None:
        user, treated = self.users[name], None
        for kept in (self.ids, self.deleted_ids):
            patient, doctor = make_patient(user, id=next(ids)), make_doctor(user, id=next(ids))
            treated = treated or patient  # the assignment that is gone has ended, of a patient who is there
            mapping = make_mapping(treated, make_doctor(user, id=next(ids)), id=next(ids))
            session = LoginSession.objects.start(user, "tests", "127.0.0.1")
            for kind, record in (("patient", patient), ("doctor", doctor), ("mapping", mapping), ("session", session)):
                kept[kind, name] = record.pk
        for kind in ("duplicate", "merged"):
            self.ids[kind, name] = make_patient(user, id=next(ids)).pk
        merge(Patient.objects.get(pk=self.ids["patient", name]), Patient.objects.get(pk=self.ids["merged", name]))
        Mapping.objects.filter(pk=self.deleted_ids["mapping", name]).end()
        Patient.objects.filter(pk=self.deleted_ids["patient", name]).end()
        Doctor.objects.filter(pk=self.deleted_ids["doctor", name]).end()
        LoginSession.objects.filter(pk=self.deleted_ids["session", name]).revoke()

    def _let_callers_in(self, make_user: Callable[..., User]) -> None:
        alice = self.users["alice"]
        revoked = issue_token_pair(LoginSession.objects.start(alice, "tests", "127.0.0.1"))["access"]
        LoginSession.objects.filter(pk=read_claims(revoked)["sid"]).revoke()
        ida = make_user("ida")
        inactive = issue_token_pair(LoginSession.objects.start(ida, "tests", "127.0.0.1"))["access"]
        User.objects.filter(pk=ida.pk).update(is_active=False)
        own = self.tokens["alice"]["access"]
        tokens = {caller: self.tokens[name]["access"] for caller, name in ACTIVE_CALLERS.items()} | {
            "inactive": inactive,
            "expired": sign_token(read_claims(own) | {"exp": read_claims(own)["iat"] - 1}),
            "tampered": tamper_token(own, user_id=str(self.users["bob"].pk)),
            "revoked": revoked,
            "refresh token": self.tokens["alice"]["refresh"],
        }
        for caller in CALLERS:
            self.clients[caller] = APIClient(raise_request_exception=False)
            if caller in tokens:
                self.clients[caller].credentials(HTTP_AUTHORIZATION=f"Bearer {tokens[caller]}")

    def id_of(self, kind: str, target: str, owner: str) -> int:
        other = "bob" if owner == "alice" else "alice"
        found = {
            "own": self.ids[kind, owner],
            "another's": self.ids[kind, other],
            "deleted": self.deleted_ids[kind, owner],
        }
        return found.get(target, MISSING_ID)


def read_claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def sign_token(payload: dict[str, Any], key: str = "") -> str:
    """A token with any payload, signed with our key unless another is given."""
    text = json.dumps(payload).encode()  # PyJWT's own encoder refuses the payloads that are worth trying
    return jwt.PyJWS().encode(text, key or str(settings.SIMPLE_JWT["SIGNING_KEY"]), "HS256", {"typ": "JWT"})


def tamper_token(token: str, **changes: Any) -> str:
    """The token with another payload under its old signature."""
    head, _, signature = token.split(".")
    payload = base64.urlsafe_b64encode(json.dumps(read_claims(token) | changes).encode()).decode().rstrip("=")
    return f"{head}.{payload}.{signature}"


def table_hashes(execute: Callable[[str], list[tuple[str, str]]] | None = None, without: str = "") -> dict[str, str]:
    """What every table of the models holds, as a hash of its rows. `execute` runs it on another connection.

    Not the access log: it grows by every read, and by one that was refused.
    """
    stored = [model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy]
    tables = {model._meta.db_table for model in stored if model._meta.managed} - {without, "audit_accesslog"}
    statement = " UNION ALL ".join(
        f"SELECT '{table}', md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"  # noqa: S608
        for table in sorted(tables)
    )
    if execute is not None:
        return dict(execute(statement))
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return dict(cursor.fetchall())


def protocol_faults(status: int, headers: Any, body: bytes, head: bool = False, page: bool = False) -> list[str]:
    """How an answer breaks what every one promises: its headers and, of an error, the one shape."""
    found = [] if re.fullmatch("[0-9a-f]{32}", headers.get("X-Request-Id") or "") else ["no X-Request-Id"]
    if headers.get("Cache-Control") != "no-store" and not (page and status < 400):
        found.append("no Cache-Control: no-store")
    if status >= 500:
        found.append(f"status {status}")
    if status < 400:
        return found
    if headers.get("Content-Type") != "application/problem+json":
        return [*found, f"an error of type {headers.get('Content-Type')}"]
    if status == 401 and not str(headers.get("WWW-Authenticate")).startswith("Bearer"):
        found.append("401 without WWW-Authenticate: Bearer")
    return found if head else found + problem_faults(status, headers, body)


def problem_faults(status: int, headers: Any, body: bytes) -> list[str]:
    problem = json.loads(body)
    found = []
    if set(problem) - {"errors"} != {"type", "title", "status", "detail", "request_id"}:
        found.append(f"an error with the members {sorted(problem)}")
    if (problem.get("status"), problem.get("request_id")) != (status, headers.get("X-Request-Id")):
        found.append("an error that contradicts its status or its X-Request-Id")
    errors = problem.get("errors", [{"pointer": "", "code": "", "detail": ""}])
    if status != 400 and "errors" in problem:
        found.append("errors beside another status than 400")
    if not errors or any(set(error) != {"pointer", "code", "detail"} for error in errors):
        found.append("errors without pointer, code and detail")
    return found


def without_request_id(answer: HttpResponse) -> tuple[Any, ...]:
    """The whole answer but its request id: status, headers and bytes."""
    request_id = answer.headers.get("X-Request-Id", "-")
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "X-Request-Id")
    return answer.status_code, headers, answer.content.replace(request_id.encode(), b"")


def send_cell(cast: Cast, row: Row, method: str, caller: str, target: str) -> HttpResponse:
    """The answer of one cell."""
    owner = ACTIVE_CALLERS.get(caller, "alice")
    path = "/" + row.route
    if target:
        path = re.sub("<int:[a-z_]+>", str(cast.id_of(row.kind(method), target, owner)), path)
    body = json.dumps(row.body(cast, owner)) if method in {"POST", "PUT", "PATCH"} else ""
    return cast.clients[caller].generic(method, path, body, content_type="application/json")


def find_deviations(cast: Cast, rows: list[Row] = ROWS) -> list[str]:
    """Run every cell, each undone again, and say where an answer is not what the row promises.

    Checked of every cell: the status, the promises of `faults`, that a refused call changed no table, and that what
    the caller may not see answers the same bytes and headers whether it is ananother's, deleted or was never there.
    """
    found: list[str] = []
    before = table_hashes()
    for row, method, caller in itertools.product(rows, METHODS, CALLERS):
        hidden = set()
        for target in OBJECTS if "<" in row.route else [""]:
            with transaction.atomic():
                answer = send_cell(cast, row, method, caller, target)
                transaction.set_rollback(False)  # DRF asks for one, of the transaction that is ours here
                after = table_hashes() if answer.status_code >= 400 else before
                transaction.set_rollback(True)
            said = [] if answer.status_code == row.expected(method, caller, target) else [f"{answer.status_code}"]
            said += protocol_faults(
                answer.status_code, answer.headers, answer.content, method == "HEAD", row.access == "PAGE"
            )
            if after != before:
                said.append(f"refused, and changed {sorted(set(after.items()) ^ set(before.items()))}")
            if answer.status_code == 404:
                hidden.add(repr(without_request_id(answer)))
            cell = f"{method} /{row.route} as {caller}, {target or '-'}, to be {row.expected(method, caller, target)}"
            found += [f"{cell}: {fault}" for fault in said]
        if len(hidden) > 1:
            found.append(f"{method} /{row.route} as {caller} tells what is not theirs from what is not there")
    return found
