"""Concurrent refreshes of one token, over real connections."""

from functools import partial

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer


def test_eight_concurrent_refreshes_of_one_token_get_one_pair(live: LiveServer):
    _, tokens = live.register()
    for _ in range(20):
        refresh = partial(live.call, "POST", "/api/auth/refresh/", {"refresh": tokens["refresh"]})
        answers = call_concurrently(*[refresh] * 8)
        assert sorted_statuses(answers) == [200] * 8
        assert len({answer.body for answer in answers}) == 1
        assert answers[0].json["refresh"] != tokens["refresh"]
        tokens = answers[0].json
        # The access token works; the next round shows that the refresh token does.
        assert live.call("GET", "/api/auth/me/", token=tokens["access"]).status == 200


def test_concurrent_refreshes_of_a_token_and_its_predecessor_leave_no_second_line_of_tokens(live: LiveServer):
    """Whichever order they take effect in: either the older one repeats nothing, or it ends the session."""
    for _ in range(10):
        _, first = live.register()
        second = live.call("POST", "/api/auth/refresh/", {"refresh": first["refresh"]}).json
        bodies = [{"refresh": first["refresh"]}, {"refresh": second["refresh"]}] * 2
        answers = call_concurrently(*[partial(live.call, "POST", "/api/auth/refresh/", body) for body in bodies])
        assert {answer.status for answer in answers} <= {200, 401}
        newest = {answer.body for answer in answers if answer.status == 200 and answer.json != second}
        assert len(newest) <= 1
        ended = live.call("GET", "/api/auth/me/", token=second["access"]).status == 401
        assert ended is any(answer.status == 401 for answer in answers)
