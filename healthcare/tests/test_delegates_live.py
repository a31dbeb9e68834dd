"""Sixteen delegates write for one owner over real connections, and one of them is revoked meanwhile."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier, Event
from typing import Any

import pytest

from healthcare.tests.concurrent_calls import until_run
from healthcare.tests.live import Answer, LiveServer, serving

pytestmark = pytest.mark.slow

DELEGATES, WRITES, REVOKED = 16, 6, 0


@dataclass(frozen=True)
class Write:
    """A request of a delegate: when it began (`time.monotonic`), what it asked for, and its answer."""

    began: float
    method: str
    name: str
    answer: Answer


class Delegate:
    def __init__(self, live: LiveServer, number: int, owner: dict[str, Any], shared: str) -> None:
        self.live, self.number, self.owner, self.shared = live, number, owner, shared
        self.user, tokens = live.register()
        self.token = tokens["access"]
        self.writes: list[Write] = []

    def write(self, method: str, path: str) -> None:
        name, began = f"Delegate {self.number} write {len(self.writes)}", 0.0

        def call() -> Answer:
            nonlocal began
            began = time.monotonic()  # of the attempt that the server runs
            return self.live.call(method, path, {"name": name}, self.token, X_Acting_For=self.owner["username"])

        answer = until_run(call)
        self.writes.append(Write(began, method, name, answer))

    def write_a_patient_and_the_shared_one(self) -> None:
        self.write("POST", "/api/patients/")
        self.write("PATCH", self.shared)


def test_a_revocation_holds_from_the_next_request_and_nothing_of_the_others_is_lost(live: LiveServer) -> None:
    owner, tokens = live.register()
    shared = live.call("POST", "/api/patients/", {"name": "Shared"}, tokens["access"])
    path = f"/api/patients/{shared.json['id']}/"
    delegates = [Delegate(live, number, owner, path) for number in range(DELEGATES)]
    given = [
        live.call(
            "POST", "/api/delegations/", {"delegate": delegate.user["username"], "role": "write"}, tokens["access"]
        )
        for delegate in delegates
    ]
    assert {answer.status for answer in given} == {201}
    started, revoked = Barrier(DELEGATES + 1), Event()

    def work(delegate: Delegate) -> None:
        delegate.write_a_patient_and_the_shared_one()
        started.wait()
        for _ in range(WRITES):
            delegate.write_a_patient_and_the_shared_one()
        revoked.wait()
        delegate.write_a_patient_and_the_shared_one()  # in any case after the revocation

    with ThreadPoolExecutor(DELEGATES) as threads:
        working = [threads.submit(work, delegate) for delegate in delegates]
        started.wait()
        delegation = f"/api/delegations/{given[REVOKED].json['id']}/"
        ended = until_run(lambda: live.call("DELETE", delegation, None, tokens["access"]))
        since = time.monotonic()
        revoked.set()
        for one in working:
            one.result()

    assert ended.status == 204
    refused = [write for write in delegates[REVOKED].writes if write.began > since]
    assert len(refused) >= 2
    assert {(write.answer.status, write.answer.json["code"]) for write in refused} == {(403, "not_a_delegate")}
    assert {write.answer.status for write in delegates[REVOKED].writes[:2]} <= {200, 201}
    for delegate in delegates[REVOKED + 1 :]:
        assert [write.answer.status for write in delegate.writes] == [201, 200] * (WRITES + 2)
        assert {write.answer.headers["X-Acting-For"] for write in delegate.writes} == {owner["username"]}
    done = [write for delegate in delegates for write in delegate.writes if write.answer.status < 400]
    listed = live.call("GET", "/api/patients/?limit=500", None, tokens["access"]).json
    assert {record["created_by"] for record in listed} == {owner["id"]}
    stored = sorted(record["name"] for record in listed if record["id"] != shared.json["id"])
    assert stored == sorted(write.name for write in done if write.method == "POST")
    changes = [write for write in done if write.method == "PATCH"]
    record = live.call("GET", path, None, tokens["access"]).json
    assert record["version"] == 1 + len(changes)
    assert record["name"] in {write.name for write in changes}


def test_another_process_that_knows_the_owner_obeys_a_change_from_the_next_request(live: LiveServer) -> None:
    """Both processes have prepared their statements and serve the delegate by the fast path."""
    (owner, tokens), (other, of_other), (delegate, of_delegate) = live.register(), live.register(), live.register()
    given, paths = {}, {}
    for user, token in ((owner, tokens["access"]), (other, of_other["access"])):
        sent = {"delegate": delegate["username"], "role": "write"}
        given[user["id"]] = live.call("POST", "/api/delegations/", sent, token).json["id"]
        for number in range(3):
            created = live.call("POST", "/api/patients/", {"name": f"Number {number}"}, token)
        paths[user["id"]] = f"/api/patients/{created.json['id']}/"
    shared = paths[owner["id"]]
    with serving(live.database_url, migrated=True) as second:

        def call(
            server: LiveServer, method: str, path: str, body: Any = None, acting: Any = owner, **sent: str
        ) -> Answer:
            headers = {"X_Acting_For": acting["username"], **sent}
            return until_run(lambda: server.call(method, path, body, of_delegate["access"], **headers))

        for server in (live, second) * 3:
            for user in (owner, other):
                assert call(server, "GET", "/api/patients/?limit=2", acting=user).status == 200
                assert call(server, "GET", paths[user["id"]], acting=user).status == 200
            assert call(server, "PATCH", shared, {"name": "Warm"}).status == 200
        first_page = call(live, "GET", "/api/patients/?limit=2")
        following = first_page.headers["Link"].partition(">")[0].removeprefix("<")
        for user in (owner, other):
            rest = call(second, "GET", following.removeprefix(second.url).removeprefix(live.url), acting=user)
            assert {record["created_by"] for record in rest.json} <= {user["id"]}
        tags = {call(server, "GET", shared).headers["ETag"] for server in (live, second)}
        tags.add(live.call("GET", shared, None, tokens["access"]).headers["ETag"])
        assert len(tags) == 1
        [tag] = tags
        assert call(second, "GET", shared, If_None_Match=tag).status == 304
        delegation = f"/api/delegations/{given[owner['id']]}/"
        assert live.call("PATCH", delegation, {"role": "read"}, tokens["access"]).status == 200
        refused = call(second, "PATCH", shared, {"name": "Late"}, If_Match=tag)
        assert (refused.status, refused.json["code"]) == (403, "role_too_low")
        assert call(second, "GET", shared).status == 200
        assert live.call("DELETE", delegation, None, tokens["access"]).status == 204
        for path in (shared, "/api/patients/?limit=2"):
            ended = call(second, "GET", path, If_None_Match=tag)
            assert (ended.status, ended.json["code"]) == (403, "not_a_delegate")
        assert call(second, "GET", "/api/patients/", acting=other).status == 200
