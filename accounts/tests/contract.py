"""The contract of /api/auth/: who may call it, how it is described, and its models in the admin."""

import uuid
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from accounts.delegations.models import Delegation, Notice
from accounts.models import Attempts, LoginSession, User
from conftest import PASSWORD
from healthcare.tests.cast import Cast
from healthcare.tests.declarations import (
    CHANGE_RECORD,
    LIST_RECORDS,
    READ_RECORD,
    AdminModel,
    AdminPage,
    BadValues,
    Contract,
    Operation,
    Row,
)
from healthcare.tests.hostile_requests import BAD_EMAILS, BAD_NAMES, CANARY, LONG_AND_ODD_TEXTS


def create_records(cast: Cast, owner: User) -> None:
    active, revoked = (LoginSession.objects.start(owner, "tests", "127.0.0.1") for _ in range(2))
    LoginSession.objects.filter(pk=revoked.pk).revoke()
    cast.add("session", owner, active, revoked)


def make_delegate(username: str) -> User:
    return User.objects.create_user(username, f"{username}@example.org", PASSWORD, name=username.title())


def give_delegation(owner: User) -> Delegation:
    return Delegation.objects.create(owner=owner, delegate=make_delegate("asha"), role="write", note="reception")


def registration(cast: Cast, owner: str) -> dict[str, Any]:
    name = uuid.uuid4().hex
    return {"name": "New", "email": f"{name}@example.org", "username": name, "password": PASSWORD}


CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row("api/auth/register/", "OPEN", {"POST": 201}, registration),
        Row("api/auth/login/", "OPEN", {"POST": 200}, lambda cast, owner: {"username": owner, "password": PASSWORD}),
        Row("api/auth/refresh/", "OPEN", {"POST": 200}, lambda cast, owner: {"refresh": cast.tokens[owner]["refresh"]}),
        Row("api/auth/logout/", "PRIVATE", {"POST": 204}),
        Row("api/auth/me/", "PRIVATE", {"GET": 200, "PATCH": 200}, lambda cast, owner: {"name": "Renamed"}),
        Row(
            "api/auth/password/",
            "PRIVATE",
            {"POST": 204},
            lambda cast, owner: {"current_password": PASSWORD, "new_password": "Another-Pass-9"},
        ),
        Row("api/auth/sessions/", "PRIVATE", {"GET": 200}),
        Row(
            "api/auth/sessions/<int:pk>/",
            "PRIVATE",
            {"DELETE": 204},
            lambda cast, owner: {"current_password": PASSWORD},
            records="session",
            delete_has_body=True,
        ),
    ],
    operations={
        "auth_register": Operation(public=True),
        # An answer with tokens is never stored for a repeated POST.
        "auth_login": Operation(public=True, idempotency_key=False),
        "auth_refresh": Operation(public=True, idempotency_key=False),
        "auth_logout": Operation(),
        "auth_me": READ_RECORD,
        "auth_me_update": CHANGE_RECORD,
        "auth_password": Operation(),
        "auth_sessions_list": LIST_RECORDS,
        "auth_sessions_destroy": Operation(),
    },
    admin=[
        AdminModel(
            "accounts.User",
            create=lambda user: User.objects.create_user("carol", "carol@example.org", PASSWORD, name="Carol"),
            roles={"Auditor": "view", "Support": "add change view deactivate"},
            added=lambda owner: {
                "name": "Eve", "email": "eve@example.org", "username": "eve", "password1": PASSWORD,
                "password2": PASSWORD,
            },
            changed={"name": "Changed"},
            actions={"delete_selected": "delete", "deactivate": "deactivate", "reactivate": "deactivate"},
            prepare={"reactivate": lambda user: User.objects.filter(pk=user.pk).update(is_active=False)},
            pages=[
                AdminPage(
                    "{pk}/password/",
                    "set_credentials",
                    lambda owner, user: {"password1": "OtherPass456", "password2": "OtherPass456"},
                ),
            ],
        ),
        AdminModel(
            "accounts.LoginSession",
            create=lambda user: LoginSession.objects.start(user, "curl", "127.0.0.1"),
            read_only=True,
            action="revoke",
            roles={"Auditor": "view", "Support": "view change"},
            actions={"revoke": "change"},
        ),
        AdminModel(
            "accounts.Attempts",
            create=lambda user: Attempts.objects.create(key="0" * 64, count=1, until=timezone.now()),
            read_only=True,
            roles={"Auditor": "view", "Support": "view delete"},
            allows="view delete",
        ),
        AdminModel(
            "accounts.Delegation",
            create=give_delegation,
            action="revoke",
            roles={"Records": "add change view", "Auditor": "view", "Support": "view"},
            allows="view add change",
            added=lambda owner: {"owner": owner.pk, "delegate": make_delegate("dora").pk, "role": "read"},
            changed={"note": "Changed"},
            actions={"revoke": "change"},
            pages=[AdminPage("owners/", "add"), AdminPage("delegates/", "add")],
        ),
        AdminModel(
            "accounts.Notice",
            create=lambda user: Notice.objects.create(user=user, kind="delegation_given", about={}),
            read_only=True,
            roles={"Auditor": "view", "Support": "view"},
            actions={},
        ),
        AdminModel(
            "auth.Group",
            create=lambda user: Group.objects.create(name="nurses"),
            roles={"Auditor": "view"},
            added=lambda owner: {"name": "porters"},
            changed={"name": "midwives"},
        ),
    ],
    bad_values=[
        BadValues(
            "/api/auth/register/",
            {"name": "New", "email": "new@example.org", "username": "new-one", "password": PASSWORD},
            {
                "name": BAD_NAMES,
                "username": [
                    *LONG_AND_ODD_TEXTS, "", " ", "\uff41lice", "\u0430lice", "ali\u200bce", "\u202ealice", "ali ce",
                    "a" * 255, "x@example.org", "al\u0131ce",
                ],
                "email": [
                    *BAD_EMAILS, None, "", "\u212aevin@example.org", "a@ex\u0430mple.org",
                    "\uff41@x.org",
                ],
                "password": [
                    None, "", "short", "12345678901", "password", [CANARY], True, {"a": 1}, "x" * 257, CANARY * 100,
                ],
            },
        ),
    ],
)  # fmt: skip
