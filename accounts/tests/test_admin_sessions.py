"""Sessions of the admin: a login starts one, and time, a logout, another password and deactivation end it."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.admin_sessions import LAST_USED
from accounts.models import User
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.admin_pages import AdminClient, in_role

LOGIN, INDEX = "/admin/login/", "/admin/"
COOKIE = settings.SESSION_COOKIE_NAME
CHANGE = {"old_password": PASSWORD, "new_password1": "OtherPass456", "new_password2": "OtherPass456"}


@pytest.fixture
def clerk(make_user: Any) -> User:
    return in_role(make_user("clerk", is_staff=True), "Front desk")


def log_in(client: Client, path: str = LOGIN) -> Any:
    return client.post(path, {"username": "clerk", "password": PASSWORD})


def is_in(client: Client) -> bool:
    return client.get(INDEX).status_code == 200


def move(client: Client, **values: Any) -> None:
    """Change values of the client's session."""
    session = client.session
    session.update(values)
    session.save()


def used_ago(period: timedelta) -> float:
    return (timezone.now() - period).timestamp()


def test_a_login_starts_a_new_session_and_the_one_before_is_worth_nothing(clerk: User):
    attacker = AdminClient(clerk)  # has planted a session in the victim's browser
    victim = Client()
    victim.cookies[COOKIE] = planted = attacker.cookies[COOKIE].value
    attacker.post("/admin/logout/")
    assert log_in(victim).status_code == 302
    assert victim.cookies[COOKIE].value != planted
    assert (is_in(victim), is_in(attacker)) == (True, False)


def test_a_login_over_a_session_of_the_same_user_changes_its_key(clerk: User):
    client = AdminClient(clerk)
    before = client.cookies[COOKIE].value
    assert log_in(client).status_code == 302
    assert client.cookies[COOKIE].value != before
    assert not Session.objects.filter(pk=before).exists()


def test_a_session_ends_after_sixty_idle_minutes(clerk: User):
    client = AdminClient(clerk)
    move(client, **{LAST_USED: used_ago(timedelta(minutes=59))})
    assert is_in(client)
    key = client.cookies[COOKIE].value
    move(client, **{LAST_USED: used_ago(timedelta(minutes=61))})
    answer = client.get("/admin/patients/patient/")
    assert (answer.status_code, answer["Location"]) == (302, f"{LOGIN}?next=/admin/patients/patient/")
    assert not Session.objects.filter(pk=key).exists()


def test_a_change_sent_from_an_idle_session_changes_nothing(clerk: User):
    client = AdminClient(clerk)
    move(client, **{LAST_USED: used_ago(timedelta(minutes=61))})
    assert client.post("/admin/password_change/", CHANGE).status_code == 302
    clerk.refresh_from_db()
    assert clerk.check_password(PASSWORD)


def test_a_session_in_use_is_written_only_now_and_then(clerk: User):
    client = AdminClient(clerk)
    written = []
    for minutes in (0, 11):
        move(client, **{LAST_USED: used_ago(timedelta(minutes=minutes))})
        with CaptureQueriesContext(connection) as queries:
            client.get("/admin/password_change/")
        written.append(sum(query["sql"].startswith('UPDATE "django_session"') for query in queries.captured_queries))
    assert written == [0, 1]
    assert client.session[LAST_USED] > used_ago(timedelta(minutes=5))


def test_no_use_keeps_a_session_for_longer_than_eight_hours(clerk: User):
    client = AdminClient(clerk)
    end = client.session.get_expiry_date()
    assert timedelta(hours=7, minutes=50) < end - timezone.now() <= timedelta(hours=8)
    move(client, **{LAST_USED: used_ago(timedelta(minutes=30))})
    assert is_in(client)
    assert Session.objects.get(pk=client.cookies[COOKIE].value).expire_date == end
    Session.objects.update(expire_date=timezone.now())
    assert not is_in(client)


def test_a_logout_ends_the_session_and_takes_a_post(clerk: User):
    client = AdminClient(clerk)
    stolen = Client()
    stolen.cookies[COOKIE] = client.cookies[COOKIE].value
    assert client.get("/admin/logout/").status_code == 405
    assert is_in(stolen)
    answer = client.post("/admin/logout/")
    assert (answer.status_code, answer["Clear-Site-Data"]) == (200, '"cache"')
    assert not is_in(stolen)


def test_another_password_ends_the_other_sessions_and_keeps_this_one(clerk: User):
    client, other, tokens = AdminClient(clerk), AdminClient(clerk), LoggedInClient(clerk)
    assert client.post("/admin/password_change/", CHANGE).status_code == 302
    assert (is_in(client), is_in(other)) == (True, False)
    assert tokens.get("/api/auth/sessions/").status_code == 401


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_staff_who_are_staff_no_more_are_out_at_the_next_request(clerk: User, change: dict[str, bool]):
    client = AdminClient(clerk)
    assert is_in(client)
    User.objects.filter(pk=clerk.pk).update(**change)
    for path in (INDEX, "/admin/patients/patient/"):
        assert client.get(path).status_code == 302
    assert client.post("/admin/patients/patient/add/", {"name": "Ada"})["Location"].startswith(LOGIN)


def test_a_role_that_is_taken_away_or_lacks_a_permission_counts_at_the_next_request(clerk: User):
    client = AdminClient(clerk)
    path = "/admin/patients/patient/"
    assert client.get(path).status_code == 200
    group = Group.objects.get(name="Front desk")
    group.permissions.remove(*group.permissions.filter(codename__endswith="_patient"))
    assert client.get(path).status_code == 403
    clerk.groups.clear()
    assert client.get("/admin/mappings/mapping/").status_code == 403


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example/", "/\\evil.example/", "\\\\evil.example", "https:evil.example",
     "javascript:alert(1)", "http:///evil.example", "/\t/evil.example", "https://testserver@evil.example/"],
)  # fmt: skip
def test_neither_login_nor_logout_lead_to_another_host(clerk: User, elsewhere: str):
    for path in (LOGIN, "/admin/logout/"):
        answer = Client().post(path, {"username": "clerk", "password": PASSWORD, "next": elsewhere})
        assert "evil" not in answer.headers.get("Location", "")
        assert "javascript" not in answer.headers.get("Location", "")


def test_a_login_leads_to_the_page_that_was_asked_for(clerk: User):
    answer = Client().post(LOGIN, {"username": "clerk", "password": PASSWORD, "next": "/admin/patients/patient/?q=a"})
    assert answer["Location"] == "/admin/patients/patient/?q=a"


def test_a_session_that_was_used_under_a_clock_far_ahead_ends(clerk: User):
    client = AdminClient(clerk)
    move(client, **{LAST_USED: used_ago(-timedelta(days=3650))})
    assert not is_in(client)
