"""The counts of attempts of an account are found, though their keys are hashes."""

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.leaving.attempts import attempts_of
from accounts.models import Attempts, User
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_counts_of_e_mails_with_links_are_found(
    alice: User, as_alice: LoggedInClient, anonymous: APIClient, settings: Settings
):
    settings.EMAIL_CONFIGURED = True
    answers = [
        anonymous.post("/api/auth/password/reset/", {"email": "Alice@example.org"}),
        anonymous.post("/api/auth/email/verify/", {"email": "alice@example.org"}),
        as_alice.post("/api/auth/email/", {"email": "New@example.org", "current_password": PASSWORD}),
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    alice.refresh_from_db()
    counted = {*Attempts.objects.filter(kind="e-mails to").values_list("key", flat=True)}
    assert len(counted) == 3
    assert counted <= attempts_of(alice)


def test_the_counts_of_a_session_and_of_logins_from_its_address_are_found(
    alice: User, bob: User, as_alice: LoggedInClient, anonymous: APIClient
):
    for user in (alice, bob):
        anonymous.post("/api/auth/login/", {"username": user.username, "password": "Another-Pass-9"})
    as_alice.patch("/api/auth/me/", {"email": "x@example.org", "current_password": "Another-Pass-9"})
    found = Attempts.objects.filter(key__in=attempts_of(alice))
    assert sorted(found.values_list("kind", flat=True)) == ["account", "pair", "session"]
    others = Attempts.objects.exclude(key__in=attempts_of(alice))
    assert sorted(others.values_list("kind", flat=True)) == ["account", "address", "pair"]
