"""Login sessions and personal access tokens in the admin, and what it shows of a user's e-mail and second factor."""

import hashlib
import re
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import LoginSession, User
from accounts.second_factor.models import SecondFactor
from conftest import LoggedInClient
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, allow, in_role, main, named_queries

SESSIONS, USERS = "/admin/accounts/loginsession/", "/admin/accounts/user/"


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def make_token(user: User, name: str, acting_for: int | None = None) -> LoginSession:
    token = LoginSession.new(user, "curl", None, acting_for)
    token.kind, token.scope, token.name = LoginSession.Kind.TOKEN, LoginSession.Scope.READ, name
    token.secret_hash = hashlib.sha256(name.encode()).hexdigest()
    token.save()
    return token


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", main(page)).split())


def value_of(page: str, field: str) -> str:
    """What the page of a record shows in a field that cannot be edited; "True" or "False" for an icon."""
    row = page.partition(f"field-{field}")[2].partition('class="readonly"')[2].partition("</div>")[0]
    icon = re.search(r'alt="(\w+)"', row)
    return icon[1] if icon else re.sub(r"<[^>]*>", "", row.partition(">")[2]).strip()


def test_the_list_and_the_page_say_what_a_token_is_and_never_its_hash(admin: AdminClient, alice: User, bob: User):
    token = make_token(bob, "nightly export", acting_for=alice.pk)
    for path in (SESSIONS, f"{SESSIONS}{token.pk}/change/"):
        page = admin.page(path)
        shown = text_of(page)
        for expected in ("personal access token", "bob", "alice", "nightly export", "read"):
            assert expected in shown, (path, expected)
        assert str(token.secret_hash) not in page
        assert token.token_id not in page


def test_a_session_for_an_owner_who_is_gone_shows_the_id(admin: AdminClient, bob: User):
    session = LoginSession.objects.start(bob, "curl", None, 987654)
    assert "user 987654, who is gone" in text_of(admin.page(f"{SESSIONS}{session.pk}/change/"))


@pytest.mark.parametrize("rows", [2, 20])
def test_the_owners_of_a_page_are_read_together(admin: AdminClient, bob: User, make_user: Any, rows: int):
    for number in range(rows):
        LoginSession.objects.start(bob, "curl", None, make_user(f"owner{number}").pk)
    with named_queries() as queries:
        shown = text_of(admin.page(SESSIONS))
    assert all(f"owner{number}" in shown for number in range(rows))
    sessions = "accounts_loginsession"
    assert queries == [*LOGGED_IN, f"select count {sessions}", f"select {sessions}", "select accounts_user"]


@pytest.mark.parametrize(("kind", "found"), [("", 2), ("token", 1), ("session", 1)])
def test_sessions_are_filtered_by_kind(admin: AdminClient, as_alice: LoggedInClient, bob: User, kind: str, found: int):
    make_token(bob, "nightly export")
    assert admin.page(f"{SESSIONS}?kind={kind}").count('class="field-id') == found
    assert admin.get(f"{SESSIONS}?kind=other").status_code == 400


def test_staff_revoke_a_token(admin: AdminClient, bob: User):
    token = make_token(bob, "nightly export")
    preview = admin.act(SESSIONS, "revoke", [token])
    assert f"token {token.pk} (nightly export) of bob" in text_of(preview.content.decode())
    assert admin.confirm(preview).status_code == 302
    assert not LoginSession.objects.live().exists()


def test_the_page_of_a_user_says_whether_the_email_is_verified(admin: AdminClient, alice: User):
    path = f"{USERS}{alice.pk}/change/"
    for verified, shown in ((None, "False"), ("old@example.org", "False"), (alice.email, "True")):
        User.objects.filter(pk=alice.pk).update(verified_email=verified)
        assert value_of(admin.page(path), "email_verified") == shown, verified


def test_only_who_sets_the_email_sees_the_one_to_be_confirmed(admin: AdminClient, alice: User, make_user: Any):
    User.objects.filter(pk=alice.pk).update(pending_email="next@example.org")
    path = f"{USERS}{alice.pk}/change/"
    assert value_of(admin.page(path), "pending_email") == "next@example.org"
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), "view_user", "change_user", "set_credentials_user"))
    assert "next@example.org" in clerk.page(path)
    for role in ("Support", "Auditor", "Records"):
        member = AdminClient(in_role(make_user(role[:4].lower(), is_staff=True), role))
        assert "next@example.org" not in member.page(path), role


def test_the_page_of_a_user_says_whether_a_second_factor_is_confirmed(admin: AdminClient, alice: User):
    path = f"{USERS}{alice.pk}/change/"
    assert value_of(admin.page(path), "has_second_factor") == "False"
    factor = SecondFactor.objects.create(user=alice, encrypted_secret=b"secret")
    assert value_of(admin.page(path), "has_second_factor") == "False"
    factor.confirmed_at = timezone.now()
    factor.save()
    assert value_of(admin.page(path), "has_second_factor") == "True"


def test_no_form_writes_what_proves_an_email_or_a_second_factor(admin: AdminClient, alice: User):
    path = f"{USERS}{alice.pk}/change/"
    sent: dict[str, Any] = {"name": "Alice Liddell", "verified_email": alice.email, "pending_email": "x@example.org"}
    assert admin.submit(path, **sent, has_second_factor="on").status_code == 302
    alice.refresh_from_db()
    assert (alice.name, alice.verified_email, alice.pending_email) == ("Alice Liddell", None, None)
    assert not SecondFactor.objects.exists()
