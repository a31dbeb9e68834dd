"""Confirmations of one token at the same time, over real connections: one wins."""

import uuid
from functools import partial
from typing import Any

from accounts.email_links.tests.links import CHANGE, LOGIN, ME, RESET, RESET_CONFIRM, VERIFY_CONFIRM, link_in
from accounts.tests.smtp_server import SMTPServer
from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer

SUBJECTS = {RESET: "Reset your password", CHANGE: "Confirm your new e-mail"}


def asked(server: LiveServer, emails: SMTPServer, path: str, body: dict[str, Any], token: str = "") -> dict[str, str]:
    """The link that this call has the server send to `email` of the body."""
    seen = len(emails.received)
    assert server.call("POST", path, body, token).status == 202
    return link_in(emails.wait_for(body["email"], SUBJECTS[path], seen))


def test_of_concurrent_resets_by_one_token_one_succeeds(live: LiveServer, live_emails: SMTPServer):
    user, _ = live.register()
    for turn in range(3):
        link = asked(live, live_emails, RESET, {"email": user["email"]})
        passwords = [f"Kf7-reset-{turn}-{number}" for number in range(4)]
        answers = call_concurrently(
            *(partial(live.call, "POST", RESET_CONFIRM, link | {"new_password": one}) for one in passwords)
        )
        assert sorted_statuses(answers) == [204, 400, 400, 400]
        logins = [live.call("POST", LOGIN, {"username": user["username"], "password": one}) for one in passwords]
        assert [login.status == 200 for login in logins] == [answer.status == 204 for answer in answers]


def test_of_concurrent_verifications_by_the_link_of_a_registration_one_succeeds(
    live: LiveServer, live_emails: SMTPServer
):
    user, tokens = live.register()
    link = link_in(live_emails.wait_for(user["email"], "Confirm your e-mail"))
    answers = call_concurrently(*[partial(live.call, "POST", VERIFY_CONFIRM, link)] * 4)
    assert sorted_statuses(answers) == [204, 400, 400, 400]
    assert live.call("GET", ME, token=tokens["access"]).json["email_verified"] is True


def test_of_concurrent_changes_to_one_address_one_succeeds(live: LiveServer, live_emails: SMTPServer):
    email = f"{uuid.uuid4().hex}@example.org"
    accounts = [live.register() for _ in range(3)]
    body = {"email": email, "current_password": PASSWORD}
    links = [asked(live, live_emails, CHANGE, body, tokens["access"]) for _, tokens in accounts]
    answers = call_concurrently(*(partial(live.call, "POST", VERIFY_CONFIRM, link) for link in links))
    assert sorted_statuses(answers) == [204, 400, 400]
    emails = [live.call("GET", ME, token=tokens["access"]).json["email"] for _, tokens in accounts]
    assert [one == email for one in emails] == [answer.status == 204 for answer in answers]


def test_a_login_with_the_old_password_never_survives_the_reset(live: LiveServer, live_emails: SMTPServer):
    user, _ = live.register()
    current = PASSWORD
    for turn in range(3):
        new = f"Kf7-twelve-{turn}"
        link = asked(live, live_emails, RESET, {"email": user["email"]})
        login = partial(live.call, "POST", LOGIN, {"username": user["username"], "password": current})
        reset = partial(live.call, "POST", RESET_CONFIRM, link | {"new_password": new})
        changed, *logins = call_concurrently(reset, *[login] * 3)
        assert changed.status == 204
        assert {answer.status for answer in logins} <= {200, 401}
        for answer in logins:
            assert answer.status == 401 or live.call("GET", ME, token=answer.json["access"]).status == 401
        current = new
