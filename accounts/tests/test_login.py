"""POST /api/auth/login/"""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from accounts.hashers import Argon2idHasher
from accounts.models import LoginSession, User
from accounts.second_factor.models import SecondFactor
from accounts.tests.answers import WRONG_LOGIN, refusals, without_request_id
from conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/api/auth/login/"


FIND_USER = "find the user by username or e-mail, with the second factor that the login must ask for"
COUNT_ATTEMPT = "count the attempt by address, by account from it, and by account"
READ_WAIT = "read how long to wait"
CLEAR_FAILURES = "take the attempt back, store the address as known, and delete expired rows"
START_SESSION = "lock the unchanged user and insert the session"
STATEMENTS = {
    FIND_USER: 'SELECT "accounts_user"."id"',
    COUNT_ATTEMPT: "WITH known AS (",
    READ_WAIT: "SELECT greatest(",
    CLEAR_FAILURES: "WITH address AS (",
    START_SESSION: "INSERT INTO accounts_loginsession",
}


def names_of_statements(queries: CaptureQueriesContext) -> list[str]:
    """Each statement by its name above; one without a name, such as BEGIN, as its first twenty characters."""
    return [
        # Not at the beginning alone: in the admin history's context precedes a statement that writes.
        next((name for name, text in STATEMENTS.items() if text in query["sql"]), query["sql"][:20])
        for query in queries.captured_queries
    ]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the hash computations, as they happen."""
    done: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(Argon2idHasher, name)

        def count(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            return real(*args, **kwargs)

        return count

    for name in ("encode", "verify"):
        monkeypatch.setattr(Argon2idHasher, name, counted(name))
    return done


@pytest.mark.parametrize(
    "identifier",
    [
        {"username": "alice"},
        {"username": "ALICE"},
        {"username": "ａｌｉｃｅ"},
        {"username": " alice "},
        {"username": "alice@example.org"},
        {"username": "Alice@Example.ORG"},
        {"email": "alice@example.org"},
        {"email": "ALICE@EXAMPLE.ORG"},
        {"username": "alice", "email": "nobody@example.org"},
    ],
)
def test_alice_logs_in_by_username_or_email_in_any_case(alice: User, anonymous: APIClient, identifier: dict[str, str]):
    answer = anonymous.post(LOGIN, identifier | {"password": PASSWORD})
    assert answer.status_code == 200
    assert answer.json().keys() == {"access", "refresh"}
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    assert anonymous.get("/api/auth/me/").json()["id"] == alice.pk


def test_tokens_contain_the_session_and_no_name(alice: User, anonymous: APIClient):
    tokens = anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD}).json()
    session = LoginSession.objects.get()
    access, refresh = AccessToken(tokens["access"]).payload, RefreshToken(tokens["refresh"]).payload
    claims = {"token_type", "exp", "iat", "jti", "user_id", "sid", "iss", "aud"}
    assert access.keys() == refresh.keys() == claims
    assert (access["sid"], access["user_id"]) == (session.pk, str(alice.pk))
    assert (access["iss"], access["aud"]) == ("healthcare", "healthcare-api")
    assert access["exp"] - access["iat"] == 15 * 60
    assert refresh["exp"] == int(session.expires_at.timestamp())


def test_the_password_is_stored_as_argon2id_with_nineteen_mebibytes(db: None, configured_hashers: None):
    alice = User.objects.create_user("alice", "alice@example.org", PASSWORD, name="Alice")
    assert alice.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"username": "alice", "password": "WrongPass123"}, id="password"),
        pytest.param({"username": "nobody", "password": PASSWORD}, id="username"),
        pytest.param({"email": "nobody@example.org", "password": PASSWORD}, id="email"),
        pytest.param({"username": "gone", "password": PASSWORD}, id="inactive, right password"),
        pytest.param({"username": "gone", "password": "WrongPass123"}, id="inactive, wrong password"),
        pytest.param({"username": "unusable", "password": PASSWORD}, id="no password"),
        pytest.param({"username": "enrolled", "password": "WrongPass123"}, id="second factor, wrong password"),
        pytest.param({"username": "enrolled", "password": "WrongPass123", "otp": "123456"}, id="wrong password, code"),
        pytest.param({"username": "alice", "password": "WrongPass123", "otp": "123456"}, id="no second factor, code"),
        pytest.param({"username": "nobody", "password": PASSWORD, "otp": "123456"}, id="username, code"),
        pytest.param({"username": "left", "password": PASSWORD}, id="second factor, inactive"),
    ],
)
def test_whatever_is_wrong_the_answer_and_the_work_are_the_same(
    make_user: Callable[..., User], anonymous: APIClient, hashed: list[str], wrong: dict[str, str]
):
    make_user("alice")
    make_user("gone", is_active=False)
    make_user("unusable", password=None)
    for user in (make_user("enrolled"), make_user("left", is_active=False)):
        SecondFactor.objects.create(user=user, encrypted_secret=b"", confirmed_at=timezone.now())
    hashed.clear()
    with CaptureQueriesContext(connection) as queries:
        answer = anonymous.post(LOGIN, wrong)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert without_request_id(answer) == WRONG_LOGIN
    assert len(hashed) == 1
    assert names_of_statements(queries) == [FIND_USER, "BEGIN", COUNT_ATTEMPT, "COMMIT"]
    assert not LoginSession.objects.exists()


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, {("/password", "required")}),
        ({"password": PASSWORD}, {("/username", "required")}),
        ({"username": "alice"}, {("/password", "required")}),
        ({"username": "", "password": ""}, {("/username", "blank"), ("/password", "blank")}),
        ({"username": None, "password": None}, {("/username", "null"), ("/password", "null")}),
        ({"username": {"$ne": ""}, "password": ["x"]}, {("/username", "invalid"), ("/password", "invalid")}),
    ],
)
def test_a_login_without_its_fields_is_a_bad_request(alice: User, anonymous: APIClient, body: Any, refused: Any):
    assert refusals(anonymous.post(LOGIN, body)) == refused


def test_a_session_remembers_device_and_address(alice: User, anonymous: APIClient):
    body = {"username": "alice", "password": PASSWORD}
    anonymous.post(LOGIN, body, HTTP_USER_AGENT="x" * 300, REMOTE_ADDR="fe80::1%eth0")
    session = LoginSession.objects.get()
    assert (session.user, session.user_agent, session.address) == (alice, "x" * 200, "fe80::1")
    assert session.expires_at - session.last_used_at == django_settings.SESSION_LIFETIME


def test_a_login_has_these_queries(alice: User, anonymous: APIClient):
    with CaptureQueriesContext(connection) as queries:
        assert anonymous.post(LOGIN, {"username": "alice", "password": PASSWORD}).status_code == 200
    assert names_of_statements(queries) == [
        FIND_USER,
        "BEGIN", COUNT_ATTEMPT, "COMMIT",
        CLEAR_FAILURES,
        "BEGIN", START_SESSION, "COMMIT",
    ]  # fmt: skip


def test_a_login_that_has_to_wait_has_these_queries(alice: User, anonymous: APIClient):
    with CaptureQueriesContext(connection) as queries:
        answers = [anonymous.post(LOGIN, {"username": "alice", "password": "WrongPass123"}) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert names_of_statements(queries)[-5:] == [FIND_USER, "BEGIN", COUNT_ATTEMPT, READ_WAIT, "ROLLBACK"]


def test_the_admins_login_counts_by_the_same_statements(staff: User):
    with CaptureQueriesContext(connection) as queries:
        answer = Client().post("/admin/login/", {"username": "staff", "password": PASSWORD, "next": "/admin/"})
    assert answer.status_code == 302
    names = names_of_statements(queries)
    assert names[:5] == [FIND_USER, "BEGIN", COUNT_ATTEMPT, "COMMIT", CLEAR_FAILURES]
    assert START_SESSION not in names  # the admin has a Django session of its own


def secrets_found(secrets: list[str]) -> list[str]:
    """The tables that hold one of these texts anywhere in a row."""
    found = []
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        for table in tables:
            cursor.execute(f'SELECT "{table}"::text FROM "{table}"')  # noqa: S608  (names from the catalogue)
            rows = " ".join(row for (row,) in cursor.fetchall())
            found += [table for secret in secrets if secret in rows]
    return found


def test_no_token_and_no_password_is_stored(anonymous: APIClient):
    john = {"name": "John", "email": "john@example.org", "username": "john", "password": "Kf7-never-stored"}
    anonymous.post("/api/auth/register/", john)
    first = anonymous.post(LOGIN, {"username": "john", "password": john["password"]}).json()
    anonymous.post(LOGIN, {"username": "Typed-into-the-wrong-box", "password": "Typed-wrong-7"})
    second = anonymous.post("/api/auth/refresh/", {"refresh": first["refresh"]}).json()
    tokens = [*first.values(), *second.values()]
    parts = [part for token in tokens for part in token.split(".")[1:]]
    typed = ["Kf7-never-stored", "Typed-into-the-wrong-box", "typed-into-the-wrong-box", "Typed-wrong-7"]
    assert secrets_found(["john@example.org"]) == ["accounts_user", "audit_userevent"]  # the search finds what is there
    assert secrets_found(tokens + parts + typed) == []
