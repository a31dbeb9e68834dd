"""Password changes that race with logins and with each other, over real connections."""

from functools import partial

from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import Answer, LiveServer

LOGIN, CHANGE = "/api/auth/login/", "/api/auth/password/"


def works(live: LiveServer, tokens: dict[str, str]) -> bool:
    return live.call("GET", "/api/auth/me/", token=tokens["access"]).status == 200


def change(live: LiveServer, tokens: dict[str, str], current: str, new: str) -> partial[Answer]:
    return partial(live.call, "POST", CHANGE, {"current_password": current, "new_password": new}, tokens["access"])


def test_a_login_with_the_old_password_never_survives_the_change(live: LiveServer):
    user, tokens = live.register()
    current = PASSWORD
    for turn in range(10):
        new = f"Kf7-twelve-{turn}"
        login = partial(live.call, "POST", LOGIN, {"username": user["username"], "password": current})
        changed, *logins = call_concurrently(change(live, tokens, current, new), *[login] * 3)
        assert changed.status == 204
        assert {answer.status for answer in logins} <= {200, 401}
        assert not any(works(live, answer.json) for answer in logins if answer.status == 200)
        assert works(live, tokens)
        current = new


def test_a_token_made_with_the_old_password_never_survives_the_change(live: LiveServer):
    user, tokens = live.register()
    current = PASSWORD
    for turn in range(5):
        other = live.call("POST", LOGIN, {"username": user["username"], "password": current}).json["access"]
        body = {"name": "Export", "scope": "read", "current_password": current}
        create = partial(live.call, "POST", "/api/auth/tokens/", body, other)
        new = f"Kf7-token-{turn}"
        changed, *created = call_concurrently(change(live, tokens, current, new), *[create] * 3)
        assert changed.status == 204
        assert {answer.status for answer in created} <= {201, 400, 401}
        texts = [answer.json["token"] for answer in created if answer.status == 201]
        assert [live.call("GET", "/api/auth/me/", token=text).status for text in texts] == [401] * len(texts)
        assert live.call("GET", "/api/auth/tokens/", token=tokens["access"]).json == []
        current = new


def test_of_two_concurrent_changes_one_succeeds_and_revokes_the_other_session(live: LiveServer):
    user, first = live.register()
    current = PASSWORD
    for turn in range(10):
        second = live.call("POST", LOGIN, {"username": user["username"], "password": current}).json
        passwords = {0: f"Kf7-first-{turn}", 1: f"Kf7-second-{turn}"}
        sessions = [first, second]
        answers = call_concurrently(
            *[change(live, sessions[number], current, new) for number, new in passwords.items()]
        )
        # The other one came too late: its session has ended, or its password is no longer the current one.
        assert [answer.status for answer in answers].count(204) == 1
        assert {answer.status for answer in answers} <= {204, 400, 401}
        winner = [answer.status for answer in answers].index(204)
        assert [works(live, session) for session in sessions] == [winner == 0, winner == 1]
        first, current = sessions[winner], passwords[winner]
        assert live.call("POST", LOGIN, {"username": user["username"], "password": current}).status == 200
