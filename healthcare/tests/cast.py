"""The cast of the contract tests: owners with records of every kind, delegates, tokens, and callers to be rejected."""

import base64
import datetime
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from django.conf import settings
from django.db import transaction
from django.db.models import Model
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import create_token
from accounts.second_factor.models import SecondFactor
from accounts.tokens import issue_token_pair
from conftest import PASSWORD
from healthcare.tests.declarations import (
    ACTING_CALLERS,
    ACTIVE_CALLERS,
    IGNORED_HEADER_USER,
    REJECTED_CALLERS,
    TOKEN_CALLERS,
    contracts,
)

CALLERS = ["anonymous", *ACTIVE_CALLERS, *REJECTED_CALLERS, *TOKEN_CALLERS, *ACTING_CALLERS]
MISSING_ID = 2**40


@dataclass
class Cast:
    """Alice, bob, staff and mia, each with one active and one deleted record of every kind, and a client for every
    caller. Mia manages alice's records as well; asha may read them, and wim may write them.

    users: by name. ids, deleted_ids: by the kind of record and the owner's name; some of /fhir are texts.
    tokens: a pair by the user's name.
    clients: by caller, see CALLERS.
    """

    users: dict[str, User]
    ids: dict[tuple[str, str], Any] = field(default_factory=dict)
    deleted_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)
    clients: dict[str, APIClient] = field(default_factory=dict)
    _sequence: Iterator[int] = field(default_factory=lambda: itertools.count(10_000))

    @classmethod
    def build(cls, make_user: Callable[..., User]) -> "Cast":
        cast = cls({name: make_user(name) for name in ("alice", "bob")})
        cast.users["staff"] = make_user("staff", is_staff=True, is_superuser=True)
        cast.users[IGNORED_HEADER_USER] = make_user(IGNORED_HEADER_USER)
        for name, user in cast.users.items():
            cast.tokens[name] = issue_token_pair(LoginSession.objects.start(user, "tests", "127.0.0.1"))
            for contract in contracts().values():
                if contract.create_records:
                    contract.create_records(cast, user)
        cast._create_clients(make_user)
        cast._create_acting_clients(make_user)
        return cast

    def next_id(self) -> int:
        """An id for a new record; no two records of any kind share one."""
        return next(self._sequence)

    def add(self, kind: str, owner: User, active: Model, deleted: Model | None = None) -> None:
        """Register the records of a kind that the rows of the matrix name."""
        self.ids[kind, owner.username] = active.pk
        if deleted is not None:
            self.deleted_ids[kind, owner.username] = deleted.pk

    def id_of(self, kind: str, target: str, owner: str) -> Any:
        """The id of a record that this user owns, that another owns, that is deleted, or that never existed."""
        other = "bob" if owner == "alice" else "alice"
        found = {
            "own": self.ids[kind, owner],
            "another's": self.ids[kind, other],
            "deleted": self.deleted_ids.get((kind, owner), MISSING_ID),
        }
        return found.get(target, MISSING_ID)

    def _create_clients(self, make_user: Callable[..., User]) -> None:
        alice = self.users["alice"]
        revoked = issue_token_pair(LoginSession.objects.start(alice, "tests", "127.0.0.1"))["access"]
        LoginSession.objects.filter(pk=read_claims(revoked)["sid"]).revoke()
        ida = make_user("ida")
        inactive = issue_token_pair(LoginSession.objects.start(ida, "tests", "127.0.0.1"))["access"]
        User.objects.filter(pk=ida.pk).update(is_active=False)
        own = self.tokens["alice"]["access"]
        tokens = {caller: self.tokens[name]["access"] for caller, name in ACTIVE_CALLERS.items()} | {
            "inactive": inactive,
            "expired": sign_token(read_claims(own) | {"exp": read_claims(own)["iat"] - 1}),
            "tampered": tamper_token(own, user_id=str(self.users["bob"].pk)),
            "revoked": revoked,
            "refresh token": self.tokens["alice"]["refresh"],
        }
        if token := token_without_code(make_user("oda")):
            tokens["otp-pending"] = token
        for caller, scope in TOKEN_CALLERS.items():
            tokens[caller] = create_token(alice, name=caller, scope=scope).text
        for caller in CALLERS:
            self.clients[caller] = APIClient(raise_request_exception=False)
            if caller in tokens:
                self.clients[caller].credentials(HTTP_AUTHORIZATION=f"Bearer {tokens[caller]}")

    def _create_acting_clients(self, make_user: Callable[..., User]) -> None:
        """Clients that send X-Acting-For. They name the owner in each of the ways that there are."""
        alice, mia, now = self.users["alice"], self.users[IGNORED_HEADER_USER], timezone.now()
        asha, wim, eve, rex = (make_user(name) for name in ("asha", "wim", "eve", "rex"))
        earlier = now - datetime.timedelta(hours=1)
        Delegation.objects.bulk_create(
            [
                Delegation(owner=alice, delegate=asha, role="read"),
                Delegation(owner=alice, delegate=wim, role="write", expires_at=now + datetime.timedelta(days=1)),
                Delegation(owner=alice, delegate=mia, role="manage"),
                Delegation(owner=alice, delegate=eve, role="manage", expires_at=earlier),
                Delegation(owner=alice, delegate=rex, role="manage", revoked_at=earlier),
            ]
        )
        for caller, user, owner in [
            ("delegate-read", asha, "alice"),
            ("delegate-write", wim, str(alice.pk)),
            ("delegate-manage", mia, "Alice"),
            ("delegate-expired", eve, "alice"),
            ("delegate-revoked", rex, str(alice.pk)),
            ("wrong-owner", mia, "bob"),
            ("unknown-owner", mia, "nobody"),
        ]:
            token = issue_token_pair(LoginSession.objects.start(user, "tests", "127.0.0.1"))["access"]
            self.clients[caller].credentials(HTTP_AUTHORIZATION=f"Bearer {token}", HTTP_X_ACTING_FOR=owner)


def token_without_code(user: User) -> str | None:
    """The access token that a user with a second factor gets for the password alone: none, if all is well."""
    SecondFactor.objects.create(user=user, encrypted_secret=b"", confirmed_at=timezone.now())
    with transaction.atomic():
        answer = APIClient().post("/api/auth/login/", {"username": user.username, "password": PASSWORD})
        transaction.set_rollback(False)  # DRF has set it on the transaction of the test
    token: str | None = answer.json().get("access")
    return token


def read_claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def sign_token(payload: dict[str, Any], key: str = "") -> str:
    """A token with this payload, signed with the server's key unless another is given."""
    text = json.dumps(payload).encode()  # PyJWT's own encoder refuses the invalid payloads that tests send
    return jwt.PyJWS().encode(text, key or str(settings.SIMPLE_JWT["SIGNING_KEY"]), "HS256", {"typ": "JWT"})


def tamper_token(token: str, **changes: Any) -> str:
    """The token with a changed payload under its old signature."""
    head, _, signature = token.split(".")
    payload = base64.urlsafe_b64encode(json.dumps(read_claims(token) | changes).encode()).decode().rstrip("=")
    return f"{head}.{payload}.{signature}"
