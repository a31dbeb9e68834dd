"""POST /api/auth/register/ with an invitation, and in each mode of REGISTRATION."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import BasePasswordHasher
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.invitations.codes import write_invitation
from accounts.invitations.models import Invitation
from accounts.models import Attempts, User
from accounts.serializers import RegistrationSerializer
from accounts.tests.answers import refusals, without_request_id
from healthcare.api.models import IdempotencyRecord
from healthcare.tests.cheap_hasher import CheapArgon2Hasher

# Not in one transaction, as in production: a refused registration rolls its own one back.
pytestmark = pytest.mark.django_db(transaction=True)

REGISTER = "/api/auth/register/"
EVE = {"name": "Eve", "email": "eve@example.org", "username": "eve", "password": "StrongPass123"}


@pytest.fixture(params=["open", "invite"])
def mode(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.REGISTRATION = request.param
    return str(request.param)


@pytest.fixture
def invite_only(settings: Any) -> None:
    settings.REGISTRATION = "invite"


def invite(**fields: Any) -> str:
    return write_invitation(Invitation.objects.create(**fields))


def past() -> Any:
    return timezone.now() - timedelta(seconds=1)


def unusable_invitations() -> dict[str, Callable[[], str]]:
    return {
        "of no server": lambda: "1-1:x",
        "changed": lambda: f"{invite()}x",
        "used": lambda: invite(used_at=past()),
        "expired": lambda: invite(expires_at=past()),
        "withdrawn": withdrawn,
        "of another e-mail": lambda: invite(email="ada@example.org"),
        "of an id that was given again": lambda: write_invitation(
            Invitation(pk=Invitation.objects.create().pk, created_at=past())
        ),
    }


def withdrawn() -> str:
    text = invite()
    Invitation.objects.all().delete()
    return text


@contextmanager
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The statements of a block, without their values, and how many passwords it hashes."""
    seen: dict[str, Any] = {"hashed": 0}
    encode: Any = CheapArgon2Hasher.encode

    def count(self: BasePasswordHasher, *args: Any, **kwargs: Any) -> Any:
        seen["hashed"] += 1
        return encode(self, *args, **kwargs)

    with monkeypatch.context() as patch, CaptureQueriesContext(connection) as queries:
        patch.setattr(CheapArgon2Hasher, "encode", count)
        yield seen
    seen["statements"] = [without_values(query["sql"]) for query in queries.captured_queries]


def without_values(sql: str) -> str:
    """A statement without its values and the names of savepoints."""
    return re.sub(r"'(?:[^']|'')*'|\b\d+\b|\"s\d+_x\d+\"", "?", sql)


@pytest.mark.usefixtures("mode")
def test_an_invitation_works_once(anonymous: APIClient) -> None:
    text = invite(expires_at=timezone.now() + timedelta(hours=1))
    answer = anonymous.post(REGISTER, EVE | {"invitation": f" {text} "})
    user = User.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {"id": user.pk, "name": "Eve", "email": "eve@example.org", "username": "eve"}
    used = Invitation.objects.get()
    assert used.used_at is not None
    assert (used.used_by, used.state) == (user, "used")
    again = anonymous.post(REGISTER, EVE | {"username": "eva", "email": "eva@example.org", "invitation": text})
    assert refusals(again) == {("/invitation", "invalid")}
    assert User.objects.count() == 1


def test_an_invitation_does_not_verify_the_email(anonymous: APIClient, invite_only: None) -> None:
    anonymous.post(REGISTER, EVE | {"invitation": invite(email="eve@example.org")})
    assert User.objects.get().verified_email is None


@pytest.mark.parametrize("email", ["eve@example.org", "Eve@Example.ORG", " eve@example.org "])
@pytest.mark.usefixtures("mode")
def test_an_email_is_compared_as_logins_compare_it(anonymous: APIClient, email: str) -> None:
    text = invite(email="EVE@example.org")
    assert anonymous.post(REGISTER, EVE | {"email": email, "invitation": text}).status_code == 201


@pytest.mark.usefixtures("mode")
def test_every_unusable_invitation_gets_the_same_answer(anonymous: APIClient) -> None:
    answers = {}
    for name, make in unusable_invitations().items():
        text = make()
        rows = list(Invitation.objects.values_list())
        answer = anonymous.post(REGISTER, EVE | {"invitation": text})
        assert answer.status_code == 400
        answers[name] = json.dumps(without_request_id(answer))
        assert list(Invitation.objects.values_list()) == rows, name
    assert len(set(answers.values())) == 1, answers
    problem = json.loads(answers["used"])
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [("/invitation", "invalid")]
    assert not User.objects.exists()


