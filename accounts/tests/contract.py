"""The contract of /api/auth/: who may call it, how it is described, and its models in the admin."""

import uuid
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone
from django_otp.oath import totp

from accounts.delegations.models import Delegation, Notice
from accounts.delegations.rules import found_clinic
from accounts.email_links.tokens import EMAIL_VERIFICATION, PASSWORD_RESET, LinkTokens, encode_uid
from accounts.invitations.models import Invitation
from accounts.models import Attempts, LoginSession, User
from accounts.personal_tokens.rules import create_token
from accounts.second_factor.encryption import decrypt_secret
from accounts.second_factor.models import SecondFactor
from accounts.second_factor.rules import begin_factor
from conftest import PASSWORD
from healthcare.tests.cast import Cast
from healthcare.tests.declarations import (
    CHANGE_RECORD,
    CREATE_RECORD,
    DELETE_RECORD,
    LIST_RECORDS,
    READ_RECORD,
    AdminModel,
    AdminPage,
    BadValues,
    Contract,
    ListParameters,
    Operation,
    Row,
)
from healthcare.tests.hostile_requests import (
    BAD_CHOICES,
    BAD_EMAILS,
    BAD_NAMES,
    CANARY,
    INVISIBLE_TEXTS,
    LONG_AND_ODD_TEXTS,
)

# Of an account; none can be a line of a header either.
BAD_ADDRESSES = [
    *BAD_EMAILS, None, "", "\u212aevin@example.org", "a@ex\u0430mple.org", "\uff41@x.org",
    "a@example.org\r\nBcc: b@example.org", "a@example.org,b@example.org", "<a@example.org>",
]  # fmt: skip
NO_TEXTS = [None, "", True, 5, [CANARY], {"a": 1}]
BAD_TOKENS = [*NO_TEXTS, *LONG_AND_ODD_TEXTS, "-", "0-0", "zzzzzz-0", CANARY, f"{CANARY}-{CANARY}", "\uff41-\uff41"]


def create_records(cast: Cast, owner: User) -> None:
    active, revoked = (LoginSession.objects.start(owner, "tests", "127.0.0.1") for _ in range(2))
    LoginSession.objects.filter(pk=revoked.pk).revoke()
    cast.add("session", owner, active, revoked)
    token, ended = (create_token(owner, name=name, scope="read").session for name in ("Export", "Former"))
    LoginSession.objects.filter(pk=ended.pk).revoke()
    cast.add("token", owner, token, ended)
    create_delegations(cast, owner)
    begin_factor(owner)


def create_delegations(cast: Cast, owner: User) -> None:
    """A clinic of the owner and one that they have left, a delegation and a revoked one, a notice and a read one. The
    user `next-of-<owner>` has no delegation yet."""
    now = timezone.now()
    dana, _ = (
        User.objects.create_user(f"{name}-of-{owner}", f"{name}-of-{owner}@example.org", None, name="Dana")
        for name in ("delegate", "next")
    )
    clinic, former = found_clinic("Clinic", f"clinic-{owner}", owner), found_clinic("Former", f"former-{owner}", dana)
    Delegation.objects.create(owner=former, delegate=owner, role="manage", revoked_at=now)
    cast.add("clinic", owner, clinic, former)
    revoked, living = (
        Delegation.objects.create(owner=owner, delegate=dana, role="write", revoked_at=at) for at in (now, None)
    )
    cast.add("delegation", owner, living, revoked)
    unread, read = (
        Notice.objects.create(user=owner, kind="delegation_given", by=dana, about={"id": living.pk}, read_at=at)
        for at in (None, now)
    )
    cast.add("notice", owner, unread, read)


def make_delegate(username: str) -> User:
    return User.objects.create_user(username, f"{username}@example.org", PASSWORD, name=username.title())


def enrol(user: User) -> None:
    SecondFactor.objects.create(user=user, encrypted_secret=b"secret", confirmed_at=timezone.now())


def make_heir() -> User:
    """The user to whom others hand over."""
    return User.objects.filter(username="hira").first() or make_delegate("hira")


def give_delegation(owner: User) -> Delegation:
    return Delegation.objects.create(owner=owner, delegate=make_delegate("asha"), role="write", note="reception")


def registration(cast: Cast, owner: str) -> dict[str, Any]:
    name = uuid.uuid4().hex
    return {"name": "New", "email": f"{name}@example.org", "username": name, "password": PASSWORD}


