"""The contract matrix and the state machine of the API, with a standby that replays nothing for long times."""

import itertools
from collections import Counter
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from conftest import logged_in
from healthcare.fastpath.views import fast_views
from healthcare.operations.tests.calls import execute
from healthcare.replicas.tests.conftest import Replicated
from healthcare.tests.cast import CALLERS, Cast
from healthcare.tests.contract_matrix import acting_faults, make_callers_known, protocol_faults, send_cell, targets_of
from healthcare.tests.declarations import Row, all_rows
from healthcare.tests.test_state_machine import Calls, Model

pytestmark = pytest.mark.slow

LISTS = [
    "api/patients/",
    "api/patients/search/",
    "api/mappings/",
    "api/patients/<int:pk>/doctors/",
    "api/mappings/<int:pk>/",
    "api/doctors/<int:pk>/patients/",
    "fhir/Patient",
]
PROFILE = settings(
    max_examples=4,
    stateful_step_count=40,
    derandomize=True,
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def row_of(route: str) -> Row:
    return next(row for row in all_rows() if row.route == route)


def test_every_list_on_replicas_is_in_the_matrix() -> None:
    by_view = {one.viewset for one in fast_views() if one.viewset.reads_replicas and "list" in one.viewset.fast_actions}
    assert len(by_view) == len(LISTS) - 1  # a search by POST is a list
    assert all(row_of(route) for route in LISTS)


def test_every_cell_of_a_list_answers_as_its_row_says(replicated: Replicated) -> None:
    """Of every caller and target, when the standby has every write and when it lacks the last. Only reads are sent,
    since nothing is rolled back: a transaction that has written reads on no standby."""
    with transaction.atomic():
        cast = Cast.build(replicated.make_user)
    make_callers_known(cast)
    found = find_deviations(cast)
    replicated.wait_for_standby()
    found += find_deviations(cast)
    assert replicated.outcomes["served"] > len(CALLERS)
    replicated.outcomes.clear()
    with replicated.paused():
        for name in ("alice", "bob"):
            cast.clients["owner"].patch(f"/api/patients/{cast.id_of('patient', 'own', name)}/", {"phone": "1"}, "json")
        found += find_deviations(cast)
    assert replicated.outcomes["behind"] > 0
    assert found == []


def find_deviations(cast: Cast) -> list[str]:
    found = []
    for row, caller in itertools.product(map(row_of, LISTS), CALLERS):
        method = "POST" if row.route.endswith("search/") else "GET"
        for target in targets_of(row, method, caller) if caller in row.callers() else []:
            answer = send_cell(cast, row, method, caller, target)
            status, expected = answer.status_code, row.expected(method, caller, target)
            faults = [] if status == expected else [f"{status}"]
            faults += protocol_faults(status, answer.headers, answer.content, errors=row.errors)
            faults += acting_faults(row, method, caller, target, answer)
            cell = f"{method} /{row.route} as {caller}, {target or '-'}, expected {expected}"
            found += [f"{cell}: {fault}" for fault in faults]
    return found


class CallsWithStandby(Calls):
    """The calls are committed. The standby replays nothing from one write on until two writes later, and so on."""

    replicated: Replicated

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.model = Model()
        self.client = logged_in(self.replicated.new_user())
        self.writes = 0
        self.go_on()

    def teardown(self) -> None:
        self.treating_doctors_are_those_of_the_model()
        self.go_on()

    def go_on(self) -> None:
        execute(self.replicated.standby.url, "SELECT pg_wal_replay_resume()")
        self.replicated.wait_for_standby()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        if method != "GET":
            self.writes += 1
            if self.writes % 4 == 1:
                execute(self.replicated.standby.url, "SELECT pg_wal_replay_pause()")
            elif self.writes % 4 == 3:
                self.go_on()
        return super().call(method, path, body, **headers)


def test_every_sequence_of_calls_does_what_the_model_says(replicated: Replicated) -> None:
    total: Counter[str] = replicated.outcomes
    CallsWithStandby.replicated = replicated
    run_state_machine_as_test(CallsWithStandby, settings=PROFILE)
    assert total["served"] > 20
    assert total["behind"] > 20
    assert total.keys() <= {"served", "behind", "other"}