def test_without_an_invitation(anonymous: APIClient, mode: str) -> None:
    answer = anonymous.post(REGISTER, EVE)
    if mode == "open":
        assert answer.status_code == 201
    else:
        assert refusals(answer) == {("/invitation", "required")}
        assert "ask them for one" in answer.json()["detail"]
        missing = refusals(anonymous.post(REGISTER, {}))
        assert missing == {(f"/{name}", "required") for name in ("name", "email", "password", "invitation")}
        assert not User.objects.exists()


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("field", ["username", "email"])
def test_a_failed_registration_leaves_the_invitation_unused(
    anonymous: APIClient, make_user: Callable[..., User], field: str
) -> None:
    make_user("ada")
    text = invite()
    taken = EVE | {field: {"username": "ada", "email": "ada@example.org"}[field], "invitation": text}
    assert refusals(anonymous.post(REGISTER, taken)) == {(f"/{field}", "unique")}
    weak = anonymous.post(REGISTER, EVE | {"password": "12345678", "invitation": text})
    assert {pointer for pointer, _ in refusals(weak)} == {"/password"}
    assert Invitation.objects.get().state == "usable"
    assert anonymous.post(REGISTER, EVE | {"invitation": text}).status_code == 201


@pytest.mark.usefixtures("mode")
def test_a_repeated_request_with_a_key_is_replayed(anonymous: APIClient) -> None:
    text = invite()
    body, headers = EVE | {"invitation": text}, {"Idempotency-Key": "one"}
    first, second = (anonymous.post(REGISTER, body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code, second.content) == (201, 201, first.content)
    assert second["Idempotency-Replayed"] == "true"
    assert User.objects.count() == 1
    assert text.rpartition(":")[2] not in repr(list(IdempotencyRecord.objects.values_list()))
    assert refusals(anonymous.post(REGISTER, body, headers={"Idempotency-Key": "two"})) == {("/invitation", "invalid")}


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("unusable", ["changed", "used", "of another e-mail"])
def test_with_an_unusable_invitation_nothing_tells_whether_an_account_exists(
    anonymous: APIClient, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch, unusable: str
) -> None:
    make_user("eve")
    text = unusable_invitations()[unusable]()
    free = {"username": "eva", "email": "eva@example.org"}
    anonymous.post(REGISTER, EVE | {"invitation": text})  # so that the count of registrations exists
    seen = []
    for account in (EVE, EVE | free, EVE | {"username": "eva"}, EVE | {"email": "eva@example.org"}):
        with observed(monkeypatch) as of_account:
            answer = anonymous.post(REGISTER, account | {"invitation": text})
        seen.append((answer.status_code, without_request_id(answer), of_account["statements"]))
        assert of_account["hashed"] == 0
        assert not any("accounts_user" in statement for statement in of_account["statements"])
    assert seen[0][0] == 400
    assert seen[1:] == seen[:1] * 3


def test_where_anybody_registers_a_taken_email_takes_the_same_work_as_a_free_one(
    anonymous: APIClient, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract says which one is taken. So does the answer, and nothing before it."""
    make_user("ada")
    anonymous.post(REGISTER, EVE | {"username": "first", "email": "first@example.org"})
    with observed(monkeypatch) as of_taken:
        taken = anonymous.post(REGISTER, EVE | {"email": "ada@example.org"})
    with observed(monkeypatch) as of_free:
        free = anonymous.post(REGISTER, EVE)
    assert refusals(taken) == {("/email", "unique")}
    assert free.status_code == 201
    assert of_taken["hashed"] == of_free["hashed"] == 1
    statements = of_free["statements"]
    [inserted] = [number for number, one in enumerate(statements) if 'INSERT INTO "accounts_user"' in one]
    assert of_taken["statements"][: inserted + 1] == statements[: inserted + 1]


BODIES: dict[str, Any] = {
    "an account": json.dumps(EVE),
    "a taken account": json.dumps(EVE | {"username": "ada", "email": "ada@example.org"}),
    "nothing": "{}",
    "an unknown field": '{"is_staff": true}',
    "a list": "[]",
    "no JSON": "{",
    "no UTF-8": b"\xff",
    "no body": "",
}


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "one"}, {"Idempotency-Key": "not a key"}], ids=str)
def test_closed_registration_answers_the_same_whatever_is_sent(
    anonymous: APIClient,
    make_user: Callable[..., User],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    settings.REGISTRATION = "closed"
    make_user("ada")
    bodies = BODIES | {"an invitation": json.dumps(EVE | {"invitation": invite()})}
    answers = {}
    for name, body in bodies.items():
        with observed(monkeypatch) as seen:
            answer = anonymous.generic("POST", REGISTER, body, content_type="application/json", headers=headers)
        assert (seen["statements"], seen["hashed"]) == ([], 0), name
        answers[name] = json.dumps(without_request_id(answer))
        assert answer.status_code == 403, name
    assert set(answers.values()) == {
        json.dumps(
            {
                "type": "about:blank",
                "title": "Forbidden",
                "status": 403,
                "detail": "Nobody can register here; ask the staff for an account.",
                "code": "registration_closed",
            }
        )
    }
    assert User.objects.count() == 1
    assert not Attempts.objects.exists()
    assert Invitation.objects.get().state == "usable"


def test_where_people_are_invited_the_description_requires_the_field(settings: Any) -> None:
    required = {}
    for mode in ("open", "invite", "closed"):
        settings.REGISTRATION = mode
        required[mode] = RegistrationSerializer().fields["invitation"].required
    assert required == {"open": False, "invite": True, "closed": False}
