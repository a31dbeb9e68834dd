"""`manage.py reset_otp`"""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from accounts.models import User
from accounts.second_factor.models import RecoveryCode, SecondFactor
from accounts.second_factor.rules import begin_factor
from accounts.second_factor.tests.conftest import App
from conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)


def reset(username: str = "alice", reason: str = "Request 17") -> str:
    printed = StringIO()
    call_command("reset_otp", username, reason=reason, stdout=printed)
    return printed.getvalue()


@pytest.mark.parametrize("name", ["alice", "Alice@Example.org"])
def test_the_password_alone_logs_in_afterwards_and_the_user_is_told(
    app: App, anonymous: APIClient, mail_server: Any, name: str
):
    assert reset(name) == "Removed the second factor; the password alone logs this user in.\n"
    assert not SecondFactor.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert anonymous.post("/api/auth/login/", {"username": "alice", "password": PASSWORD}).status_code == 200
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["Subject"]) == ("alice@example.org", "Your second factor was removed")
    assert "alice" not in str(message.get_payload()).lower()
    assert "Request 17" not in str(message.get_payload())


def test_an_unconfirmed_factor_is_removed_too(alice: User):
    begin_factor(alice)
    reset()
    assert not SecondFactor.objects.exists()


def test_without_a_user_a_factor_or_a_reason_nothing_happens(app: App, bob: User, mail_server: Any):
    for username, reason, error in (
        ("nobody", "Request 17", "There is no user with this username."),
        ("bob", "Request 17", "This user has no second factor."),
        ("alice", " ", "--reason: This field cannot be blank."),
        ("alice", "x" * 501, "--reason: Ensure this value has at most 500 characters"),
        ("alice", "two\nlines", "--reason: "),
    ):
        with pytest.raises(CommandError, match=f"^{error}"):
            reset(username, reason)
    with pytest.raises(CommandError, match="--reason"):
        call_command("reset_otp", "alice")
    assert SecondFactor.objects.count() == 1
    assert mail_server.take() == []
