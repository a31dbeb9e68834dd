"""Failed logins have to wait, longer each time. Times are moved in the database instead of slept through."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import limits
from accounts.models import Attempts, LoginAddress, User
from accounts.tests.answers import without_request_id
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/api/auth/login/"
GUESSER = "203.0.113.7"
HOUR = range(3000, 3601)  # seconds: the first wait, see `waits_are_hours`, less what a test takes


@pytest.fixture(autouse=True)
def waits_are_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of as many hours as they have seconds, so that no machine is slow enough to sit one out within a test."""
    seconds, hours = "interval '1 second'", "interval '1 hour'"
    for name, waits in (("COUNT_LOGIN_ATTEMPT", 6), ("COUNT_SESSION_ATTEMPT", 2)):
        statement = getattr(limits, name)
        assert statement.count(seconds) == waits
        monkeypatch.setattr(limits, name, statement.replace(seconds, hours))


@pytest.fixture
def waits_are_seconds(waits_are_hours: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits as they are, for the tests that measure them."""
    monkeypatch.undo()


def fail(client: APIClient, username: str = "alice", **request: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": "WrongPass123"}, **request)


def succeed(client: APIClient, username: str = "alice", **request: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": PASSWORD}, **request)


def key_of(kind: str, whom: str, address: str = "127.0.0.1") -> str:
    """The key of an address, an account, or ("pair") of an account from an address."""
    if kind == "pair":
        return limits.pair_key(address, limits.attempts_key("account", whom))
    return limits.attempts_key(kind, whom)


def had_failures(kind: str, whom: Any, count: int, address: str = "127.0.0.1") -> None:
    """As if this account, address or pair had failed so often just now."""
    key = key_of(kind, str(whom), address)
    Attempts.objects.update_or_create(key=key, defaults={"count": count, "until": past()})


def count_of(kind: str, whom: Any, address: str = "127.0.0.1") -> int | None:
    return Attempts.objects.filter(key=key_of(kind, str(whom), address)).values_list("count", flat=True).first()


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


@pytest.mark.parametrize(("kind", "free"), [("pair", 10), ("account", 100)])
def test_waits_double_up_to_fifteen_minutes(
    waits_are_seconds: None, alice: User, anonymous: APIClient, kind: str, free: int
):
    had_failures(kind, alice.pk, free - 1)
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]:
        Attempts.objects.exclude(key=key_of(kind, str(alice.pk))).delete()
        before = timezone.now()
        assert fail(anonymous).status_code == 401
        until = Attempts.objects.get(key=key_of(kind, str(alice.pk))).until
        assert before <= until - timedelta(seconds=wait) <= timezone.now()
        let_waits_pass()


def test_retry_after_says_how_long_to_wait(waits_are_seconds: None, alice: User, anonymous: APIClient):
    had_failures("pair", alice.pk, 30)
    fail(anonymous)
    assert 800 < int(fail(anonymous)["Retry-After"]) <= 900


def test_even_the_right_password_waits(alice: User, anonymous: APIClient):
    had_failures("pair", alice.pk, 15)
    assert fail(anonymous).status_code == 401
    assert succeed(anonymous).status_code == 429
    let_waits_pass()
    assert succeed(anonymous).status_code == 200


@pytest.mark.parametrize("kind", ["pair", "account", "address"])
def test_a_refused_attempt_counts_nowhere(alice: User, anonymous: APIClient, kind: str):
    had_failures(kind, "127.0.0.1" if kind == "address" else alice.pk, 2000)
    fail(anonymous)
    before = sorted(Attempts.objects.values_list("key", "count", "until"))
    assert fail(anonymous).status_code == 429
    assert sorted(Attempts.objects.values_list("key", "count", "until")) == before


# A guesser and the owner


def test_a_guesser_elsewhere_does_not_lock_the_owner_out(alice: User, staff: User, anonymous: APIClient):
    for name in ("alice", "staff"):
        answers = [fail(anonymous, name, REMOTE_ADDR=GUESSER).status_code for _ in range(17)]
        assert answers == [401] * 10 + [429] * 7
        assert succeed(anonymous, name, REMOTE_ADDR=GUESSER).status_code == 429
        assert succeed(anonymous, name).status_code == 200


def test_many_addresses_that_guess_one_password_are_slowed_down_together(alice: User, anonymous: APIClient):
    had_failures("account", alice.pk, 98)
    answers = [fail(anonymous, REMOTE_ADDR=f"203.0.113.{number}").status_code for number in range(3)]
    assert answers == [401, 401, 429]
    assert succeed(anonymous, REMOTE_ADDR="203.0.113.99").status_code == 429


def test_an_address_that_logged_in_before_does_not_wait_for_its_account(alice: User, anonymous: APIClient):
    succeed(anonymous)
    had_failures("account", alice.pk, 500)
    assert [fail(anonymous, REMOTE_ADDR=GUESSER).status_code for _ in range(2)] == [401, 429]
    assert [succeed(anonymous).status_code for _ in range(3)] == [200] * 3
    assert count_of("account", alice.pk) == 501  # neither counted nor taken back


def test_an_address_that_logged_in_before_has_its_own_limit(alice: User, anonymous: APIClient):
    succeed(anonymous)
    assert [fail(anonymous).status_code for _ in range(11)] == [401] * 10 + [429]
    assert (count_of("account", alice.pk), count_of("pair", alice.pk)) == (0, 10)


def test_an_address_is_known_to_the_accounts_that_logged_in_from_it_alone(alice: User, bob: User, anonymous: APIClient):
    succeed(anonymous, "bob", REMOTE_ADDR=GUESSER)
    had_failures("account", alice.pk, 500)
    assert [fail(anonymous, REMOTE_ADDR=GUESSER).status_code for _ in range(2)] == [401, 429]
    assert fail(anonymous, REMOTE_ADDR="203.0.113.8").status_code == 429


def test_neither_a_failed_login_nor_a_token_makes_an_address_known(
    alice: User, as_alice: LoggedInClient, anonymous: APIClient
):
    fail(anonymous)
    as_alice.get("/api/auth/me/")
    assert not LoginAddress.objects.exists()


@pytest.mark.parametrize(("days", "status"), [(89, 200), (91, 429)])
def test_an_address_is_known_for_ninety_days(alice: User, anonymous: APIClient, days: int, status: int):
    succeed(anonymous)
    LoginAddress.objects.update(last_login_at=past(days=days))
    had_failures("account", alice.pk, 500)
    fail(anonymous, REMOTE_ADDR=GUESSER)
    assert succeed(anonymous).status_code == status
    assert LoginAddress.objects.get().last_login_at > past(days=1) or status == 429


@pytest.fixture
def nested_loops() -> Iterator[None]:
    """Plans in which PostgreSQL executes a subquery of IN once for each row."""
    others = ("hashjoin", "mergejoin", "hashagg", "sort", "material")
    with connection.cursor() as cursor:
        cursor.execute(";".join(f"SET enable_{other} = off" for other in others))
    yield
    with connection.cursor() as cursor:
        cursor.execute(";".join(f"RESET enable_{other}" for other in others))


@pytest.mark.usefixtures("nested_loops")
def test_known_addresses_that_are_too_old_are_deleted(alice: User, bob: User, anonymous: APIClient):
    LoginAddress.objects.bulk_create(
        LoginAddress(user=bob, network=f"203.0.113.{number}", last_login_at=past(days=91)) for number in range(150)
    )
    LoginAddress.objects.create(user=bob, network="203.0.113.200", last_login_at=past(days=89))
    for left in (52, 2):
        succeed(anonymous)
        assert LoginAddress.objects.count() == left


def test_the_admins_login_makes_its_address_known(staff: User, anonymous: APIClient):
    body = {"username": "staff", "password": PASSWORD, "next": "/admin/"}
    assert Client().post("/admin/login/", body, REMOTE_ADDR="2001:db8:1:2::7").status_code == 302
    assert [*LoginAddress.objects.values_list("user", "network")] == [(staff.pk, "2001:db8:1:2::/64")]
    had_failures("account", staff.pk, 500)
    fail(anonymous, "staff", REMOTE_ADDR=GUESSER)
    assert Client().post("/admin/login/", body, REMOTE_ADDR="2001:db8:1:2:ffff::1").status_code == 302
    assert Client().post("/admin/login/", body, REMOTE_ADDR="2001:db8:1:3::1").status_code == 429


# A clinic behind one address


def test_a_hundred_wrong_logins_behind_a_clinics_nat_do_not_lock_the_clinic(
    alice: User, bob: User, anonymous: APIClient
):
    for number in range(10):
        assert [fail(anonymous, f"nobody{number}").status_code for _ in range(10)] == [401] * 10
    assert [fail(anonymous, "bob").status_code for _ in range(11)] == [401] * 10 + [429]
    assert [succeed(anonymous).status_code for _ in range(2)] == [200] * 2


def test_a_thousand_failures_from_an_address_are_free(alice: User, anonymous: APIClient):
    had_failures("address", "127.0.0.1", 998)
    assert [fail(anonymous, f"nobody{number}").status_code for number in range(3)] == [401, 401, 429]
    assert succeed(anonymous).status_code == 429
    assert succeed(anonymous, REMOTE_ADDR=GUESSER).status_code == 200


def test_a_user_who_has_logged_in_from_an_address_does_not_wait_for_it(alice: User, bob: User, anonymous: APIClient):
    succeed(anonymous)
    had_failures("address", "127.0.0.1", 2000)
    assert [fail(anonymous, "bob").status_code, succeed(anonymous, "bob").status_code] == [401, 429]
    assert succeed(anonymous).status_code == 200
    assert count_of("address", "127.0.0.1") == 2001


def test_successes_do_not_count_against_the_address_or_the_account(alice: User, anonymous: APIClient):
    had_failures("address", "127.0.0.1", 99)
    had_failures("account", alice.pk, 50)
    assert [succeed(anonymous).status_code for _ in range(3)] == [200] * 3
    assert (count_of("address", "127.0.0.1"), count_of("account", alice.pk)) == (99, 50)


def test_a_success_forgets_the_failures_of_the_account_from_this_address(alice: User, anonymous: APIClient):
    had_failures("pair", alice.pk, 9)
    had_failures("pair", alice.pk, 9, GUESSER)
    assert succeed(anonymous).status_code == 200
    assert [fail(anonymous).status_code for _ in range(11)] == [401] * 10 + [429]
    assert [fail(anonymous, REMOTE_ADDR=GUESSER).status_code for _ in range(2)] == [401, 429]


def test_a_success_resets_only_the_callers_own_failures(alice: User, bob: User, anonymous: APIClient):
    had_failures("pair", bob.pk, 9)
    succeed(anonymous)
    assert [fail(anonymous, "bob").status_code for _ in range(2)] == [401, 429]


def test_a_success_forgets_none_of_the_addresss_failures(alice: User, anonymous: APIClient):
    fail(anonymous, "nobody")
    succeed(anonymous)
    assert count_of("address", "127.0.0.1") == 1


# Which account


def test_an_unknown_account_waits_like_one_that_exists(anonymous: APIClient):
    spellings = ["nobody", "NOBODY", " nobody", "ｎｏｂｏｄｙ"] * 3
    answers = [fail(anonymous, spelling) for spelling in spellings]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert int(answers[10]["Retry-After"]) in HOUR


def test_an_unknown_account_waits_for_all_addresses_like_one_that_exists(alice: User, anonymous: APIClient):
    had_failures("unknown", "nobody", 98)
    had_failures("account", alice.pk, 98)
    answers = {
        name: [fail(anonymous, name, REMOTE_ADDR=f"203.0.113.{number}") for number in range(3)]
        for name in ("alice", "nobody")
    }
    for known, unknown in zip(*answers.values(), strict=True):
        assert known.status_code == unknown.status_code
        assert without_request_id(known) == without_request_id(unknown)
        assert known.headers.keys() == unknown.headers.keys()


def test_username_and_email_share_one_count(alice: User, anonymous: APIClient):
    spellings = ["alice", "alice@example.org", "ALICE", "Alice@Example.org"] * 3
    assert [fail(anonymous, spelling).status_code for spelling in spellings] == [401] * 10 + [429] * 2


def test_an_unknown_number_does_not_count_against_the_user_with_that_id(alice: User, anonymous: APIClient):
    assert [fail(anonymous, str(alice.pk)).status_code for _ in range(11)] == [401] * 10 + [429]
    assert succeed(anonymous).status_code == 200


@pytest.mark.parametrize(
    ("kind", "passed", "answers"),
    [
        ("pair", {"minutes": 14}, [401, 429]),
        ("pair", {"minutes": 16}, [401] * 10 + [429]),
        ("account", {"hours": 23}, [401, 429]),
        ("account", {"hours": 25}, [401] * 10 + [429]),
    ],
)
def test_a_count_restarts_some_time_after_the_wait(
    alice: User, anonymous: APIClient, kind: str, passed: dict[str, float], answers: list[int]
):
    had_failures(kind, alice.pk, 200)
    Attempts.objects.update(until=past(**passed))
    assert [fail(anonymous).status_code for _ in answers] == answers


# The current password of a logged-in session


def change_password(client: LoggedInClient, current: str = "WrongPass123") -> Any:
    return client.post("/api/auth/password/", {"current_password": current, "new_password": "Kf7-twelve"})


def test_a_wrong_current_password_waits_like_a_wrong_login(as_alice: LoggedInClient):
    assert [change_password(as_alice).status_code for _ in range(10)] == [400] * 10
    refused = change_password(as_alice)
    assert (refused.status_code, int(refused["Retry-After"]) in HOUR) == (429, True)
    assert change_password(as_alice, PASSWORD).status_code == 429
    assert as_alice.get("/api/auth/me/").status_code == 200  # being logged in is not affected


def test_wrong_current_passwords_make_no_login_and_no_other_session_wait(
    as_alice: LoggedInClient, alice: User, anonymous: APIClient
):
    other = LoggedInClient(alice)
    assert [change_password(as_alice).status_code for _ in range(11)] == [400] * 10 + [429]
    assert succeed(anonymous).status_code == 200
    assert change_password(other, PASSWORD).status_code == 204


def test_failed_logins_make_no_password_change_wait(as_alice: LoggedInClient, alice: User, anonymous: APIClient):
    had_failures("account", alice.pk, 500)
    had_failures("address", "127.0.0.1", 2000)
    assert [fail(anonymous).status_code for _ in range(2)] == [401, 429]
    assert change_password(as_alice, PASSWORD).status_code == 204


def test_the_right_current_password_restarts_the_sessions_count(as_alice: LoggedInClient):
    assert [change_password(as_alice).status_code for _ in range(9)] == [400] * 9
    assert change_password(as_alice, PASSWORD).status_code == 204
    assert [change_password(as_alice).status_code for _ in range(11)] == [400] * 10 + [429]


def test_the_throttle_scale_multiplies_the_free_failures(alice: User, anonymous: APIClient, settings: Any):
    settings.THROTTLE_SCALE = 2
    had_failures("pair", alice.pk, 18)
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


# Which address


def test_forwarded_addresses_are_not_believed_without_a_proxy(alice: User, anonymous: APIClient):
    had_failures("address", "127.0.0.1", 999)
    answers = [fail(anonymous, f"nobody{n}", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}").status_code for n in range(3)]
    assert answers == [401, 429, 429]


def test_a_forged_forwarded_address_is_not_a_known_one(alice: User, anonymous: APIClient):
    succeed(anonymous, REMOTE_ADDR="198.51.100.1")
    had_failures("account", alice.pk, 500)
    forged = {"HTTP_X_FORWARDED_FOR": "198.51.100.1", "REMOTE_ADDR": GUESSER}
    assert [fail(anonymous, **forged).status_code for _ in range(2)] == [401, 429]


def test_behind_one_proxy_the_last_forwarded_address_counts(alice: User, anonymous: APIClient, settings: Any):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    had_failures("address", "203.0.113.7", 999)
    claimed = [f"198.51.100.{number}, 203.0.113.7" for number in range(2)]
    assert [fail(anonymous, "nobody", HTTP_X_FORWARDED_FOR=header).status_code for header in claimed] == [401, 429]
    assert fail(anonymous, "nobody", HTTP_X_FORWARDED_FOR="203.0.113.7, 203.0.113.8").status_code == 401


def test_behind_a_proxy_owner_and_guesser_are_told_apart(alice: User, anonymous: APIClient, settings: Any):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    assert [fail(anonymous, HTTP_X_FORWARDED_FOR=GUESSER).status_code for _ in range(11)] == [401] * 10 + [429]
    assert succeed(anonymous, HTTP_X_FORWARDED_FOR=f"{GUESSER}, 203.0.113.8").status_code == 200


def test_the_networks_of_a_known_address_are_those_that_are_counted(alice: User, anonymous: APIClient):
    succeed(anonymous, REMOTE_ADDR="2001:db8:1:2:3:4:5:6")
    had_failures("account", alice.pk, 500)
    fail(anonymous, REMOTE_ADDR=GUESSER)
    statuses = {
        address: succeed(anonymous, REMOTE_ADDR=address).status_code
        for address in ("2001:db8:1:2::1", "2001:db8:1:3::1", "::ffff:203.0.113.8")
    }
    assert [*statuses.values()] == [200, 429, 429]


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
    had_failures("address", counted, 999)
    answers = [fail(anonymous, f"nobody{number}", REMOTE_ADDR=address).status_code for number in range(2)]
    assert answers == [401, 429]


def test_guesses_of_the_old_password_in_the_admin_have_to_wait(staff: User):
    admin = Client()
    admin.force_login(staff)
    path, new = "/admin/password_change/", {"new_password1": "Kf7-twelve-x", "new_password2": "Kf7-twelve-x"}
    wrong, right = {"old_password": "WrongPass123", **new}, {"old_password": PASSWORD, **new}
    for _ in range(limits.FREE_FAILURES_BY_PAIR):
        assert admin.post(path, wrong).status_code == 200
    refused = admin.post(path, right)
    assert (refused.status_code, int(refused["Retry-After"]) in HOUR) == (429, True)
    other = Client()
    other.force_login(staff)
    assert other.post(path, right | {"new_password2": "differs"}).status_code == 200
    assert other.post(path, right).status_code == 302


def test_a_wait_that_a_wrong_clock_has_begun_ends_with_the_clock(anonymous: APIClient, alice: User):
    had_failures("pair", alice.pk, 30)
    assert fail(anonymous).status_code == 401
    Attempts.objects.update(until=past(days=-3650))
    assert fail(anonymous).status_code == 401
    assert succeed(anonymous).status_code == 429  # the wait that the failure has begun is of the clock as it is now
    assert Attempts.objects.filter(until__gt=past(days=-3000)).count() == 0
