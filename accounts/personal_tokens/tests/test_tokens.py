"""POST and GET /api/auth/tokens/, GET and DELETE /api/auth/tokens/<id>/"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.delegations.named_users import NamedUser
from accounts.limits import attempts_key
from accounts.models import Attempts, LoginSession, User
from accounts.personal_tokens import views
from accounts.personal_tokens.rules import MOST_LIVING, create_token
from accounts.second_factor.tests.conftest import App
from accounts.tests.answers import refusals, without_request_id
from conftest import PASSWORD, LoggedInClient
from healthcare.api.models import IdempotencyRecord
from healthcare.rls.context import leave
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)

TOKENS, SESSIONS, ME = "/api/auth/tokens/", "/api/auth/sessions/", "/api/auth/me/"
BODY = {"name": "Nightly export", "scope": "read", "current_password": PASSWORD}


def using(text: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def in_days(days: float) -> datetime:
    return timezone.now() + timedelta(days=days)


def test_a_token_is_answered_once_and_stored_as_a_hash(as_alice: LoggedInClient, alice: User) -> None:
    answer = as_alice.post(TOKENS, BODY, headers={"User-Agent": "curl/8"})
    assert answer.status_code == 201
    body = answer.json()
    token, expires_at = body.pop("token"), datetime.fromisoformat(body.pop("expires_at"))
    assert body == {"id": body["id"], "name": "Nightly export", "scope": "read", "acting_for": None}
    assert answer["Location"] == f"{TOKENS}{body['id']}/"
    assert abs(expires_at - in_days(90)) < timedelta(minutes=1)
    secret = re.fullmatch(rf"hcp_{body['id']}_{alice.pk}_([0-9a-f]{{64}})[0-9a-f]{{8}}", token)
    assert secret
    stored = LoginSession.objects.get(pk=body["id"])
    assert stored.secret_hash == hashlib.sha256(secret[1].encode()).hexdigest()
    assert (stored.kind, stored.user, stored.user_agent, stored.address) == ("token", alice, "curl/8", "127.0.0.1")
    with connection.cursor() as cursor:  # nowhere in the row
        cursor.execute("SELECT s::text FROM accounts_loginsession s WHERE id = %s", [stored.pk])
        assert secret[1] not in cursor.fetchone()[0]
    assert using(token).get(ME).json()["username"] == "alice"
    for path in (TOKENS, answer["Location"], SESSIONS):
        assert secret[1] not in as_alice.get(path).content.decode()


def test_own_living_tokens_are_listed_newest_first(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    Delegation.objects.create(owner=bob, delegate=alice, role="read")
    first = create_token(alice, name="First", scope="write", expires_at=datetime(2027, 1, 1, tzinfo=UTC)).session
    ended, expired = (create_token(alice, name="Ended", scope="read").session for _ in range(2))
    create_token(bob, name="Bob's", scope="read")
    LoginSession.objects.filter(pk=ended.pk).revoke()
    LoginSession.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    confined = create_token(alice, name="Of bob", scope="read", acting_for="BOB").session
    answer = as_alice.get(f"{TOKENS}?count=true").json()
    assert [row["id"] for row in answer] == [confined.pk, first.pk]
    assert answer[0]["acting_for"] == "bob"
    stored = LoginSession.objects.get(pk=first.pk)
    assert answer[1] == {
        "id": first.pk, "name": "First", "scope": "write", "acting_for": None,
        "created_at": stored.created_at.isoformat().replace("+00:00", "Z"),
        "last_used_at": stored.last_used_at.isoformat().replace("+00:00", "Z"),
        "expires_at": "2027-01-01T00:00:00Z",
    }  # fmt: skip
    assert as_alice.get(f"{TOKENS}{first.pk}/").json() == answer[1]
    page = as_alice.get(f"{TOKENS}?limit=1")
    assert [row["id"] for row in page.json()] == [confined.pk]
    following = page["Link"].partition("<")[2].partition(">")[0]
    assert [row["id"] for row in as_alice.get(following).json()] == [first.pk]


def test_the_use_of_a_token_is_listed(as_alice: LoggedInClient, alice: User) -> None:
    token = create_token(alice, name="Export", scope="read")
    used = timezone.now() - timedelta(days=80)
    LoginSession.objects.filter(pk=token.session.pk).update(last_used_at=used)
    assert using(token.text).get(ME).status_code == 200
    [listed] = as_alice.get(TOKENS).json()
    assert timezone.now() - datetime.fromisoformat(listed["last_used_at"]) < timedelta(minutes=1)


@pytest.mark.parametrize("days", [0.001, 1, 364.9999])
def test_a_token_ends_when_its_user_says(as_alice: LoggedInClient, days: float) -> None:
    at = in_days(days)
    answer = as_alice.post(TOKENS, BODY | {"expires_at": at.isoformat()})
    assert datetime.fromisoformat(answer.json()["expires_at"]) == at


@pytest.mark.parametrize("days", [-400, -0.001, 365.001, 10_000])
def test_a_token_ends_in_the_future_and_within_a_year(as_alice: LoggedInClient, days: float) -> None:
    answer = as_alice.post(TOKENS, BODY | {"expires_at": in_days(days).isoformat()})
    assert refusals(answer) == {("/expires_at", "invalid")}
    assert not LoginSession.objects.tokens().exists()


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2027-02-30T00:00:00Z"])
def test_a_time_that_no_clock_shows_is_refused(as_alice: LoggedInClient, at: str) -> None:
    assert refusals(as_alice.post(TOKENS, BODY | {"expires_at": at})) == {("/expires_at", "invalid")}


def test_null_is_as_if_it_were_left_out(as_alice: LoggedInClient) -> None:
    answer = as_alice.post(TOKENS, BODY | {"expires_at": None, "acting_for": None}).json()
    assert answer["acting_for"] is None
    assert abs(datetime.fromisoformat(answer["expires_at"]) - in_days(90)) < timedelta(minutes=1)


def test_a_name_is_one_visible_line(as_alice: LoggedInClient) -> None:
    for name, code in (("", "blank"), ("\u200b", "blank"), ("a\nb", "invalid"), ("x" * 101, "max_length")):
        assert refusals(as_alice.post(TOKENS, BODY | {"name": name})) == {("/name", code)}
    assert as_alice.post(TOKENS, BODY | {"name": " Naïve\u200b ロボット "}).json()["name"] == "Naïve ロボット"
    assert refusals(as_alice.post(TOKENS, {})) == {
        ("/name", "required"), ("/scope", "required"), ("/current_password", "required")
    }  # fmt: skip


def test_a_scope_that_does_not_exist_is_answered_with_those_that_do(as_alice: LoggedInClient) -> None:
    answer = as_alice.post(TOKENS, BODY | {"scope": "admin"})
    assert refusals(answer) == {("/scope", "invalid_choice")}
    assert answer.json()["detail"] == "scope: Write read or write."


def test_a_wrong_password_makes_no_token_and_counts(as_alice: LoggedInClient) -> None:
    wrong = BODY | {"current_password": "Wrong-Pass-123", "acting_for": "nobody"}
    assert refusals(as_alice.post(TOKENS, wrong)) == {("/current_password", "invalid")}
    key = attempts_key("session", str(as_alice.login_session.pk))
    assert Attempts.objects.get(key=key).count == 1
    Attempts.objects.filter(key=key).update(count=30)
    assert as_alice.post(TOKENS, wrong).status_code == 400
    assert as_alice.post(TOKENS, BODY).status_code == 429
    assert not LoginSession.objects.tokens().exists()


@pytest.mark.parametrize("change", [{"password": "!other"}, {"is_active": False}])
def test_who_has_changed_meanwhile_gets_no_token(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """The change has ended the tokens there were, so that no later one may outlive it."""

    def change_user(*_: Any) -> None:
        User.objects.filter(pk=alice.pk).update(**change)

    monkeypatch.setattr("accounts.personal_tokens.views.prove_identity_with_factor", change_user)
    answer = as_alice.post(TOKENS, {"name": "Export", "scope": "read", "current_password": PASSWORD})
    assert (answer.status_code, answer.json()["detail"]) == (401, "The session has ended; log in again.")
    assert not LoginSession.objects.tokens().exists()


def test_with_a_second_factor_it_takes_a_code_too(as_alice: LoggedInClient, app: App) -> None:
    """Without one, a stolen password and a stolen access token would make a credential that lasts."""
    assert refusals(as_alice.post(TOKENS, BODY)) == {("/otp", "otp_required")}
    assert refusals(as_alice.post(TOKENS, BODY | {"otp": "000000"})) == {("/otp", "otp_required")}
    wrong = BODY | {"current_password": "Wrong-Pass-123", "otp": app.code()}
    assert refusals(as_alice.post(TOKENS, wrong)) == {("/current_password", "invalid")}
    assert not LoginSession.objects.tokens().exists()
    right = BODY | {"otp": app.code()}
    assert [as_alice.post(TOKENS, right).status_code for _ in range(2)] == [201, 400]  # a code works once


@pytest.mark.parametrize("named", ["BOB", " bob ", "<id>", "<number>"])
def test_acting_for_names_an_owner_by_username_or_id(
    as_alice: LoggedInClient, alice: User, bob: User, named: Any
) -> None:
    Delegation.objects.create(owner=bob, delegate=alice, role="read")
    name = {"<id>": f"00{bob.pk}", "<number>": bob.pk}.get(named, named)
    answer = as_alice.post(TOKENS, BODY | {"acting_for": name})
    assert (answer.status_code, answer.json()["acting_for"]) == (201, "bob")
    assert LoginSession.objects.tokens().get().acting_for == bob.pk


@pytest.mark.parametrize("named", ["self", "Alice", "<id>"])
def test_acting_for_oneself_confines_the_token_to_the_own_records(
    as_alice: LoggedInClient, alice: User, bob: User, named: str
) -> None:
    Delegation.objects.create(owner=bob, delegate=alice, role="read")
    answer = as_alice.post(TOKENS, BODY | {"acting_for": str(alice.pk) if named == "<id>" else named}).json()
    assert answer["acting_for"] == "alice"
    client = using(answer["token"])
    for _ in range(2):
        assert client.get("/api/patients/").status_code == 200
        assert client.get("/api/patients/", headers={"X-Acting-For": "self"}).status_code == 200
        assert client.get("/api/patients/", headers={"X-Acting-For": "bob"}).status_code == 403


def test_without_a_delegation_there_is_one_answer_whatever_the_reason(
    as_alice: LoggedInClient, alice: User, bob: User, make_user: Any
) -> None:
    past, left = make_user("past"), make_user("left", is_active=False)
    Delegation.objects.create(owner=past, delegate=alice, role="read", expires_at=timezone.now())
    Delegation.objects.create(owner=left, delegate=alice, role="read")
    Delegation.objects.create(owner=alice, delegate=bob, role="manage")
    answers = [as_alice.post(TOKENS, BODY | {"acting_for": name}) for name in ("bob", "nobody", "past", "left", bob.pk)]
    assert {answer.status_code for answer in answers} == {403}
    bodies = [without_request_id(answer) for answer in answers]
    assert bodies == [bodies[0]] * len(bodies)
    assert bodies[0]["code"] == "not_a_delegate"
    assert not LoginSession.objects.tokens().exists()


def test_a_repeated_request_is_not_stored(as_alice: LoggedInClient, anonymous: APIClient) -> None:
    key = {"Idempotency-Key": "k1"}
    answer = as_alice.post(TOKENS, BODY, headers=key)
    assert (answer.status_code, "Idempotency-Key" in answer.json()["detail"]) == (400, True)
    assert anonymous.post(TOKENS, BODY, headers=key).status_code == 401
    assert not LoginSession.objects.tokens().exists()
    assert not IdempotencyRecord.objects.exists()


def test_a_user_has_at_most_twenty_living_tokens(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    tokens = [create_token(alice, name=str(number), scope="read").session for number in range(MOST_LIVING)]
    create_token(bob, name="Bob's", scope="read")
    refused = as_alice.post(TOKENS, BODY)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_tokens")
    LoginSession.objects.filter(pk=tokens[0].pk).update(expires_at=timezone.now())
    assert as_alice.post(TOKENS, BODY).status_code == 201
    assert as_alice.post(TOKENS, BODY).status_code == 409
    assert as_alice.delete(f"{TOKENS}{tokens[1].pk}/").status_code == 204
    assert as_alice.post(TOKENS, BODY).status_code == 201


def test_of_forty_concurrent_requests_twenty_make_a_token(live: LiveServer) -> None:
    access = live.register()[1]["access"]
    answers = call_concurrently(*[partial(live.call, "POST", TOKENS, BODY, access)] * 40)
    assert sorted_statuses(answers) == [201] * 20 + [409] * 20
    texts = {answer.json["token"] for answer in answers if answer.status == 201}
    assert len(texts) == 20
    listed = live.call("GET", TOKENS, token=access).json
    assert len(listed) == 20
    assert {live.call("GET", ME, token=text).status for text in texts} == {200}


def test_ending_a_token_takes_no_password_and_holds_at_once(as_alice: LoggedInClient, alice: User) -> None:
    token, other = (create_token(alice, name="Export", scope="read") for _ in range(2))
    path = f"{TOKENS}{token.session.pk}/"
    assert using(token.text).get(ME).status_code == 200
    assert as_alice.delete(path).status_code == 204
    assert using(token.text).get(ME).status_code == 401
    assert using(other.text).get(ME).status_code == 200
    assert as_alice.delete(path).status_code == as_alice.get(path).status_code == 404


def test_another_users_token_an_ended_one_and_a_login_read_like_one_that_does_not_exist(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    of_bob, ended = create_token(bob, name="Bob's", scope="read"), create_token(alice, name="Ended", scope="read")
    LoginSession.objects.filter(pk=ended.session.pk).revoke()
    ids = [of_bob.session.pk, ended.session.pk, as_alice.login_session.pk, 10**12]
    for method in ("get", "delete"):
        answers = [getattr(as_alice, method)(f"{TOKENS}{pk}/") for pk in ids]
        assert {answer.status_code for answer in answers} == {404}
        bodies = [without_request_id(answer) for answer in answers]
        assert bodies == [bodies[0]] * len(bodies)
    assert using(of_bob.text).get(ME).status_code == as_bob.get(ME).status_code == 200


def test_tokens_are_among_the_sessions_and_end_there(as_alice: LoggedInClient, alice: User) -> None:
    token = create_token(alice, name="Export", scope="write")
    client = using(token.text)
    for caller, current in ((as_alice, as_alice.login_session.pk), (client, token.session.pk)):
        listed = [(row["id"], row["kind"], row["current"]) for row in caller.get(SESSIONS).json()]
        assert listed == [
            (token.session.pk, "token", current == token.session.pk),
            (as_alice.login_session.pk, "session", current == as_alice.login_session.pk),
        ]
    path = f"{SESSIONS}{token.session.pk}/"
    assert refusals(as_alice.delete(path)) == {("/current_password", "required")}
    assert client.get(ME).status_code == 200
    assert as_alice.delete(path, {"current_password": PASSWORD}).status_code == 204
    assert client.get(ME).status_code == 401


def test_row_level_security_alone_keeps_tokens_apart(
    as_alice: LoggedInClient, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, of_bob = (create_token(user, name="Export", scope="read") for user in (alice, bob))
    with_owners = LoginSession.objects.live().tokens().annotate(owner_named=NamedUser("acting_for"))
    monkeypatch.setattr(views, "own_living_tokens", lambda request: with_owners.all())
    assert [row["id"] for row in as_alice.get(TOKENS).json()] == [own.session.pk]
    assert as_alice.get(f"{TOKENS}{of_bob.session.pk}/").status_code == 404
    assert as_alice.delete(f"{TOKENS}{of_bob.session.pk}/").status_code == 404
    assert using(of_bob.text).get(ME).status_code == 200


def test_the_role_of_the_api_writes_no_token(as_alice: LoggedInClient, alice: User) -> None:
    """It can neither add a session nor make another of one."""
    leave()
    with connection.cursor() as cursor:
        for privilege in ("INSERT", "DELETE"):
            cursor.execute("SELECT has_table_privilege('healthcare_api', 'accounts_loginsession', %s)", [privilege])
            assert cursor.fetchone() == (False,)
        for column in ("secret_hash", "scope", "kind", "acting_for", "expires_at", "user_id"):
            cursor.execute(
                "SELECT has_column_privilege('healthcare_api', 'accounts_loginsession', %s, 'UPDATE')", [column]
            )
            assert cursor.fetchone() == (False,)


def test_the_list_has_these_queries_however_long(as_alice: LoggedInClient, alice: User) -> None:
    named = ["the session and its user", "BEGIN", "the role", "the page", "COMMIT"]
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert as_alice.get(TOKENS).status_code == 200
        assert len(queries) == len(named), queries.captured_queries
        for _ in range(5):
            create_token(alice, name="Export", scope="read")
