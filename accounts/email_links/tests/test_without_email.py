"""Where e-mail is not configured the calls about links answer 404, and everything else is as it was."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings as project_settings
from rest_framework.test import APIClient

from accounts.email_links.tests.links import CHANGE, ME, RESET, RESET_CONFIRM, VERIFY, VERIFY_CONFIRM
from accounts.models import Attempts
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_calls_answer_404_and_say_why(as_alice: LoggedInClient, anonymous: APIClient, settings: Any):
    assert not settings.EMAIL_CONFIGURED
    for path in (RESET, RESET_CONFIRM, VERIFY, VERIFY_CONFIRM, CHANGE):
        for client, body in ((anonymous, {"email": "alice@example.org"}), (anonymous, {}), (as_alice, {})):
            answer = client.post(path, body)
            assert (answer.status_code, answer.json()["code"]) == (404, "email_not_configured")
            assert "sends no e-mails" in answer.json()["detail"]
    assert not Attempts.objects.exists()


def test_the_email_of_an_account_changes_at_once(as_alice: LoggedInClient):
    answer = as_alice.patch(ME, {"email": "cooper@example.org", "current_password": PASSWORD})
    assert (answer.status_code, answer.json()["email"], answer.json()["email_verified"]) == (
        200, "cooper@example.org", False,
    )  # fmt: skip


def test_while_developing_they_are_written_to_the_console():
    """With DEBUG and no EMAIL_URL."""
    code = (
        "import django; django.setup(); from accounts.email_links.messages import RESET; from accounts import mail; "
        "from accounts.models import User; mail.send_later(['a@example.org'], RESET.subject, RESET.body(User(pk=7)))"
    )
    environment = {
        **os.environ, "DEBUG": "True", "EMAIL_URL": "", "PUBLIC_URL": "http://localhost:3000",
        "DJANGO_SETTINGS_MODULE": "healthcare.settings",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project_settings.BASE_DIR, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "To: a@example.org" in done.stdout
    assert "http://localhost:3000/reset-password?uid=Nw&token=" in done.stdout
