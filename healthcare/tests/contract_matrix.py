"""The contract as a table: every route, method, caller and target, with the status of each cell.

The apps declare the rows: see `healthcare.tests.declarations`. `find_deviations(cast, rows)` sends the call of every
cell and returns what differs, as sentences. It is a function, so that a test can run the table again under a patch:
with the scopes of the code removed, say.
"""

import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver

from healthcare.tests.cast import CALLERS, Cast
from healthcare.tests.declarations import DELEGATES, NOT_DELEGATES, TOKEN_CALLERS, Row

FORM = "application/x-www-form-urlencoded"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
TARGETS = ["own", "another's", "missing", "deleted"]


def all_routes(urlconf: str | None = None) -> dict[str, URLPattern]:
    """Every route outside the admin, by its template. Of one that works with and without a slash at its end, by the
    very same view, the one without."""

    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, URLPattern]]:
        for pattern in patterns:
            template = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, template)
            elif not template.startswith("admin/"):
                yield template, pattern

    found = dict(walk(get_resolver(urlconf).url_patterns, ""))
    bare = {route.removesuffix("/"): pattern.callback for route, pattern in found.items() if route.endswith("/")}
    with_slash = {f"{route}/" for route, view in bare.items() if route in found and found[route].callback is view}
    return {route: pattern for route, pattern in found.items() if route not in with_slash}


def find_missing_rows(rows: list[Row], urlconf: str | None = None) -> list[str]:
    """Routes without a row, rows without a route, and routes with two rows."""
    known, tested = set(all_routes(urlconf)), [row.route for row in rows]
    return [
        *(f"{route} has no row in the matrix" for route in sorted(known - set(tested))),
        *(f"{route} has a row and no route" for route in sorted(set(tested) - known)),
        *(f"{route} has two rows" for route in sorted({route for route in tested if tested.count(route) > 1})),
    ]


def table_hashes_sql(without: str = "") -> str:
    """The statement that answers a hash of the rows of every table, by the table's name.

    Of each row the transaction that has written it counts, which another one replaces whatever it writes. To read the
    values would take three to ten times as long, and other tests leave tables of many rows. The access log is left
    out: every read adds a row to it, also one that was refused. To plan the statement takes longer than to execute it,
    so frequent callers prepare it.
    """
    stored = [model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy]
    tables = {model._meta.db_table for model in stored if model._meta.managed} - {without, "audit_accesslog"}
    return " UNION ALL ".join(
        f"SELECT '{table}', count(*) || ' ' || coalesce(sum(xmin::text::bigint), 0) FROM {table}"  # noqa: S608
        for table in sorted(tables)
    )


def table_hashes() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(table_hashes_sql())
        return dict(cursor.fetchall())


def prepare_table_hashes(cursor: Any, without: str = "") -> Callable[[], dict[str, str]]:
    """Prepare the statement in the session of this cursor, and return a function that executes it."""
    name = f"table_hashes_{uuid.uuid4().hex}"
    cursor.execute(f"PREPARE {name} AS {table_hashes_sql(without)}")

    def execute() -> dict[str, str]:
        cursor.execute(f"EXECUTE {name}")
        return dict(cursor.fetchall())

    return execute


def protocol_faults(
    status: int,
    headers: Any,
    body: bytes,
    head: bool = False,
    page: bool = False,
    errors: str = "application/problem+json",
) -> list[str]:
    """What is wrong with an answer, whatever was asked: its headers and, of an error, its type and its shape."""
    found = [] if re.fullmatch("[0-9a-f]{32}", headers.get("X-Request-Id") or "") else ["no X-Request-Id"]
    if headers.get("Cache-Control") != "no-store" and not (page and status < 400):
        found.append("no Cache-Control: no-store")
    if status >= 500:
        found.append(f"status {status}")
    if status < 400:
        return found
    if headers.get("Content-Type") != errors:
        return [*found, f"an error of type {headers.get('Content-Type')}"]
    if status == 401 and not str(headers.get("WWW-Authenticate")).startswith("Bearer"):
        found.append("401 without WWW-Authenticate: Bearer")
    return found if head else found + SHAPES[errors](status, headers, body)


