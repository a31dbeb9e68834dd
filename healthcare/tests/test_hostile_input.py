"""Hostile input to a real server: each gets one of its statuses as an RFC 9457 problem, and changes no table."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import psutil
import psycopg2
import pytest

from conftest import PASSWORD
from healthcare.tests.cast import read_claims, sign_token, tamper_token
from healthcare.tests.contract_matrix import prepare_table_hashes, protocol_faults
from healthcare.tests.declarations import BadValues, all_bad_values, described_rows
from healthcare.tests.hostile_requests import CANARY, CLOSED, Case, all_hostile_requests, request, send
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, parse

Tables = Callable[[], dict[str, str]]


@pytest.fixture(scope="session")
def alice_live(live_server_process: LiveServer) -> dict[str, Any]:
    """Alice on the live server: her account, her tokens, and the ids of a patient and a doctor."""
    account, tokens = live_server_process.register()
    ids = {
        kind: live_server_process.call("POST", f"/api/{kind}s/", {"name": "X"}, tokens["access"]).json["id"]
        for kind in ("patient", "doctor")
    }
    return account | tokens | ids


@pytest.fixture(scope="session")
def tokens_of(live_server_process: LiveServer, alice_live: dict[str, Any]) -> dict[str, str]:
    """The access token of each caller whom `BadValues` names."""
    staff, tokens = live_server_process.register()
    with psycopg2.connect(live_server_process.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_staff = true WHERE id = %s", [staff["id"]])
    return {"anonymous": "", "alice": alice_live["access"], "staff": tokens["access"]}


@pytest.fixture(scope="session")
def tables(live_server_process: LiveServer) -> Iterator[Tables]:
    """A function that hashes the tables of the live server, without the counters of failed logins."""
    connection = psycopg2.connect(live_server_process.database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield prepare_table_hashes(cursor, without="accounts_attempts")
    connection.close()


def check_refusal(answer: Answer, statuses: set[int], before: dict[str, str], tables: Tables) -> None:
    assert answer.status in statuses, answer.body
    assert protocol_faults(answer.status, answer.headers, answer.body) == []
    assert CANARY.encode() not in answer.body
    assert CANARY not in str(answer.headers)
    assert tables() == before


@pytest.mark.slow
@pytest.mark.parametrize("case", all_hostile_requests(), ids=lambda case: case.name)
def test_hostile_bytes_are_answered_and_change_nothing(
    case: Case, live: LiveServer, alice_live: dict[str, Any], tables: Tables
) -> None:
    before = tables()
    answer = send(live, case, alice_live["access"])
    if answer is None or case.bare:
        assert (answer.status if answer else CLOSED) in case.statuses
        assert not answer or answer.body == b""
        assert tables() == before
    else:
        check_refusal(answer, set(case.statuses), before, tables)


def bad_bodies() -> list[Any]:
    """Every bad value in its field while the other fields are right; an unknown field to ignore has the canary."""
    return [
        pytest.param(
            bad, field, {**bad.body, field: value, CANARY: CANARY}, id=f"{bad.path} {field} {ascii(value)[:30]}"
        )
        for bad in all_bad_values()
        for field, values in bad.fields.items()
        for value in values
    ]


def test_every_post_that_creates_a_record_or_is_about_a_link_in_an_email_declares_bad_values():
    posts = {f"/{row.route}": row.methods["POST"] for row in described_rows() if "POST" in row.methods}
    creating = {path for path, status in posts.items() if status == 201}
    linking = {path for path in posts if path.startswith(("/api/auth/email/", "/api/auth/password/reset/"))}
    assert len(linking) == 5
    assert {bad.path for bad in all_bad_values()} == creating | linking


@pytest.mark.slow
@pytest.mark.parametrize(("bad", "field", "body"), bad_bodies())
def test_a_bad_value_is_named_by_its_field_and_changes_nothing(
    bad: BadValues,
    field: str,
    body: dict[str, Any],
    live: LiveServer,
    alice_live: dict[str, Any],
    tokens_of: dict[str, str],
    tables: Tables,
) -> None:
    before = tables()
    body = {name: alice_live[value[1:]] if value in ("@patient", "@doctor") else value for name, value in body.items()}
    answer = live.call("POST", bad.path, body, tokens_of[bad.by], Prefer="handling=lenient")
    check_refusal(answer, {400}, before, tables)
    assert {error["pointer"].split("/")[1] for error in answer.json["errors"]} == {field}


def test_another_users_name_or_email_is_taken_however_it_is_written(
    live: LiveServer, alice_live: dict[str, Any], tables: Tables
) -> None:
    name, email = alice_live["username"], alice_live["email"]
    new = {"name": CANARY, "email": "new@example.org", "username": "new-one", "password": PASSWORD}
    before = tables()
    for field, value in [
        ("username", name), ("username", name.upper()), ("username", f" {name} "), ("username", email),
        ("email", email), ("email", email.upper()), ("email", f"{email} "), ("username", email.upper()),
    ]:  # fmt: skip
        answer = live.call("POST", "/api/auth/register/", new | {field: value})
        check_refusal(answer, {400}, before, tables)
        assert [error["pointer"] for error in answer.json["errors"]] == [f"/{field}"]
        assert value.strip().encode() not in answer.body


LOGINS: list[Any] = [
    {}, {"username": CANARY}, {"password": CANARY}, {"username": CANARY, "password": CANARY},
    {"username": [CANARY], "password": 1}, {"username": CANARY * 5000, "password": "x"},
    {"username": "x", "password": CANARY * 5000}, {"username": True, "password": True},
    {"username": None, "password": None}, {"email": CANARY, "username": "", "password": "x"},
    {"username": "' OR 1=1 --", "password": "x"}, {"username": {"$ne": CANARY}, "password": {"$ne": 1}},
    {"email": "%", "password": "%"}, {"username": "*", "password": "\uffff"},
]  # fmt: skip


@pytest.mark.parametrize("body", LOGINS, ids=lambda body: ascii(body)[:50])
def test_a_hostile_login_is_refused(body: dict[str, Any], live: LiveServer, tables: Tables) -> None:
    check_refusal(live.call("POST", "/api/auth/login/", body), {400, 401}, tables(), tables)


CLAIMS: dict[str, list[Any]] = {
    "sid": [
        "@other",
        "1",
        "",
        1.0,
        1e300,
        float("inf"),
        float("nan"),
        2**63,
        2**70,
        10**4000,
        -1,
        0,
        None,
        True,
        [1],
        {},
    ],
    "user_id": ["@other", "", "²", "x", "1 OR 1=1", "9" * 5000, str(2**70), -1, None, True, [1], {"a": 1}, 1e300],
    "exp": [None, "", CANARY, 0, -1, 1.5e9, True, [1], "9" * 5000],
    "iat": [2**40, CANARY, [1]],
    "nbf": [2**40, CANARY],
    "iss": [None, "", CANARY, ["healthcare"], 1],
    "aud": [None, "", CANARY, ["x"], 1, {"a": 1}],
    "token_type": [None, "", "refresh", "sliding", CANARY, ["access"], {"a": 1}],
}


OPTIONAL = {"iat", "nbf"}


def tokens_with_a_changed_claim(real: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Tokens with one changed claim, signed with the server's key, as a defect or a leaked key could produce them."""
    for claim, values in CLAIMS.items():
        if claim not in OPTIONAL:
            yield f"without {claim}", sign_token({name: value for name, value in real.items() if name != claim})
        for value in values:
            changed = other[claim] if value == "@other" else value
            if repr(changed) != repr(real.get(claim)):
                yield f"{claim} {ascii(changed)[:40]}", sign_token(real | {claim: changed})


