"""The user that a request carries is the one in the database, column for column."""

from django.test import RequestFactory
from rest_framework.request import Request

from accounts.authentication import USER_COLUMNS, SessionJWTAuthentication
from accounts.models import User
from conftest import LoggedInClient


def test_the_user_of_a_request_is_the_one_in_the_database(as_alice: LoggedInClient, alice: User) -> None:
    bearer = {"Authorization": f"Bearer {as_alice.tokens['access']}"}
    user, session = SessionJWTAuthentication().authenticate(Request(RequestFactory().get("/", headers=bearer)))
    assert {column: getattr(user, column) for column in USER_COLUMNS} == User.objects.values(*USER_COLUMNS).get(
        pk=alice.pk
    )
    assert session == as_alice.login_session
