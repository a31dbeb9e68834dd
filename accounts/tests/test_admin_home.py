"""The figure of refused logins on the admin's home page, and the kinds of attempts that it is taken from."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.limits import attempts_key, count_registration
from accounts.models import Attempts, User
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.admin_pages import AdminClient, allow

Kind = Attempts.Kind
ATTEMPTS = "/admin/accounts/attempts/"


def log_in(username: str, typed: str = "WrongPass123", address: str = "127.0.0.1") -> None:
    Client().post("/admin/login/", {"username": username, "password": typed}, REMOTE_ADDR=address)


def add_attempts(kind: str, until: Any) -> None:
    key = attempts_key("test", str(Attempts.objects.count()))
    Attempts.objects.create(key=key, kind=kind, count=1, until=until)


def refused(client: AdminClient) -> Any:
    [figure] = client.get("/admin/").context["home"].figures
    assert figure.title == "Refused logins"
    return figure


@pytest.fixture
def support(make_user: Callable[..., User]) -> AdminClient:
    return AdminClient(allow(make_user("support", is_staff=True), "view_attempts"))


def test_the_figure_counts_accounts_that_failed_once_for_each_address(support: AdminClient, alice: User):
    for username, address in (("alice", "127.0.0.1"), ("alice", "127.0.0.1"), ("alice", "::1"), ("nobody", "::1")):
        log_in(username, address=address)
    assert refused(support).value == "3"
    log_in("staff-to-be", address="127.0.0.1")
    assert refused(support).value == "4"


def test_a_login_that_succeeds_is_no_refused_one(support: AdminClient, make_user: Callable[..., User]):
    make_user("clerk", is_staff=True)
    log_in("clerk")
    assert refused(support).value == "1"
    log_in("clerk", PASSWORD)
    assert refused(support).value == "0"


def test_only_failures_of_today_count_and_the_list_shows_as_many(support: AdminClient):
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    for until in (midnight, midnight + timedelta(minutes=1), midnight - timedelta(microseconds=1)):
        for kind in (*Kind, ""):
            add_attempts(kind, until)
    figure = refused(support)
    assert figure.value == "2"
    page = support.get(figure.url)
    assert [row.kind for row in page.context["cl"].result_list] == [Kind.PAIR] * 2
    assert page.context["cl"].count_text == "2 attempts"


@pytest.mark.django_db(transaction=True)  # an error ends the transaction of a test
def test_each_attempt_says_what_it_counts(rf: Any, as_alice: LoggedInClient, alice: User, bob: User, settings: Any):
    log_in("alice")
    taken = as_alice.patch("/api/auth/me/", {"email": bob.email, "current_password": PASSWORD})
    wrong = as_alice.post("/api/auth/password/", {"current_password": "WrongPass123", "new_password": "OtherPass123"})
    unknown = as_alice.post("/api/delegations/", {"delegate": "nobody", "role": "read"})
    assert (taken.status_code, wrong.status_code, unknown.status_code) == (400, 400, 400)
    assert as_alice.get("/api/auth/me/file/").status_code == 200
    count_registration(rf.get("/"))
    settings.EMAIL_CONFIGURED = True
    sent = as_alice.post("/api/auth/password/reset/", {"email": "nobody@example.org"})
    link = as_alice.post("/api/auth/email/verify/confirm/", {"uid": "MQ", "token": "x"})
    assert (sent.status_code, link.status_code) == (202, 400)
    assert sorted(Attempts.objects.values_list("kind", flat=True)) == sorted(Kind)


def test_a_row_of_an_earlier_version_says_it_with_the_next_attempt(alice: User):
    log_in("alice")
    Attempts.objects.update(kind="")
    log_in("alice")
    counts = dict(Attempts.objects.values_list("kind", "count"))
    assert counts == {Kind.ACCOUNT: 2, Kind.ADDRESS: 2, Kind.PAIR: 2}


def test_the_list_shows_and_filters_what_is_counted(support: AdminClient, alice: User):
    log_in("alice")
    assert Kind.PAIR.label in support.page(f"{ATTEMPTS}?kind=pair")
    assert [row.kind for row in support.get(f"{ATTEMPTS}?kind=address").context["cl"].result_list] == [Kind.ADDRESS]
    assert support.get(f"{ATTEMPTS}?kind=nothing").status_code == 400