def confirmation_code(cast: Cast, owner: str) -> dict[str, Any]:
    """The code that an authenticator app shows for the secret that `create_records` has given the owner."""
    factor = SecondFactor.objects.get(user__username=owner)
    return {"otp": f"{totp(decrypt_secret(factor.encrypted_secret, factor.pk)):06}"}


def link(tokens: LinkTokens, owner: str, **body: str) -> dict[str, str]:
    """The body that confirms a link to this user."""
    user = User.objects.get(username=owner)
    return {"uid": encode_uid(user), "token": tokens.make_token(user), **body}


def new_clinic(cast: Cast, owner: str) -> dict[str, Any]:
    return {"name": "New Clinic", "username": uuid.uuid4().hex}


def new_delegation(cast: Cast, owner: str) -> dict[str, Any]:
    return {"delegate": f"next-of-{owner}", "role": "read", "note": "New"}


def new_token(cast: Cast, owner: str) -> dict[str, Any]:
    return {"name": "New", "scope": "write", "current_password": PASSWORD}


def side_of_cast(delegation: dict[str, Any]) -> int:
    """The id of the user of the cast who gave a delegation, or whom their clinic gave it."""
    by_clinic = delegation["owner"]["username"].startswith("clinic-")
    return int(delegation["delegate" if by_clinic else "owner"]["id"])


CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row("api/auth/register/", "OPEN", {"POST": 201}, registration),
        Row("api/auth/login/", "OPEN", {"POST": 200}, lambda cast, owner: {"username": owner, "password": PASSWORD}),
        Row("api/auth/refresh/", "OPEN", {"POST": 200}, lambda cast, owner: {"refresh": cast.tokens[owner]["refresh"]}),
        Row("api/auth/logout/", "PRIVATE", {"POST": 204}, by_tokens="everything"),
        Row(
            "api/auth/me/",
            "PRIVATE",
            {"GET": 200, "PATCH": 200, "DELETE": 409},  # all of the cast own records
            {
                "PATCH": lambda cast, owner: {"name": "Renamed"},
                "DELETE": lambda cast, owner: {"current_password": PASSWORD},
            },
            delete_has_body=True,
        ),
        Row("api/auth/me/file/", "PRIVATE", {"GET": 200}),
        Row(
            "api/auth/password/",
            "PRIVATE",
            {"POST": 204},
            lambda cast, owner: {"current_password": PASSWORD, "new_password": "Another-Pass-9"},
        ),
        # With e-mail configured; without it these five answer 404.
        Row("api/auth/password/reset/", "OPEN", {"POST": 202}, lambda cast, owner: {"email": f"{owner}@example.org"}),
        Row(
            "api/auth/password/reset/confirm/",
            "OPEN",
            {"POST": 204},
            lambda cast, owner: link(PASSWORD_RESET, owner, new_password="Another-Pass-9"),
        ),
        Row("api/auth/email/verify/", "OPEN", {"POST": 202}, lambda cast, owner: {"email": f"{owner}@example.org"}),
        Row(
            "api/auth/email/verify/confirm/",
            "OPEN",
            {"POST": 204},
            lambda cast, owner: link(EMAIL_VERIFICATION, owner),
        ),
        Row(
            "api/auth/email/",
            "PRIVATE",
            {"POST": 202},
            lambda cast, owner: {"email": "next@example.org", "current_password": PASSWORD},
        ),
        Row("api/auth/sessions/", "PRIVATE", {"GET": 200}),
        Row(
            "api/auth/sessions/<int:pk>/",
            "PRIVATE",
            {"DELETE": 204},
            lambda cast, owner: {"current_password": PASSWORD},
            records="session",
            delete_has_body=True,
            by_tokens="end itself",
        ),
        Row("api/auth/tokens/", "PRIVATE", {"GET": 200, "POST": 201}, new_token),
        Row(
            "api/auth/tokens/<int:pk>/",
            "PRIVATE",
            {"GET": 200, "DELETE": 204},
            records="token",
            by_tokens="end itself",
        ),
        Row("api/auth/invitations/", "STAFF", {"POST": 201}, lambda cast, owner: {"email": "", "expires_at": None}),
        Row(
            "api/auth/otp/",
            "PRIVATE",
            {"POST": 201, "DELETE": 204},
            lambda cast, owner: {"current_password": PASSWORD},
            delete_has_body=True,
        ),
        Row("api/auth/otp/confirm/", "PRIVATE", {"POST": 200}, confirmation_code),
        Row("api/clinics/", "PRIVATE", {"GET": 200, "POST": 201}, new_clinic),
        Row("api/clinics/<int:pk>/", "PRIVATE", {"GET": 200, "PATCH": 200}, new_clinic, records="clinic"),
        Row(
            "api/delegations/",
            "PRIVATE",
            {"GET": 200, "POST": 201},
            new_delegation,
            roles={"GET": "read", "POST": "manage"},
        ),
        Row(
            "api/delegations/<int:pk>/",
            "PRIVATE",
            {"GET": 200, "PATCH": 200, "DELETE": 204},
            new_delegation,
            records="delegation",
            finds_deleted={"GET"},
            roles={"GET": "read", "PATCH": "manage", "DELETE": "manage"},
        ),
        Row("api/notices/", "PRIVATE", {"GET": 200}),
        Row("api/notices/<int:pk>/", "PRIVATE", {"DELETE": 204}, records="notice", by_tokens="everything"),
    ],
    operations={
        "auth_register": Operation(public=True),
        # An answer with tokens is never stored for a repeated POST.
        "auth_login": Operation(public=True, idempotency_key=False),
        "auth_refresh": Operation(public=True, idempotency_key=False),
        "auth_logout": Operation(),
        "auth_me": READ_RECORD,
        "auth_me_update": CHANGE_RECORD,
        "auth_leave": DELETE_RECORD,
        "auth_file": Operation(query={"access_log_before"}),
        "auth_password": Operation(),
        # An e-mail is sent again at most 3 times an hour, so nothing is stored for a repeated POST.
        "auth_password_reset": Operation(public=True, idempotency_key=False),
        "auth_password_reset_confirm": Operation(public=True),
        "auth_email_verify": Operation(public=True, idempotency_key=False),
        "auth_email_verify_confirm": Operation(public=True),
        "auth_email": Operation(),
        "auth_sessions_list": LIST_RECORDS,
        "auth_sessions_destroy": Operation(),
        "auth_invitations_create": Operation(idempotency_key=False),
        "auth_tokens_list": LIST_RECORDS,
        # The answer holds a secret, which is never stored.
        "auth_tokens_create": Operation(idempotency_key=False),
        "auth_tokens_retrieve": Operation(),
        "auth_tokens_destroy": Operation(),
        "auth_otp_begin": Operation(idempotency_key=False),  # their answers hold secrets
        "auth_otp_confirm": Operation(idempotency_key=False),
        "auth_otp_remove": Operation(),
        "clinics_list": LIST_RECORDS,
        "clinics_create": CREATE_RECORD,
        "clinics_retrieve": READ_RECORD,
        "clinics_partial_update": CHANGE_RECORD,
        "delegations_list": replace(LIST_RECORDS, query={"direction", "active"}),
        "delegations_create": CREATE_RECORD,
        "delegations_retrieve": READ_RECORD,
        "delegations_partial_update": CHANGE_RECORD,
        "delegations_destroy": DELETE_RECORD,
        "notices_list": LIST_RECORDS,
        "notices_destroy": Operation(),
    },
    lists={
        "/api/delegations/": ListParameters(
            narrowing={"direction": "given", "active": "true", "limit": "500", "count": "true"},
            owner=side_of_cast,
        )
    },
    admin=[
        AdminModel(
            "accounts.User",
            create=lambda user: User.objects.create_user("carol", "carol@example.org", PASSWORD, name="Carol"),
            roles={
                "Records": "view hand_over", "Auditor": "view",
                "Support": "add change view deactivate reset_second_factor",
            },
            added=lambda owner: {
                "name": "Eve", "email": "eve@example.org", "username": "eve", "password1": PASSWORD,
                "password2": PASSWORD,
            },
            changed={"name": "Changed"},
            actions={
                "delete_selected": "delete", "deactivate": "deactivate", "reactivate": "deactivate",
                "hand_over": "hand_over", "reset_second_factor": "reset_second_factor",
            },
            sent={
                "hand_over": lambda owner: {"to": make_heir().username, "reason": "leaves"},
                "reset_second_factor": lambda owner: {"reason": "has lost the phone"},
            },
            prepare={
                "reactivate": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
                "reset_second_factor": enrol,
            },
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
            "accounts.Invitation",
            create=lambda user: Invitation.objects.create(email="invited@example.org", created_by=user),
            roles={"Auditor": "view", "Support": "add view delete"},
            allows="view add delete",
            added=lambda owner: {"email": "eve@example.org"},
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
                "email": BAD_ADDRESSES,
                "password": [
                    None, "", "short", "12345678901", "password", [CANARY], True, {"a": 1}, "x" * 257, CANARY * 100,
                ],
                "invitation": [
                    None, "", " ", 5, True, [CANARY], {"a": 1}, CANARY, CANARY * 5000, ":", "1-1:", f"1-1:{CANARY}",
                    f"{'9' * 5000}-{'9' * 5000}:{CANARY}", "\u0661-1:x", "' OR 1=1 --",
                ],
            },
            by="anonymous",
        ),
        BadValues(
            "/api/auth/invitations/",
            {"email": "new@example.org", "expires_at": None},
            {
                "email": [*BAD_EMAILS, "\u212aevin@example.org", "a@ex\u0430mple.org", "\uff41@x.org"],
                "expires_at": [CANARY, "2001-01-01T00:00:00Z", "2099-01-01", 0, True, [CANARY], {}],
            },
            by="staff",
        ),
        BadValues(
            "/api/auth/tokens/",
            {"name": "Export", "scope": "read", "current_password": PASSWORD},
            {
                "name": [*LONG_AND_ODD_TEXTS, *INVISIBLE_TEXTS, "x" * 101, f"{CANARY}\n{CANARY}"],
                "scope": [*BAD_CHOICES, "manage", "Read", "read write"],
                "acting_for": [[CANARY], {"a": CANARY}, True, 1.5, "", " ", "x" * 255, -1, 0, 2**63],
                "expires_at": [
                    CANARY, "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2027-01-01", 0, True, [CANARY], {},
                ],
                "current_password": [None, "", 12345678, True, [CANARY], {"a": 1}],
                "otp": [[CANARY], {"a": CANARY}, True, 123456, "1" * 101],
            },
        ),
        BadValues(
            "/api/auth/otp/",
            {"current_password": PASSWORD},
            {"current_password": [None, "", True, 5, 1e300, [CANARY], {"a": CANARY}, CANARY]},
        ),
        BadValues(
            "/api/auth/password/reset/",
            {"email": "nobody@example.org"},
            {"email": BAD_ADDRESSES},
            by="anonymous",
        ),
        BadValues("/api/auth/email/verify/", {"email": "nobody@example.org"}, {"email": BAD_ADDRESSES}, by="anonymous"),
        BadValues(
            "/api/auth/password/reset/confirm/",
            {"uid": "MQ", "token": "x", "new_password": PASSWORD},
            {
                "uid": NO_TEXTS,
                "token": BAD_TOKENS,
                "new_password": [*NO_TEXTS, "x" * 257, CANARY * 100],
            },
            by="anonymous",
        ),
        BadValues(
            "/api/auth/email/verify/confirm/",
            {"uid": "MQ", "token": "x"},
            {"uid": NO_TEXTS, "token": BAD_TOKENS},
            by="anonymous",
        ),
        BadValues(
            "/api/auth/email/",
            {"email": "next@example.org", "current_password": PASSWORD},
            {"email": BAD_ADDRESSES, "current_password": [*NO_TEXTS, CANARY, "x" * 257]},
        ),
        BadValues(
            "/api/clinics/",
            {"name": "New Clinic", "username": "new-clinic"},
            {
                "name": BAD_NAMES,
                "username": [*LONG_AND_ODD_TEXTS, None, "", " ", "self", "Self", "a@example.org", "ali ce", "a" * 255],
            },
        ),
        BadValues(
            "/api/delegations/",
            {"delegate": "nobody", "role": "read", "expires_at": None, "note": ""},
            {
                "delegate": [*LONG_AND_ODD_TEXTS, None, "", " ", "x" * 255],
                "role": [*BAD_CHOICES, "owner", "Manage"],
                "expires_at": [CANARY, "2001-01-01T00:00:00Z", "2099-01-01", 0, True, [CANARY], {}],
                "note": [[CANARY], {"a": 1}, True, 5, "x" * 201, f"{CANARY}\n{CANARY}"],
            },
        ),
    ],
)  # fmt: skip
