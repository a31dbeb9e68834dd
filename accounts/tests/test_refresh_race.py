"""Concurrent refreshes of one token, over real connections."""

from functools import partial

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer


def test_of_eight_concurrent_refreshes_of_one_token_one_succeeds(live: LiveServer):
    _, tokens = live.register()
    for _ in range(40):
        refresh = partial(live.call, "POST", "/api/auth/refresh/", {"refresh": tokens["refresh"]})
        answers = call_concurrently(*[refresh] * 8)
        assert sorted_statuses(answers) == [200] + [401] * 7
        tokens = next(answer.json for answer in answers if answer.status == 200)
        # The winner's access token works; the next round shows that its refresh token does.
        assert live.call("GET", "/api/auth/me/", token=tokens["access"]).status == 200
