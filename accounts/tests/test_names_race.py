"""Concurrent requests that name unknown users cannot exceed the limit together."""

from functools import partial

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer


def test_of_forty_concurrent_unknown_names_twenty_are_reported(live: LiveServer, limited: LiveServer):
    token = live.register()[1]["access"]
    body = {"delegate": "nobody", "role": "read"}
    answers = call_concurrently(*[partial(limited.call, "POST", "/api/delegations/", body, token)] * 40)
    assert sorted_statuses(answers) == [400] * 20 + [429] * 20
