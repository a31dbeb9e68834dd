"""POST /api/auth/refresh/"""

from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from accounts.login_session_sql import REPLAY_GRACE
from accounts.models import LoginSession, User
from accounts.tests.answers import refusals, without_request_id
from conftest import LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

REFRESH = "/api/auth/refresh/"
REFUSED = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "The refresh token is not valid; log in again.",
}


def refresh(client: APIClient, token: str) -> Any:
    return client.post(REFRESH, {"refresh": token})


def assert_refused(answer: Any) -> None:
    assert answer.status_code == 401
    assert without_request_id(answer) == REFUSED
    assert answer["WWW-Authenticate"].startswith("Bearer")


def rotated_before_the_grace(session: LoginSession) -> None:
    LoginSession.objects.filter(pk=session.pk).update(rotated_at=timezone.now() - REPLAY_GRACE)


def alive(client: LoggedInClient) -> bool:
    status = client.get("/api/auth/me/").status_code
    assert status in {200, 401}
    return bool(status == 200)


def test_a_refresh_token_gives_a_new_pair(as_alice: LoggedInClient, anonymous: APIClient):
    answer = refresh(anonymous, as_alice.tokens["refresh"])
    assert answer.status_code == 200
    assert answer.json().keys() == {"access", "refresh"}
    assert not {*answer.json().values()} & {*as_alice.tokens.values()}
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    assert anonymous.get("/api/auth/me/").status_code == 200
    assert refresh(anonymous, answer.json()["refresh"]).status_code == 200


def test_within_the_grace_a_repeated_refresh_gets_the_same_pair(as_alice: LoggedInClient, anonymous: APIClient):
    successor = refresh(anonymous, as_alice.tokens["refresh"])
    LoginSession.objects.update(rotated_at=F("rotated_at") - timedelta(seconds=2))
    issued = [refresh(anonymous, as_alice.tokens["refresh"]) for _ in range(2)]
    LoginSession.objects.update(rotated_at=F("rotated_at") + timedelta(seconds=2))
    assert [answer.status_code for answer in issued] == [200, 200]
    assert issued[0].content == issued[1].content
    assert refresh(anonymous, as_alice.tokens["refresh"]).content == successor.content
    assert alive(as_alice)
    assert refresh(anonymous, successor.json()["refresh"]).status_code == 200


def test_two_tabs_that_refresh_in_turn_stay_logged_in(as_alice: LoggedInClient, anonymous: APIClient):
    """Each tab sends the token it has; the second one repeats what the first one did."""
    token = as_alice.tokens["refresh"]
    for _ in range(5):
        tabs = [refresh(anonymous, token) for _ in range(2)]
        assert [tab.status_code for tab in tabs] == [200, 200]
        assert tabs[0].content == tabs[1].content
        token = tabs[1].json()["refresh"]
    assert alive(as_alice)


def test_the_grace_counts_from_the_rotation_and_a_repetition_does_not_prolong_it(
    as_alice: LoggedInClient, anonymous: APIClient
):
    refresh(anonymous, as_alice.tokens["refresh"])
    rotated_at = LoginSession.objects.get().rotated_at
    assert refresh(anonymous, as_alice.tokens["refresh"]).status_code == 200
    assert LoginSession.objects.get().rotated_at == rotated_at


def test_a_request_does_not_prolong_the_grace(as_alice: LoggedInClient, anonymous: APIClient):
    refresh(anonymous, as_alice.tokens["refresh"])
    rotated_before_the_grace(as_alice.login_session)
    LoginSession.objects.update(last_used_at=timezone.now() - timedelta(hours=2))
    assert alive(as_alice)  # records the use of the session
    assert_refused(refresh(anonymous, as_alice.tokens["refresh"]))
    assert not alive(as_alice)


def test_a_repeated_pair_is_refused_once_the_session_has_ended(as_alice: LoggedInClient, anonymous: APIClient):
    refresh(anonymous, as_alice.tokens["refresh"])
    as_alice.post("/api/auth/logout/")
    assert_refused(refresh(anonymous, as_alice.tokens["refresh"]))


def test_the_session_list_is_no_way_to_learn_a_token(as_alice: LoggedInClient):
    session = LoginSession.objects.get()
    answered = as_alice.get("/api/auth/sessions/").content.decode()
    assert session.token_id not in answered
    assert "rotated_at" not in answered


