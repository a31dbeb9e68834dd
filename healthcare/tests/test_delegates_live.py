"""Sixteen delegates write for one owner over real connections, and one of them is revoked meanwhile."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier, Event
from typing import Any

from healthcare.tests.concurrent_calls import until_run
from healthcare.tests.live import Answer, LiveServer

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
