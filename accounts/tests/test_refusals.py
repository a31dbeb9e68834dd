"""Every 429 of the limits that PostgreSQL counts says which limit was reached: RateLimit and RateLimit-Policy."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import limits
from accounts.email_links import limits as email_limits
from accounts.limits import attempts_key, pair_key
from accounts.models import Attempts, User
from conftest import PASSWORD, LoggedInClient
from healthcare.api.rate_limits import RatePolicy
from healthcare.operations import metrics

HOUR = timedelta(minutes=59)


def waiting(*keys: str, count: int = 2000) -> None:
    Attempts.objects.bulk_create(Attempts(key=key, count=count, until=timezone.now() + HOUR) for key in keys)


def check_refusal(answer: Any, policy: str) -> None:
    assert answer.status_code == 429
    wait = int(answer["Retry-After"])
    assert 3500 < wait <= 3600
    name = policy.partition(";")[0]
    assert (answer["RateLimit-Policy"], answer["RateLimit"]) == (policy, f"{name};r=0;t={wait}")


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("pair", '"failures";q=10;w=900'),
        ("account", '"failures";q=100;w=86400'),
        ("address", '"failures";q=1000;w=900'),
    ],
)
@pytest.mark.parametrize("path", ["/api/auth/login/", "/admin/login/"])
def test_a_refused_login(alice: User, anonymous: APIClient, kind: str, policy: str, path: str) -> None:
    account = attempts_key("account", str(alice.pk))
    keys = {"pair": pair_key("127.0.0.1", account), "account": account, "address": attempts_key("address", "127.0.0.1")}
    waiting(keys[kind])
    client = anonymous if path.startswith("/api/") else Client()
    check_refusal(client.post(path, {"username": "alice", "password": PASSWORD}), policy)


def test_a_refused_registration(anonymous: APIClient) -> None:
    waiting(attempts_key("registration", "127.0.0.1"))
    body = {"name": "Ana", "email": "ana@example.org", "password": PASSWORD}
    check_refusal(anonymous.post("/api/auth/register/", body), '"registrations";q=60;w=3600')


def test_a_refused_change_of_the_password(as_alice: LoggedInClient) -> None:
    waiting(attempts_key("session", str(as_alice.login_session.pk)))
    body = {"current_password": PASSWORD, "new_password": "EvenStronger456"}
    check_refusal(as_alice.post("/api/auth/password/", body), '"failures";q=10;w=900')


def test_a_refused_change_of_the_email(as_alice: LoggedInClient, alice: User) -> None:
    waiting(attempts_key("email change", str(alice.pk)))
    body = {"email": "ana@example.org", "current_password": PASSWORD}
    check_refusal(as_alice.patch("/api/auth/me/", body), '"e-mail-changes";q=20;w=3600')


def test_the_policy_states_the_scaled_limit(anonymous: APIClient, settings: Any) -> None:
    settings.THROTTLE_SCALE = 3
    waiting(attempts_key("registration", "127.0.0.1"))
    body = {"name": "Ana", "email": "ana@example.org", "password": PASSWORD}
    check_refusal(anonymous.post("/api/auth/register/", body), '"registrations";q=180;w=3600')


def test_the_metrics_name_each_of_these_limits() -> None:
    policies = [
        one for module in (limits, email_limits) for one in vars(module).values() if isinstance(one, RatePolicy)
    ]
    assert len(policies) == 9
    assert {policy.name for policy in policies} <= {*metrics.BUCKET_LIMITS}
