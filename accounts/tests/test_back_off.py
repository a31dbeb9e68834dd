"""Failed logins have to wait, longer each time. Times are moved in the database instead of slept through."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import limits
from accounts.models import Attempts, User
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/api/auth/login/"
HOUR = range(3000, 3601)  # seconds: the first wait, see `waits_are_hours`, less what a test takes


@pytest.fixture(autouse=True)
def waits_are_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of as many hours as they have seconds, so that no machine is slow enough to sit one out within a test."""
    seconds, hours = "interval '1 second'", "interval '1 hour'"
    assert limits.COUNT_LOGIN_ATTEMPT.count(seconds) == 2
    monkeypatch.setattr(limits, "COUNT_LOGIN_ATTEMPT", limits.COUNT_LOGIN_ATTEMPT.replace(seconds, hours))


@pytest.fixture
def waits_are_seconds(waits_are_hours: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits as they are, for the tests that measure them."""
    monkeypatch.undo()


def fail(client: APIClient, username: str = "alice", **request: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": "WrongPass123"}, **request)


def succeed(client: APIClient, username: str = "alice", **request: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": PASSWORD}, **request)


def had_failures(kind: str, whom: str, count: int) -> None:
    """As if this account or address had failed so often just now."""
    Attempts.objects.update_or_create(key=limits.attempts_key(kind, whom), defaults={"count": count, "until": past()})


def past(**ago: float) -> Any:
    return timezone.now() - timedelta(**(ago or {"seconds": 1}))


def let_waits_pass() -> None:
    Attempts.objects.update(until=past())


def test_ten_failures_are_free_and_the_eleventh_waits(alice: User, anonymous: APIClient):
    assert [fail(anonymous).status_code for _ in range(10)] == [401] * 10
    answer = fail(anonymous)
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) in HOUR
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["title"] == "Too Many Requests"


def test_waits_double_up_to_fifteen_minutes(waits_are_seconds: None, alice: User, anonymous: APIClient):
    had_failures("account", str(alice.pk), 9)
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]:
        before = timezone.now()
        assert fail(anonymous).status_code == 401
        until = Attempts.objects.get(key=limits.attempts_key("account", str(alice.pk))).until
        assert before <= until - timedelta(seconds=wait) <= timezone.now()
        let_waits_pass()


def test_retry_after_says_how_long_to_wait(waits_are_seconds: None, alice: User, anonymous: APIClient):
    had_failures("account", str(alice.pk), 30)
    fail(anonymous)
    assert 800 < int(fail(anonymous)["Retry-After"]) <= 900


def test_even_the_right_password_waits(alice: User, anonymous: APIClient):
    had_failures("account", str(alice.pk), 15)
    assert fail(anonymous).status_code == 401
    assert succeed(anonymous).status_code == 429
    let_waits_pass()
    assert succeed(anonymous).status_code == 200


def test_a_refused_attempt_makes_the_wait_no_longer(alice: User, anonymous: APIClient):
    had_failures("account", str(alice.pk), 15)
    fail(anonymous)
    before = sorted(Attempts.objects.values_list("key", "count", "until"))
    assert fail(anonymous).status_code == 429
    assert sorted(Attempts.objects.values_list("key", "count", "until")) == before


def test_a_success_forgets_the_accounts_failures(alice: User, anonymous: APIClient):
    had_failures("account", str(alice.pk), 9)
    assert succeed(anonymous).status_code == 200
    assert [fail(anonymous).status_code for _ in range(11)] == [401] * 10 + [429]


def test_a_success_resets_only_the_callers_own_failures(alice: User, bob: User, anonymous: APIClient):
    had_failures("account", str(bob.pk), 9)
    succeed(anonymous)
    assert [fail(anonymous, "bob").status_code for _ in range(2)] == [401, 429]


def test_successes_do_not_count_against_the_address(alice: User, anonymous: APIClient):
    had_failures("address", "127.0.0.1", 99)
    assert [succeed(anonymous).status_code for _ in range(3)] == [200] * 3
    assert Attempts.objects.get().count == 99
    assert [fail(anonymous).status_code for _ in range(2)] == [401, 429]


def test_a_success_forgets_none_of_the_addresss_failures(alice: User, anonymous: APIClient):
    fail(anonymous, "nobody")
    succeed(anonymous)
    assert Attempts.objects.get(key=limits.attempts_key("address", "127.0.0.1")).count == 1


def test_a_hundred_failures_from_an_address_are_free(alice: User, bob: User, anonymous: APIClient):
    had_failures("address", "127.0.0.1", 98)
    assert [fail(anonymous, f"nobody{number}").status_code for number in range(3)] == [401, 401, 429]
    assert succeed(anonymous).status_code == 429
    assert succeed(anonymous, REMOTE_ADDR="203.0.113.9").status_code == 200


def test_what_waits_for_its_account_is_no_failure_of_the_address(alice: User, anonymous: APIClient):
    had_failures("account", str(alice.pk), 15)
    answers = [fail(anonymous).status_code for _ in range(5)]
    assert answers == [401] + [429] * 4
    assert Attempts.objects.get(key=limits.attempts_key("address", "127.0.0.1")).count == 1


def test_an_account_waits_from_every_address(alice: User, anonymous: APIClient):
    addresses = [f"203.0.113.{number}" for number in range(11)]
    answers = [fail(anonymous, REMOTE_ADDR=address).status_code for address in addresses]
    assert answers == [401] * 10 + [429]


def test_an_unknown_account_waits_like_one_that_exists(anonymous: APIClient):
    spellings = ["nobody", "NOBODY", " nobody", "ｎｏｂｏｄｙ"] * 3
    answers = [fail(anonymous, spelling) for spelling in spellings]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert int(answers[10]["Retry-After"]) in HOUR


def test_username_and_email_share_one_count(alice: User, anonymous: APIClient):
    spellings = ["alice", "alice@example.org", "ALICE", "Alice@Example.org"] * 3
    assert [fail(anonymous, spelling).status_code for spelling in spellings] == [401] * 10 + [429] * 2


def test_an_unknown_number_does_not_count_against_the_user_with_that_id(alice: User, anonymous: APIClient):
    assert [fail(anonymous, str(alice.pk)).status_code for _ in range(11)] == [401] * 10 + [429]
    assert succeed(anonymous).status_code == 200


@pytest.mark.parametrize(("minutes", "answers"), [(14, [401, 429]), (16, [401] * 10 + [429])])
def test_the_count_restarts_fifteen_minutes_after_the_wait(
    alice: User, anonymous: APIClient, minutes: int, answers: list[int]
):
    had_failures("account", str(alice.pk), 15)
    Attempts.objects.update(until=past(minutes=minutes))
    assert [fail(anonymous).status_code for _ in answers] == answers


def test_a_wrong_current_password_counts_like_a_wrong_login(as_alice: LoggedInClient, anonymous: APIClient):
    wrong = {"current_password": "WrongPass123", "new_password": "Kf7-twelve"}
    assert [as_alice.post("/api/auth/password/", wrong).status_code for _ in range(10)] == [400] * 10
    refused = as_alice.post("/api/auth/password/", wrong)
    assert (refused.status_code, int(refused["Retry-After"]) in HOUR) == (429, True)
    assert succeed(anonymous).status_code == 429
    assert as_alice.get("/api/auth/me/").status_code == 200  # being logged in is not affected


def test_the_throttle_scale_multiplies_the_free_failures(alice: User, anonymous: APIClient, settings: Any):
    settings.THROTTLE_SCALE = 2
    had_failures("account", str(alice.pk), 18)
    assert [fail(anonymous).status_code for _ in range(3)] == [401, 401, 429]


def test_a_success_clears_away_what_counts_no_longer(alice: User, anonymous: APIClient):
    Attempts.objects.bulk_create(
        Attempts(key=limits.attempts_key("unknown", str(number)), count=1, until=past(hours=25))
        for number in range(150)
    )
    succeed(anonymous)
    assert Attempts.objects.filter(until__lt=past(hours=24)).count() == 50
    succeed(anonymous)
    assert not Attempts.objects.filter(until__lt=past(hours=24)).exists()


def test_forwarded_addresses_are_not_believed_without_a_proxy(alice: User, anonymous: APIClient):
    had_failures("address", "127.0.0.1", 99)
    answers = [fail(anonymous, f"nobody{n}", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}").status_code for n in range(3)]
    assert answers == [401, 429, 429]


def test_behind_one_proxy_the_last_forwarded_address_counts(alice: User, anonymous: APIClient, settings: Any):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    had_failures("address", "203.0.113.7", 99)
    claimed = [f"198.51.100.{number}, 203.0.113.7" for number in range(2)]
    assert [fail(anonymous, "nobody", HTTP_X_FORWARDED_FOR=header).status_code for header in claimed] == [401, 429]
    assert fail(anonymous, "nobody", HTTP_X_FORWARDED_FOR="203.0.113.7, 203.0.113.8").status_code == 401


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7", "203.0.113.7"),
        ("", ""),
    ],
)
def test_an_ipv6_client_is_its_network_of_64_bits(anonymous: APIClient, address: str, counted: str):
    had_failures("address", counted, 99)
    answers = [fail(anonymous, f"nobody{number}", REMOTE_ADDR=address).status_code for number in range(2)]
    assert answers == [401, 429]
