"""Concurrent writers, each over its own connection: nobody overwrites a state that they have not read."""

import http.client
from collections import Counter
from functools import partial
from typing import Any

import pytest

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import TIMEOUT, LiveServer

ROUNDS, SOME_ROUNDS, WRITERS = 25, 8, 16


@pytest.fixture
def token(live: LiveServer) -> str:
    return live.register()[1]["access"]


def create_record_with_etag(live: LiveServer, token: str, resource: str = "patients", **body: Any) -> tuple[str, str]:
    """Return the path and the ETag of a new record."""
    created = live.call("POST", f"/api/{resource}/", {"name": "First", **body}, token)
    assert created.status == 201
    return f"/api/{resource}/{created.json['id']}/", created.headers["ETag"]


@pytest.mark.slow
@pytest.mark.parametrize("resource", ["patients", "doctors"])
def test_of_many_concurrent_writers_with_one_etag_one_succeeds(live: LiveServer, token: str, resource: str) -> None:
    for _ in range(ROUNDS):
        path, etag = create_record_with_etag(live, token, resource)
        calls = [
            partial(live.call, "PATCH", path, {"name": f"Writer {number}"}, token, If_Match=etag)
            for number in range(WRITERS)
        ]
        answers = call_concurrently(*calls)
        assert sorted_statuses(answers) == [200] + [412] * (WRITERS - 1)
        (winner,) = [answer.json for answer in answers if answer.status == 200]
        assert winner["version"] == 2
        assert live.call("GET", path, None, token).json == winner


def test_of_many_concurrent_writers_of_the_same_value_one_succeeds(live: LiveServer, token: str) -> None:
    for _ in range(SOME_ROUNDS):
        path, etag = create_record_with_etag(live, token)
        answers = call_concurrently(
            *[partial(live.call, "PUT", path, {"name": "Same"}, token, If_Match=etag)] * WRITERS
        )
        assert sorted_statuses(answers) == [200] + [412] * (WRITERS - 1)


def test_of_many_concurrent_writers_to_the_callers_account_with_one_etag_one_succeeds(live: LiveServer) -> None:
    for _ in range(2):
        token = live.register()[1]["access"]
        etag = live.call("GET", "/api/auth/me/", None, token).headers["ETag"]
        calls = [
            partial(live.call, "PATCH", "/api/auth/me/", {"name": f"Writer {number}"}, token, If_Match=etag)
            for number in range(WRITERS)
        ]
        assert sorted_statuses(call_concurrently(*calls)) == [200] + [412] * (WRITERS - 1)


def test_a_concurrent_change_and_delete_with_one_etag_do_not_both_succeed(live: LiveServer, token: str) -> None:
    outcomes: Counter[tuple[int, ...]] = Counter()
    for _ in range(ROUNDS):
        path, etag = create_record_with_etag(live, token)
        change, remove = call_concurrently(
            partial(live.call, "PATCH", path, {"name": "Changed"}, token, If_Match=etag),
            partial(live.call, "DELETE", path, None, token, If_Match=etag),
        )
        outcomes[change.status, remove.status] += 1
        assert live.call("GET", path, None, token).status == (200 if change.status == 200 else 404)
    # The writer gets a 404 when the record is already deleted, and a 412 when it was deleted after being found.
    assert set(outcomes) <= {(200, 412), (412, 204), (404, 204)}


def test_concurrent_changes_of_different_fields_without_an_etag_all_survive(live: LiveServer, token: str) -> None:
    fields = {"name": "N", "phone": "1", "email": "n@example.org", "address": "A", "identifier": "I", "gender": "F"}
    for _ in range(SOME_ROUNDS):
        path, _ = create_record_with_etag(live, token)
        calls = [partial(live.call, "PATCH", path, {field: value}, token) for field, value in fields.items()]
        assert sorted_statuses(call_concurrently(*calls)) == [200] * len(fields)
        record = live.call("GET", path, None, token).json
        assert {field: record[field] for field in fields} == fields
        assert record["version"] == 1 + len(fields)


def test_a_connection_stays_open_after_an_answer_without_content(live: LiveServer, token: str) -> None:
    path, etag = create_record_with_etag(live, token)
    client = http.client.HTTPConnection(live.host, live.port, timeout=TIMEOUT)
    seen = []
    for method, headers in [
        ("GET", {"If-None-Match": etag}),
        ("HEAD", {}),
        ("HEAD", {"If-None-Match": etag}),
        ("GET", {}),
    ]:
        client.request(method, path, headers={"Authorization": f"Bearer {token}", **headers})
        answer = client.getresponse()
        seen.append((answer.status, answer.headers["ETag"], answer.headers["Content-Length"], len(answer.read())))
    client.close()
    length = seen[-1][3]
    assert seen == [
        (304, etag, None, 0),  # hyper leaves it out (RFC 9110 section 8.6 allows that), but for HEAD
        (200, etag, str(length), 0),
        (304, etag, str(length), 0),
        (200, etag, str(length), length),
    ]