def problem_faults(status: int, headers: Any, body: bytes) -> list[str]:
    """What is wrong with the body of an error (RFC 9457)."""
    problem = json.loads(body)
    found = []
    if set(problem) - {"errors", "error_count", "failed", "code", "records"} != {
        "type",
        "title",
        "status",
        "detail",
        "request_id",
    }:
        found.append(f"an error with the members {sorted(problem)}")
    if (problem.get("status"), problem.get("request_id")) != (status, headers.get("X-Request-Id")):
        found.append("an error that contradicts its status or its X-Request-Id")
    errors = problem.get("errors", [{"pointer": "", "code": "", "detail": ""}])
    if status != 400 and "errors" in problem:
        found.append("errors beside another status than 400")
    if len(errors) > 20 or ("errors" in problem) != (problem.get("error_count", 0) >= len(errors)):
        found.append("errors without their count, or more than 20")
    if not errors or any(set(error) != {"pointer", "code", "detail"} for error in errors):
        found.append("errors without pointer, code and detail")
    return found


def outcome_faults(status: int, headers: Any, body: bytes) -> list[str]:
    """What is wrong with an error of /fhir (https://hl7.org/fhir/R4/operationoutcome.html)."""
    outcome = json.loads(body)
    if (outcome.get("resourceType"), outcome.get("id")) != ("OperationOutcome", headers.get("X-Request-Id")):
        return ["an error that is no OperationOutcome of this request"]
    issues = outcome.get("issue", [])
    members = {"severity", "code", "details", "diagnostics", "expression", "location"}
    whole = all({"severity", "code", "diagnostics"} <= set(issue) <= members for issue in issues)
    return [] if whole and 0 < len(issues) <= 20 else ["an OperationOutcome with other members, or not 1 to 20 issues"]


SHAPES = {"application/problem+json": problem_faults, "application/fhir+json": outcome_faults}


def problem_code(answer: HttpResponse) -> str | None:
    """The code for programs in the body of an error, in either shape."""
    body = json.loads(answer.content)
    if "issue" not in body:
        return body.get("code")  # type: ignore[no-any-return]
    coding = body["issue"][0].get("details", {}).get("coding", [{}])
    return coding[0].get("code")  # type: ignore[no-any-return]


def without_request_id(answer: HttpResponse) -> tuple[Any, ...]:
    """The whole answer but its request id: status, headers and bytes."""
    request_id = answer.headers.get("X-Request-Id", "-")
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "X-Request-Id")
    return answer.status_code, headers, answer.content.replace(request_id.encode(), b"")


def read_whole(answer: Any) -> HttpResponse:
    """The answer, with the whole content of one that is streamed."""
    if answer.streaming:
        whole = HttpResponse(b"".join(answer), status=answer.status_code, headers=answer.headers)
        whole.wsgi_request = answer.wsgi_request  # type: ignore[attr-defined]
        answer = whole
    found: HttpResponse = answer
    return found


def send_cell(cast: Cast, row: Row, method: str, caller: str, target: str) -> HttpResponse:
    """Send the call of one cell."""
    owner = row.owner(caller)
    path = "/" + row.route
    has_body = method in {"POST", "PUT", "PATCH"} or (method == "DELETE" and row.delete_has_body)
    body = row.build_body(method, cast, owner) if has_body else {}
    if target:
        key = str(cast.id_of(row.kind(method), target, owner))
        path = re.sub("<(int|positive|id):[a-z_]+>", key, path)
        path = path.replace("<version:version>", str(row.version(cast, owner)))
        body |= {"id": key} if "resourceType" in body else {}  # FHIR wants it in the body, too
    encode = urlencode if row.content_type == FORM else json.dumps
    text = encode(body) if has_body else ""
    return read_whole(cast.clients[caller].generic(method, path, text, content_type=row.content_type))


def every_cell(row: Row, method: str, caller: str) -> bool:
    return True


def find_deviations(
    cast: Cast,
    rows: list[Row],
    callers: Sequence[str] = CALLERS,
    selects: Callable[[Row, str, str], bool] = every_cell,
) -> list[str]:
    """Send the call of every cell that `selects` names by its row, method and caller, roll it back, and say where the
    answer is not what the row promises.

    Each cell is checked for its status, for `protocol_faults` and `acting_faults`, and the refused calls of each method
    of a row for tables that they have changed. Of a record that the caller may not see, the 404 must be the same bytes
    and headers whether the record is another's, is deleted or never existed; so must the 403 of callers who are no
    delegates, whatever the reason.
    """
    hash_tables = prepare_table_hashes(connection.cursor())
    before = hash_tables()
    make_callers_known(cast)
    found: list[str] = []
    for row, method in itertools.product(rows, METHODS):
        chosen = [caller for caller in row.callers() if caller in callers and selects(row, method, caller)]
        with transaction.atomic():
            found += find_deviations_of_method(cast, row, method, chosen)
            changed = {*hash_tables().items()} ^ {*before.items()} if chosen else set()
            transaction.set_rollback(True)
        if changed:
            found.append(f"{method} /{row.route} refused, and changed {sorted(changed)}")
    return found


