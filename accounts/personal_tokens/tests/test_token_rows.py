"""Rows of login sessions: those of an older release, and those that the table refuses."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.db.models import F
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from accounts.personal_tokens.tests.token_requests import (
    JANE,
    PATIENTS,
    using,
)
from accounts.tokens import issue_token_pair
from conftest import LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_row_without_the_new_columns_is_a_login(alice: User, path: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_loginsession (user_id, token_id, previous_token_id, user_agent, address, created_at,"
            " rotated_at, last_used_at, expires_at) VALUES (%s, %s, '', 'old', NULL, now(), now(), now(), now() +"
            " interval '1 day') RETURNING id",
            [alice.pk, "a" * 32],
        )
    session = LoginSession.objects.get()
    assert (session.kind, session.name, session.scope, session.secret_hash) == ("session", "", "", None)
    pair = issue_token_pair(session)
    assert using(pair["access"]).get(PATIENTS).status_code == 200
    refreshed = APIClient().post("/api/auth/refresh/", {"refresh": pair["refresh"]})
    assert refreshed.status_code == 200
    assert using(refreshed.json()["access"]).post(PATIENTS, JANE).status_code == 201
    LoginSession.objects.update(last_used_at=F("last_used_at") - timedelta(days=4))
    assert using(refreshed.json()["access"]).get(PATIENTS).status_code == 401


def test_a_row_that_is_half_a_token_is_refused_by_the_table(alice: User) -> None:
    for change in ("kind = 'token'", "scope = 'read'", "secret_hash = repeat('0', 64)", "kind = 'other'"):
        LoggedInClient(alice)
        with connection.cursor() as cursor, pytest.raises(IntegrityError, match="session_kind"):
            cursor.execute(f"UPDATE accounts_loginsession SET {change}")  # noqa: S608
