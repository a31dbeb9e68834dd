"""The e-mails that the user gets about changes of the second factor."""

import pytest

from accounts.second_factor.tests.conftest import App
from accounts.tests.smtp_server import SMTPServer
from accounts.tests.test_emails_about_changes import subjects
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_second_factor_that_is_set_up_and_removed_sends_emails(
    as_alice: LoggedInClient, mail_server: SMTPServer, app: App
):
    assert subjects(mail_server) == [("alice@example.org", "Your account has a second factor")]
    proof = {"current_password": PASSWORD, "otp": app.code()}
    assert as_alice.delete("/api/auth/otp/", {**proof, "otp": app.wrong_code()}).status_code == 400
    assert subjects(mail_server) == []
    assert as_alice.delete("/api/auth/otp/", proof).status_code == 204
    assert subjects(mail_server) == [("alice@example.org", "Your second factor was removed")]