def find_deviations_of_method(cast: Cast, row: Row, method: str, callers: Sequence[str]) -> list[str]:
    """What is wrong with the answers. What refused calls have changed is left in the transaction."""
    start = transaction.savepoint()
    found: list[str] = []
    by_owner: dict[str, HttpResponse] = {}
    not_delegates = set()
    for caller in callers:
        not_found = set()
        for target in targets_of(row, method, caller):
            answer, faults = try_cell(cast, row, method, caller, target, start)
            if caller == "owner":
                by_owner[target] = answer
            served_alike = caller in TOKEN_CALLERS or (row.roles and caller in DELEGATES)
            if served_alike and target in by_owner:
                faults += path_faults(by_owner[target], answer)
            if answer.status_code == 404:
                not_found.add(repr(without_request_id(answer)))
            if caller in NOT_DELEGATES:
                not_delegates.add(repr(without_request_id(answer)))
            cell = f"{method} /{row.route} as {caller}, {target or '-'}, expected"
            found += [f"{cell} {row.expected(method, caller, target)}: {fault}" for fault in faults]
        if len(not_found) > 1:
            found.append(f"{method} /{row.route} as {caller} answers different 404s")
    if len(not_delegates) > 1:
        found.append(f"{method} /{row.route} answers different 403s to callers who are no delegates")
    return found


def looks_up(row: Row, method: str, caller: str) -> bool:
    """Whether the caller's call gets as far as its record or its list, and is not refused before."""
    statuses = {row.expected(method, caller, target) for target in TARGETS}
    return method != "OPTIONS" and not statuses <= {401, 403, 405}


def targets_of(row: Row, method: str, caller: str) -> Sequence[str]:
    """What a caller tries: two targets where nothing is looked up, and one where the view has no such method."""
    if "<" not in row.route:
        return [""]
    if looks_up(row, method, caller):
        return TARGETS
    return ["own", "missing"] if method in row.methods or method in {"HEAD", "OPTIONS"} else ["own"]


def try_cell(cast: Cast, row: Row, method: str, caller: str, target: str, start: str) -> tuple[HttpResponse, list[str]]:
    """The answer to the call of one cell, which is rolled back unless it is refused, and what is wrong with it by
    itself. A success that no row promises is rolled back to `start`: few calls need a savepoint of their own."""
    expected = row.expected(method, caller, target)
    savepoint = transaction.savepoint() if expected < 400 else start
    answer = send_cell(cast, row, method, caller, target)
    transaction.set_rollback(False)  # DRF has set it on this transaction, which goes on
    if answer.status_code < 400:
        transaction.savepoint_rollback(savepoint)
    status, headers = answer.status_code, answer.headers
    faults = [] if status == expected else [f"{status}"]
    faults += protocol_faults(
        status, headers, answer.content, head=method == "HEAD", page=row.access == "PAGE", errors=row.errors
    )
    faults += acting_faults(row, method, caller, target, answer)
    return answer, faults


def make_callers_known(cast: Cast) -> None:
    """Let each delegate act once, and use each token once, after which the fast path knows the owner and the token."""
    for caller in [*DELEGATES, *TOKEN_CALLERS]:
        with transaction.atomic():
            cast.clients[caller].get("/api/patients/")
            transaction.set_rollback(True)


def path_faults(by_owner: HttpResponse, by_other: HttpResponse) -> list[str]:
    """Whether the owner got the same status by the fast path, and a delegate, or a personal access token of the owner,
    by standard Django REST framework."""
    paths = [getattr(one.wsgi_request, "served_by", "standard") for one in (by_owner, by_other)]  # type: ignore[attr-defined]
    same = by_owner.status_code == by_other.status_code
    return [f"served by the {paths[1]} path, the owner by the {paths[0]} one"] if same and paths[0] != paths[1] else []


def acting_faults(row: Row, method: str, caller: str, target: str, answer: HttpResponse) -> list[str]:
    """What is wrong with how an answer treats X-Acting-For: the header of the answer, and the code of a 403."""
    named, owner = answer.headers.get("X-Acting-For"), "alice" if row.roles and caller in DELEGATES else None
    found = [] if named == owner else [f"X-Acting-For: {named}"]
    code = row.problem_code(method, caller, target)
    if code and answer.status_code == 403 and method != "HEAD" and problem_code(answer) != code:
        found.append(f"a 403 without the code {code}")
    if code == "insufficient_scope" and 'error="insufficient_scope"' not in answer.headers.get("WWW-Authenticate", ""):
        found.append("insufficient_scope without the challenge of RFC 6750")
    return found
