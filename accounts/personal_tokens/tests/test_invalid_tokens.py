"""Tokens that are refused: altered, malformed, forged, or sent another way than as a Bearer token."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.authentication import known_tokens
from accounts.models import LoginSession, User
from accounts.personal_tokens.format import checksum, new_token_secret, read_token, write_token
from accounts.personal_tokens.rules import NewToken
from accounts.personal_tokens.tests.token_requests import (
    JANE,
    ME,
    PATIENTS,
    known,
    using,
)
from accounts.tests.answers import without_request_id
from accounts.tokens import issue_token_pair
from conftest import LoggedInClient
from healthcare.tests.cast import read_claims, sign_token

pytestmark = pytest.mark.django_db(transaction=True)


def parts_altered(text: str) -> dict[str, str]:
    """Each part of the token altered, with the checksum of the result."""
    prefix, session_id, user_id, secret = text[:-8].split("_")
    other = f"{int(secret, 16) ^ 1:064x}"
    return {
        name: altered + checksum(altered)
        for name, altered in {
            "session": f"{prefix}_{int(session_id) + 1}_{user_id}_{secret}",
            "unknown session": f"{prefix}_{10**17}_{user_id}_{secret}",
            "user": f"{prefix}_{session_id}_{int(user_id) + 1}_{secret}",
            "swapped ids": f"{prefix}_{user_id}_{session_id}_{secret}",
            "secret": f"{prefix}_{session_id}_{user_id}_{other}",
            "no secret": f"{prefix}_{session_id}_{user_id}_{'0' * 64}",
        }.items()
    }


def test_a_wrong_secret_and_an_unknown_token_are_refused_with_the_same_bytes(
    token: NewToken, alice: User, bob: User, path: str
) -> None:
    LoggedInClient(alice)  # a login whose session has the next id
    client = known(token)
    altered = parts_altered(token.text) | {"unknown": write_token(10**17, 10**17, new_token_secret())}
    bodies = []
    for text in altered.values():
        assert read_token(text) is not None
        for url in (ME, PATIENTS):
            answer = using(text).get(url)
            assert answer.status_code == 401
            bodies.append((without_request_id(answer), answer["WWW-Authenticate"]))
        assert using(text).post(PATIENTS, JANE).status_code == 401
    assert bodies == [bodies[0]] * len(bodies)
    assert client.get(PATIENTS).status_code == 200


def malformed(text: str) -> dict[str, str]:
    wrong_digit = text[:-1] + ("0" if text[-1] != "0" else "1")
    parts = text.split("_")
    long = f"hcp_{'9' * 18}_{parts[2]}_{parts[3]}"
    return {
        "wrong checksum": wrong_digit,
        "a missing character": text[:-1],
        "a character too many": text + "0",
        "prefix alone": "hcp_",
        "no prefix": text.removeprefix("hcp_"),
        "other prefix": "ghp_" + text.removeprefix("hcp_"),
        "upper case": text.upper(),
        "upper-case secret": f"hcp_{parts[1]}_{parts[2]}_{parts[3].upper()}",
        "a zero in front": f"hcp_0{parts[1]}_{parts[2]}_{parts[3]}",
        "a negative id": f"hcp_-{parts[1]}_{parts[2]}_{parts[3]}",
        "an id of a hundred digits": f"hcp_{'9' * 100}_{parts[2]}_{parts[3]}",
        "the longest id": long[:-8] + checksum(long[:-8]),
        "another separator": text.replace("_", "-"),
        "whitespace within": text.replace("_", " _", 1),
        "a tab within": text.replace("_", "_\t", 2),
        "two tokens": f"{text} {text}",
        "a NUL": text + "\0",
        "a line feed": text + "\n0",
        "Latin-1": text + "\xe9",
        "digits of another script": text.replace(parts[1], "\xb2\xb3"),
        "100 kB": "hcp_" + "1" * 100_000,
        "100 kB of parts": "hcp_" + "1_" * 50_000,
        "100 kB after a token": text + "0" * 100_000,
    }


@pytest.mark.parametrize("case", malformed(write_token(1, 1, new_token_secret())))
def test_a_malformed_token_is_refused(token: NewToken, path: str, case: str) -> None:
    client = known(token)
    text = malformed(token.text)[case]
    for url in (ME, PATIENTS, "/api/doctors/"):
        answer = using(text).get(url)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="api"'), url
        assert token.session.secret_hash not in answer.content.decode()
        assert using(text).post(PATIENTS, JANE).status_code == 401
    assert client.get(PATIENTS).status_code == 200
    assert len(known_tokens) == 1


@pytest.mark.parametrize(
    ("scheme", "status"),
    [("bearer", 200), ("BEARER", 200), ("Bearer ", 200), ("Token", 401), ("Basic", 401), ("JWT", 401), ("", 401)],
)
def test_the_scheme_is_bearer_in_any_case(token: NewToken, path: str, scheme: str, status: int) -> None:
    for _ in range(2):
        assert using(token.text, scheme).get(PATIENTS).status_code == status


def test_a_token_in_the_body_or_the_query_or_a_cookie_is_not_looked_at(token: NewToken) -> None:
    client = APIClient()
    client.cookies["token"] = client.cookies["access_token"] = token.text
    assert client.get(PATIENTS).status_code == 401
    assert client.get(f"{PATIENTS}?access_token={token.text}").status_code == 401
    assert client.post(PATIENTS, JANE | {"access_token": token.text}).status_code == 401


def test_a_signed_token_of_a_personal_access_tokens_session_is_refused(token: NewToken, path: str) -> None:
    """As if its session were a login: signed by this server, with the ids of the row."""
    pair = issue_token_pair(LoginSession.objects.get(pk=token.session.pk))
    for text in (pair["access"], sign_token({**read_claims(pair["access"]), "jti": "0" * 32})):
        assert using(text).get(ME).status_code == using(text).get(PATIENTS).status_code == 401
        assert using(text).post(PATIENTS, JANE).status_code == 401
    refreshed = APIClient().post("/api/auth/refresh/", {"refresh": pair["refresh"]})
    assert refreshed.status_code == 401
    session = LoginSession.objects.get(pk=token.session.pk)
    assert LoginSession.rotate(session.pk, session.user_id, session.token_id) is None
    session.refresh_from_db()
    assert (session.token_id, session.revoked_at) == (token.session.token_id, None)
    for text in (token.text, pair["access"]):
        assert APIClient().post("/api/auth/refresh/", {"refresh": text}).status_code == 401
    assert using(token.text).get(ME).status_code == 200


def test_a_token_cannot_be_made_of_a_logins_session(as_alice: LoggedInClient, alice: User) -> None:
    session = as_alice.login_session
    for secret in (new_token_secret(), session.token_id * 2, "0" * 64):
        assert using(write_token(session.pk, alice.pk, secret)).get(ME).status_code == 401


def test_a_forged_token_gets_no_stored_answer_of_the_token_that_it_names(token: NewToken, alice: User) -> None:
    key: dict[str, Any] = {"HTTP_IDEMPOTENCY_KEY": "once"}
    ended = APIClient().post("/api/auth/logout/", HTTP_AUTHORIZATION=f"Bearer {token.text}", **key)
    assert ended.status_code == 204
    forged = write_token(token.session.pk, alice.pk, new_token_secret())
    answer = APIClient().post("/api/auth/logout/", HTTP_AUTHORIZATION=f"Bearer {forged}", **key)
    assert answer.status_code == 401


def test_a_refused_token_is_not_known(token: NewToken) -> None:
    for text in parts_altered(token.text).values():
        using(text).get(PATIENTS)
    assert known_tokens == {}