def test_after_the_grace_a_replay_ends_the_session(as_alice: LoggedInClient, anonymous: APIClient):
    successor = refresh(anonymous, as_alice.tokens["refresh"]).json()
    rotated_before_the_grace(as_alice.login_session)
    assert_refused(refresh(anonymous, as_alice.tokens["refresh"]))
    assert not alive(as_alice)
    assert_refused(refresh(anonymous, successor["refresh"]))


def test_a_token_two_generations_old_ends_the_session_at_once(as_alice: LoggedInClient, anonymous: APIClient):
    second = refresh(anonymous, as_alice.tokens["refresh"]).json()
    third = refresh(anonymous, second["refresh"]).json()
    assert_refused(refresh(anonymous, as_alice.tokens["refresh"]))
    assert not alive(as_alice)
    assert_refused(refresh(anonymous, third["refresh"]))


def test_a_replay_ends_that_session_alone(as_alice: LoggedInClient, alice: User, anonymous: APIClient):
    other = LoggedInClient(alice)
    refresh(anonymous, as_alice.tokens["refresh"])
    rotated_before_the_grace(as_alice.login_session)
    refresh(anonymous, as_alice.tokens["refresh"])
    assert (alive(as_alice), alive(other)) == (False, True)


def test_no_refreshed_token_outlives_the_session(as_alice: LoggedInClient, anonymous: APIClient):
    ends = timezone.now() + timedelta(minutes=5)
    LoginSession.objects.update(expires_at=ends)
    tokens = refresh(anonymous, as_alice.tokens["refresh"]).json()
    assert AccessToken(tokens["access"])["exp"] == int(ends.timestamp())
    assert RefreshToken(tokens["refresh"])["exp"] == int(ends.timestamp())
    LoginSession.objects.update(expires_at=timezone.now())
    assert_refused(refresh(anonymous, tokens["refresh"]))
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
    assert anonymous.get("/api/auth/me/").status_code == 401


def test_a_deleted_users_token_is_refused(as_alice: LoggedInClient, alice: User, anonymous: APIClient):
    alice.delete()
    assert_refused(refresh(anonymous, as_alice.tokens["refresh"]))


def test_an_inactive_users_token_is_refused(as_alice: LoggedInClient, alice: User, anonymous: APIClient):
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert_refused(refresh(anonymous, as_alice.tokens["refresh"]))


def test_an_access_token_is_no_refresh_token_nor_the_other_way_round(as_alice: LoggedInClient, anonymous: APIClient):
    assert_refused(refresh(anonymous, as_alice.tokens["access"]))
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {as_alice.tokens['refresh']}")
    assert anonymous.get("/api/auth/me/").status_code == 401
    assert alive(as_alice)


def forged(token: str, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    payload = jwt.decode(token, options={"verify_signature": False}) | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key or str(django_settings.SIMPLE_JWT["SIGNING_KEY"]), algorithm=algorithm)


@pytest.mark.parametrize(
    "forgery",
    [
        {"key": "another key of at least thirty-two bytes"},
        {"key": django_settings.SECRET_KEY},
        {"algorithm": "HS512", "key": "k" * 64},
        {"aud": "another-api"},
        {"iss": "another-issuer"},
        {"exp": 1},
        {"exp": None},
        {"jti": None},
        {"sid": None},
        {"sid": "x"},
        {"sid": 2**63},
        {"sid": 0},
        {"token_type": "access"},
    ],
    ids=str,
)
def test_a_tampered_token_is_refused_and_harms_no_session(
    as_alice: LoggedInClient, anonymous: APIClient, forgery: dict[str, Any]
):
    assert_refused(refresh(anonymous, forged(as_alice.tokens["refresh"], **forgery)))
    assert refresh(anonymous, as_alice.tokens["refresh"]).status_code == 200


@pytest.mark.parametrize("token", ["x", "a.b.c", "é.é.é", "." * 100, "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token_is_refused(anonymous: APIClient, token: str):
    assert_refused(refresh(anonymous, token))


@pytest.mark.parametrize(("body", "code"), [({}, "required"), ({"refresh": ""}, "blank"), ({"refresh": []}, "invalid")])
def test_a_refresh_without_its_token_is_a_bad_request(anonymous: APIClient, body: dict[str, Any], code: str):
    assert refusals(anonymous.post(REFRESH, body)) == {("/refresh", code)}


def test_a_refresh_has_these_queries(as_alice: LoggedInClient, anonymous: APIClient):
    named = ["the rotation"]
    with CaptureQueriesContext(connection) as queries:
        refresh(anonymous, as_alice.tokens["refresh"])
    assert len(queries) == len(named), queries.captured_queries
