"""The e-mails that the user gets about changes to how they log in."""

import pytest

from accounts.tests.smtp_server import SMTPServer
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)
NEW = {"name": "Backup", "scope": "read", "current_password": PASSWORD}


def subjects(mail_server: SMTPServer) -> list[tuple[str, str]]:
    return [(recipient, str(message["Subject"])) for recipient, message in mail_server.take()]


def test_a_changed_password_sends_an_email(as_alice: LoggedInClient, mail_server: SMTPServer):
    body = {"current_password": PASSWORD, "new_password": "Another-Pass-9"}
    assert as_alice.post("/api/auth/password/", {**body, "current_password": "wrong"}).status_code == 400
    assert as_alice.post("/api/auth/password/", body).status_code == 204
    assert subjects(mail_server) == [("alice@example.org", "Your password was changed")]


def test_a_new_token_sends_an_email_without_it(as_alice: LoggedInClient, mail_server: SMTPServer):
    assert as_alice.post("/api/auth/tokens/", {**NEW, "scope": "all"}).status_code == 400
    answer = as_alice.post("/api/auth/tokens/", NEW).json()
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["Subject"]) == ("alice@example.org", "A personal access token was created")
    assert answer["token"] not in message.as_string()