def tokens_made_without_the_key(token: str, other: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Tokens that a user can produce from their own without the server's key."""
    real = read_claims(token)
    yield "another user's id", tamper_token(token, user_id=other["user_id"])
    yield "another session", tamper_token(token, sid=other["sid"])
    yield "no end", tamper_token(token, exp=2**40)
    yield "another key", sign_token(real, key="another key that is long enough, too")
    yield "no algorithm", jwt.encode(real, "", "none")
    yield "another algorithm", jwt.encode(real, "x" * 64, "HS512")
    yield (
        "a key by its name",
        jwt.encode(real, "x" * 64, "HS256", {"kid": "../../dev/null", "jku": f"https://{CANARY}"}),
    )
    yield "no signature", token.rpartition(".")[0] + "."
    yield "a longer signature", token + "AAAA"
    yield "a shorter signature", token[:-5]


def test_a_forged_access_token_is_refused(live: LiveServer, alice_live: dict[str, Any], tables: Tables) -> None:
    other = read_claims(live.register()[1]["access"])
    before = tables()
    forgeries = [
        *tokens_with_a_changed_claim(read_claims(alice_live["access"]), other),
        *tokens_made_without_the_key(alice_live["access"], other),
    ]
    accepted = []
    for name, token in [*forgeries, ("the refresh token", alice_live["refresh"])]:
        answer = live.call("GET", "/api/patients/", None, token)
        if (
            answer.status != 401
            or protocol_faults(answer.status, answer.headers, answer.body)
            or CANARY.encode() in answer.body
        ):
            accepted.append((name, answer.status, answer.body))
    assert accepted == [], "\n".join(map(str, accepted))
    assert tables() == before


def test_a_forged_refresh_token_is_refused(live: LiveServer, tables: Tables) -> None:
    _, tokens = live.register()
    other, before = read_claims(live.register()[1]["refresh"]), tables()
    texts: list[Any] = [
        tokens["access"], "", CANARY, "a.b.c", "." * 1000, CANARY * 5000, None, [CANARY], {"a": 1}, True, "\x00",
    ]  # fmt: skip
    forgeries = [
        *tokens_with_a_changed_claim(read_claims(tokens["refresh"]), other),
        *tokens_made_without_the_key(tokens["refresh"], other),
    ]
    refreshed = []
    for name, token in [*forgeries, *((ascii(text)[:40], text) for text in texts)]:
        answer = live.call("POST", "/api/auth/refresh/", {"refresh": token})
        shape = protocol_faults(answer.status, answer.headers, answer.body)
        if answer.status not in {400, 401} or shape or CANARY.encode() in answer.body or tables() != before:
            refreshed.append((name, answer.status, answer.body))
            before = tables()
    assert refreshed == [], "\n".join(map(str, refreshed))
    assert live.call("POST", "/api/auth/refresh/", {"refresh": tokens["refresh"]}).status == 200


NAMES = [
    "José 李 👩‍⚕️",
    "مريم العلي",
    "𠮷田 𝒜",
    "O'Brien-\u00c5ngstr\u00f6m",
    "<script>alert(1)</script>",
    "'; DROP TABLE x",
    "𐍈" * 200,
    "{{7*7}}",
    "%s%n",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_in_any_script_is_stored_as_it_was_sent(name: str, live: LiveServer, alice_live: dict[str, Any]) -> None:
    created = live.call("POST", "/api/patients/", {"name": name}, alice_live["access"])
    assert (created.status, created.json["name"]) == (201, name)
    assert live.call("GET", f"/api/patients/{created.json['id']}/", None, alice_live["access"]).json["name"] == name


GRABBED = {
    "id": 1, "pk": 1, "created_by": 1, "created_by_id": 1, "version": 99, "deleted_at": "2020-01-01T00:00:00Z",
    "is_staff": True, "is_superuser": True, "is_active": False, "created_at": "2020-01-01T00:00:00Z", "groups": [1],
    "ended_at": None, "last_login": None, "__proto__": {"is_staff": True}, "user": 1, "owner": 1,
    "password": "Taken-Over-1",
}  # fmt: skip


def test_a_body_does_not_write_read_only_columns(live: LiveServer) -> None:
    grabbed = {name: value for name, value in GRABBED.items() if name != "password"}
    account = {"name": "Mass", "username": "mass", "email": "mass@example.org", "password": PASSWORD}
    lenient = {"Prefer": "handling=lenient"}  # otherwise the unknown fields are refused
    created = live.call("POST", "/api/auth/register/", account | grabbed, **lenient)
    assert (created.status, created.json["id"] > 1) == (201, True)
    login = {"username": "mass", "password": PASSWORD}
    token = live.call("POST", "/api/auth/login/", login).json["access"]
    me = live.call("PATCH", "/api/auth/me/", GRABBED | {"username": "other"}, token, **lenient)
    assert (me.status, me.json) == (200, created.json | {"acting_for": [], "email_verified": False})
    assert live.call("POST", "/api/auth/login/", login).status == 200
    patient = live.call("POST", "/api/patients/", GRABBED | {"name": "X"}, token, **lenient).json
    changed = live.call("PUT", f"/api/patients/{patient['id']}/", GRABBED | {"name": "X"}, token, **lenient).json
    assert changed == patient
    assert (patient["created_by"], patient["version"]) == (created.json["id"], 1)
    with psycopg2.connect(live.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT is_staff, is_superuser, is_active FROM accounts_user WHERE username = 'mass'")
        assert cursor.fetchall() == [(False, False, True)]


@pytest.mark.parametrize(
    "path", ["/api/patients", "/api/doctors", "/api/mappings", "/api/auth/register", "/api/auth/login"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_path_without_its_slash_is_a_404_that_names_the_path_with_it(
    method: str, path: str, live: LiveServer, alice_live: dict[str, Any], tables: Tables
) -> None:
    answer = live.call(method, path, {"name": CANARY}, alice_live["access"])
    check_refusal(answer, {404}, tables(), tables)
    assert answer.json["detail"] == f"Every path ends in a slash: send this to {path}/ instead."
    assert "Location" not in answer.headers


def test_pipelined_requests_are_answered_in_order(live: LiveServer, alice_live: dict[str, Any]) -> None:
    token = alice_live["access"].encode()
    created = request("POST", "/api/patients/", json.dumps({"name": "Piped"}).encode(), token=token)
    persistent = [
        part.replace(b"Connection: close\r\n", b"") for part in (created, request("GET", "/api/x/", token=token))
    ]
    with socket.create_connection((live.host, live.port), timeout=TIMEOUT) as connection:
        connection.sendall(persistent[0] + persistent[1] + request("GET", "/api/patients/?limit=1", token=token))
        received = b""
        while block := connection.recv(65536):
            received += block
    answers = [parse(b"HTTP/1.1 " + part) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert [answer.status for answer in answers if answer] == [201, 404, 200]
    assert answers[-1] is not None
    assert answers[-1].json[0]["name"] == "Piped"


def test_no_hostile_request_restarts_a_worker(live: LiveServer, alice_live: dict[str, Any], tables: Tables) -> None:
    """Send all hostile requests again, concurrently, and compare the worker processes before and after."""
    before, rows = worker_processes(live), tables()
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda case: send(live, case, alice_live["access"]), all_hostile_requests()))
    assert [answer.status for answer in answers if answer and answer.status >= 500] == []
    assert live.call("GET", "/api/patients/", None, alice_live["access"]).status == 200
    assert worker_processes(live) == before != set()
    assert tables() == rows


def worker_processes(live: LiveServer) -> set[tuple[int, float]]:
    """The processes that listen on the server's port and their children, each with its time of creation."""
    found: set[tuple[int, float]] = set()
    for process in psutil.Process().children(recursive=True):
        if str(live.port) in process.cmdline():
            found |= {(one.pid, one.create_time()) for one in [process, *process.children(recursive=True)]}
    return found
