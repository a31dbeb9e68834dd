"""Users, login sessions and attempts in the admin."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from accounts.client_address import client_network
from accounts.email_links.limits import Purpose, emails_from_key, emails_to_key, wrong_links_key
from accounts.limits import attempts_key, pair_key
from accounts.models import Attempts, LoginSession, User
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, Page, allow, errors_of, in_role, main, named_queries
from patients.tests.factories import make_patient

USERS, SESSIONS, ATTEMPTS = "/admin/accounts/user/", "/admin/accounts/loginsession/", "/admin/accounts/attempts/"
ADD = f"{USERS}add/"
NEW: dict[str, Any] = {
    "name": "Eve",
    "email": "eve@example.org",
    "username": "eve",
    "password1": PASSWORD,
    "password2": PASSWORD,
}


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def change(user: User) -> str:
    return f"{USERS}{user.pk}/change/"


@pytest.mark.parametrize("rows", [10, 60])
def test_the_lists_take_the_same_queries_however_long_they_are(admin: AdminClient, make_user: Any, rows: int):
    for number in range(rows - 1):  # the staff user is one too
        user = make_user(f"user{number}")
        LoginSession.objects.start(user, "curl", "127.0.0.1")
        Attempts.objects.create(key=attempts_key("account", str(number)), count=1, until=timezone.now())
    queries, row_counts = {}, {}
    for path, column in ((USERS, "username"), (SESSIONS, "id"), (ATTEMPTS, "key")):
        with named_queries() as queries[path]:
            row_counts[path] = admin.page(path).count(f'class="field-{column}')
    assert row_counts == {USERS: rows, SESSIONS: rows - 1, ATTEMPTS: rows - 1}
    assert queries == {
        USERS: [*LOGGED_IN, "select count accounts_user", "select accounts_user"],
        SESSIONS: [*LOGGED_IN, "select count accounts_loginsession", "select accounts_loginsession"],
        ATTEMPTS: [*LOGGED_IN, "select count accounts_attempts", "select accounts_attempts"],
    }


@pytest.mark.parametrize("rows", [10, 60])
def test_the_forms_take_the_same_queries_however_many_there_are(admin: AdminClient, make_user: Any, rows: int):
    user = make_user("user")
    for number in range(rows):
        user.groups.add(Group.objects.create(name=f"group {number}"))
        session = LoginSession.objects.start(user, "curl", "127.0.0.1")
    queries: dict[str, list[str]] = {}
    for path in (ADD, change(user), f"{SESSIONS}{session.pk}/change/"):
        with named_queries() as queries[path]:
            admin.page(path)
    chosen = ["select auth_group", "select auth_permission"]
    assert queries == {
        ADD: LOGGED_IN,
        change(user): [*LOGGED_IN, "select accounts_user", *chosen, "select accounts_secondfactor", *chosen],
        f"{SESSIONS}{session.pk}/change/": [*LOGGED_IN, "select accounts_loginsession"],
    }


def test_a_user_that_was_added_can_log_in(admin: AdminClient, anonymous: LoggedInClient):
    assert admin.submit(ADD, admin.form(ADD), **NEW).status_code == 302
    user = User.objects.get(username="eve")
    assert (user.name, user.email, user.is_staff, user.is_active) == ("Eve", "eve@example.org", False, True)
    answer = anonymous.post("/api/auth/login/", {"username": "eve@example.org", "password": PASSWORD})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"name": ""}, {"name": ["This field is required."]}),
        ({"email": "ALICE@example.org"}, {"email": ["A user with this e-mail already exists."]}),
        ({"username": "Alice"}, {"username": ["A user with this username already exists."]}),
        ({"username": "b@x.org"}, {"username": ["A username with an @ must be the user's own e-mail."]}),
        ({"username": "аdmin"}, {"username": None}),
        ({"password1": "abc", "password2": "abc"}, {"password2": None}),
        ({"password2": "OtherPass123"}, {"password2": ["The two password fields didn’t match."]}),
        ({"name": "a\0"}, {"name": ["Null characters are not allowed."]}),
    ],
)
def test_invalid_input_is_reported_on_the_form(
    admin: AdminClient, alice: User, changes: dict[str, Any], errors: dict[str, Any]
):
    messages_by_field = errors_of(admin.submit(ADD, admin.form(ADD), **{**NEW, **changes}))
    assert messages_by_field.keys() == errors.keys()
    assert all(messages is None or messages_by_field[field] == messages for field, messages in errors.items())
    assert User.objects.count() == 2


def test_a_taken_email_is_reported_when_an_account_is_changed(admin: AdminClient, alice: User, bob: User):
    messages_by_field = errors_of(admin.submit(change(bob), email="Alice@example.org"))
    assert messages_by_field == {"email": ["A user with this e-mail already exists."]}


def test_what_the_user_changed_while_the_form_was_open_stays(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    form = admin.form(change(alice))
    as_alice.patch("/api/auth/me/", {"name": "Alice Liddell"})
    password = {"current_password": PASSWORD, "new_password": "OtherPass456"}
    assert as_alice.post("/api/auth/password/", password).status_code == 204
    assert admin.submit(change(alice), form, email="liddell@example.org").status_code == 302
    alice.refresh_from_db()
    assert (alice.name, alice.email) == ("Alice Liddell", "liddell@example.org")
    assert alice.check_password("OtherPass456")


def test_deactivating_ends_the_sessions(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    assert as_alice.get("/api/auth/sessions/").status_code == 200
    assert admin.submit(change(alice), is_active=None).status_code == 302
    assert as_alice.get("/api/auth/sessions/").status_code == 401
    assert admin.submit(change(alice), is_active="on").status_code == 302
    assert as_alice.get("/api/auth/sessions/").status_code == 401


def test_another_change_leaves_the_sessions(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    assert admin.submit(change(alice), name="Alice Liddell").status_code == 302
    assert as_alice.get("/api/auth/me/").json()["name"] == "Alice Liddell"


@pytest.mark.parametrize(
    "changes",
    [
        {"password1": "OtherPass456", "password2": "OtherPass456", "usable_password": "true"},
        {"usable_password": "false", "unset-password": "1"},
    ],
)
def test_another_password_or_none_ends_the_sessions(
    admin: AdminClient, alice: User, as_alice: LoggedInClient, changes: dict[str, Any]
):
    path = f"{USERS}{alice.pk}/password/"
    assert admin.submit(path, admin.form(path), **changes).status_code == 302
    assert as_alice.get("/api/auth/sessions/").status_code == 401
    refreshed = as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]})
    assert refreshed.status_code == 401


def test_the_pages_of_a_password_name_no_other_way_to_log_in(admin: AdminClient, alice: User):
    for path in (f"{USERS}add/", f"{USERS}{alice.pk}/password/"):
        page = admin.page(path)
        assert "A user for whom this is disabled has no password and cannot log in." in page
        assert "LDAP" not in page


def test_a_weak_password_is_refused(admin: AdminClient, alice: User):
    path = f"{USERS}{alice.pk}/password/"
    answer = admin.submit(path, password1="12345678", password2="12345678")
    assert "This password is entirely numeric." in answer.content.decode()
    assert User.objects.get(pk=alice.pk).check_password(PASSWORD)


def test_a_user_who_owns_records_cannot_be_deleted(admin: AdminClient, alice: User):
    make_patient(alice)
    page = main(admin.page(f"{USERS}{alice.pk}/delete/"))
    assert "would require deleting the following protected related objects" in page
    assert "1 patient<" in page
    assert admin.post(f"{USERS}{alice.pk}/delete/", {"post": "yes"}).status_code == 200
    assert admin.act(USERS, "delete_selected", [alice], post="yes").status_code == 200
    assert User.objects.filter(pk=alice.pk).exists()


def test_a_user_who_is_in_the_admins_history_cannot_be_deleted(admin: AdminClient, make_user: Any, alice: User):
    other = make_user("other", is_staff=True, is_superuser=True)
    AdminClient(other).submit(change(alice), name="Alice Liddell")
    assert "Deactivate them instead" not in admin.page(f"{USERS}{alice.pk}/delete/")
    assert "1 log entry" in main(admin.page(f"{USERS}{other.pk}/delete/"))
    assert admin.act(USERS, "delete_selected", [other], post="yes").status_code == 200
    assert LogEntry.objects.filter(user=other).exists()


def test_a_user_without_records_is_deleted_along_with_the_sessions(
    admin: AdminClient, alice: User, as_alice: LoggedInClient
):
    assert admin.submit(f"{USERS}{alice.pk}/delete/").status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    assert as_alice.get("/api/auth/sessions/").status_code == 401
    refreshed = as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]})
    assert refreshed.status_code == 401


def test_only_a_superuser_gives_rights_or_touches_staff(make_user: Any, alice: User, staff: User):
    rights = ["view_user", "add_user", "change_user", "delete_user"]
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), *rights))
    own = User.objects.get(username="clerk")
    for user in (staff, own):
        assert clerk.post(change(user), {"name": "x", "is_superuser": "on"}).status_code == 403
        assert clerk.get(f"{USERS}{user.pk}/password/").status_code == 403
        assert clerk.post(f"{USERS}{user.pk}/delete/", {"post": "yes"}).status_code == 403
        assert clerk.act(USERS, "delete_selected", [user], post="yes").status_code == 403
    assert clerk.submit(change(alice), name="Alice Liddell", is_staff="on", is_superuser="on").status_code == 302
    alice.refresh_from_db()
    assert (alice.name, alice.is_staff, alice.is_superuser) == ("Alice Liddell", False, False)
    assert User.objects.filter(is_superuser=True).get() == staff


def test_support_cannot_log_in_as_somebody_else(make_user: Any, alice: User, anonymous: LoggedInClient):
    """Neither as a user who exists nor as one whom Support adds."""
    make_patient(alice)
    support = AdminClient(in_role(make_user("support", is_staff=True), "Support"))
    page = support.page(change(alice))
    assert not {"email", "username", "password", "is_staff", "is_superuser", "groups"} & Page(page).fields.keys()
    assert "password" not in main(page).lower()
    sent = {**NEW, "usable_password": "true", "password": "x", "is_staff": "on", "groups": "1"}
    assert support.submit(change(alice), **sent).status_code == 302
    password = alice.password
    alice.refresh_from_db()
    assert (alice.name, alice.username, alice.email, alice.password, alice.is_staff, alice.groups.count()) == (
        "Eve", "alice", "alice@example.org", password, False, 0,
    )  # fmt: skip
    for method in (support.get, support.post):
        assert method(f"{USERS}{alice.pk}/password/", {"password1": PASSWORD, "password2": PASSWORD}).status_code == 403
    page = support.page(ADD)
    assert not {"usable_password", "password1", "password2"} & Page(page).fields.keys()
    assert "The user can log in once a superuser has set a password." in page
    assert support.submit(ADD, **{**NEW, "usable_password": "true", "is_staff": "on"}).status_code == 302
    eve = User.objects.get(username="eve")
    assert (eve.has_usable_password(), eve.is_staff) == (False, False)
    assert anonymous.post("/api/auth/login/", {"username": "eve", "password": PASSWORD}).status_code == 401


def test_staff_who_may_set_credentials_add_users_with_a_password_and_set_another(make_user: Any, alice: User):
    rights = ["view_user", "add_user", "change_user", "set_credentials_user"]
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), *rights))
    assert clerk.submit(ADD, **NEW).status_code == 302
    assert User.objects.get(username="eve").check_password(PASSWORD)
    path = f"{USERS}{alice.pk}/password/"
    assert clerk.submit(path, password1="OtherPass456", password2="OtherPass456").status_code == 302
    assert clerk.submit(change(alice), email="liddell@example.org").status_code == 302
    alice.refresh_from_db()
    assert (alice.email, alice.check_password("OtherPass456")) == ("liddell@example.org", True)


def test_staff_who_may_not_deactivate_do_not_change_whether_a_user_is_active(make_user: Any, alice: User):
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), "view_user", "change_user"))
    assert clerk.submit(change(alice), name="Alice Liddell", is_active=None).status_code == 302
    alice.refresh_from_db()
    assert (alice.name, alice.is_active) == ("Alice Liddell", True)


def test_only_a_superuser_changes_groups(make_user: Any, admin: AdminClient):
    group = Group.objects.create(name="clerks")
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), "view_group", "add_group", "change_group"))
    path = f"/admin/auth/group/{group.pk}/change/"
    assert clerk.post(path, {"name": "rulers"}).status_code == 403
    assert clerk.post("/admin/auth/group/add/", {"name": "rulers"}).status_code == 403
    assert admin.submit(path, name="nurses").status_code == 302
    group.refresh_from_db()
    assert group.name == "nurses"
    assert not Group.objects.filter(name="rulers").exists()


def test_staff_revoke_sessions(admin: AdminClient, as_alice: LoggedInClient, as_bob: LoggedInClient):
    preview = admin.act(SESSIONS, "revoke", [as_alice.login_session])
    assert "It cannot be undone." in preview.content.decode()
    assert as_alice.get("/api/auth/sessions/").status_code == 200
    assert admin.confirm(preview).status_code == 302
    assert (as_alice.get("/api/auth/sessions/").status_code, as_bob.get("/api/auth/sessions/").status_code) == (
        401,
        200,
    )
    assert LogEntry.objects.get().change_message == "Revoked."


def test_the_permission_to_view_sessions_does_not_allow_revoking(make_user: Any, as_alice: LoggedInClient):
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_loginsession"))
    assert "alice" in viewer.page(SESSIONS)
    assert viewer.act(SESSIONS, "revoke", [as_alice.login_session], post="yes").status_code == 403
    assert as_alice.get("/api/auth/sessions/").status_code == 200


def test_sessions_are_read_only(admin: AdminClient, as_alice: LoggedInClient):
    row = f"{SESSIONS}{as_alice.login_session.pk}"
    page = admin.page(f"{row}/change/")
    assert as_alice.login_session.token_id not in page
    assert admin.get(f"{SESSIONS}add/").status_code == 403
    assert admin.post(f"{row}/change/", {}).status_code == 403
    assert admin.post(f"{row}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(("query", "row_count"), [("", 2), ("?state=live", 1), ("?state=ended", 1)])
def test_sessions_are_filtered_by_state(
    admin: AdminClient, as_alice: LoggedInClient, as_bob: LoggedInClient, query: str, row_count: int
):
    LoginSession.objects.filter(pk=as_bob.login_session.pk).revoke()
    assert admin.page(f"{SESSIONS}{query}").count('class="field-id') == row_count


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("alice", ["account"]),
        ("Alice@example.org", ["account"]),
        ("127.0.0.1", ["address"]),
        ("2001:db8::5", ["address"]),
        ("alice 127.0.0.1", ["account", "pair"]),
        ("alice@example.org 2001:db8::5", ["account", "pair"]),
        ("alice 127.0.0.2", ["account"]),
    ],
)
def test_attempts_are_found_by_whom_they_count_and_deleted(
    admin: AdminClient, alice: User, term: str, found: list[str]
):
    address = "2001:db8::1" if ":" in term else "127.0.0.1"
    for username in ("alice", "nobody"):
        body = {"username": username, "password": "WrongPass123"}
        assert Client().post("/admin/login/", body, REMOTE_ADDR=address).status_code == 200
    account, network = attempts_key("account", str(alice.pk)), client_network(address)
    keys = {"account": account, "address": attempts_key("address", network), "pair": pair_key(network, account)}
    assert Attempts.objects.count() == 5  # of the address, and of each account alone and from the address
    page = admin.page(f"{ATTEMPTS}?q={term}")
    assert {key for key in Attempts.objects.values_list("key", flat=True) if key in page} == {
        keys[kind] for kind in found
    }
    path = f"{ATTEMPTS}{keys[found[0]]}"
    assert admin.post(f"{path}/change/", {"count": "0"}).status_code == 403
    assert admin.submit(f"{path}/delete/").status_code == 302
    assert Attempts.objects.count() == 4


@pytest.mark.django_db(transaction=True)  # the login is not one transaction, and an error ends that of a test
def test_attempts_from_the_addresses_of_earlier_logins_are_found_by_the_account_alone(
    admin: AdminClient, alice: User, anonymous: LoggedInClient
):
    for password in (PASSWORD, "WrongPass123"):
        anonymous.post("/api/auth/login/", {"username": "alice", "password": password})
    pair = pair_key("127.0.0.1", attempts_key("account", str(alice.pk)))
    assert pair in admin.page(f"{ATTEMPTS}?q=alice")


def test_attempts_of_every_kind_are_found(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    account, session, network = str(alice.pk), str(as_alice.login_session.pk), "127.0.0.1"
    of_account = {
        attempts_key("session", session),
        *(attempts_key(kind, account) for kind in ("account", "email change", "name", "account file")),
        *(emails_to_key(purpose, "alice@example.org") for purpose in Purpose),
    }
    of_client = {
        *(attempts_key(kind, network) for kind in ("address", "registration")),
        *(emails_from_key(purpose, network) for purpose in Purpose),
        wrong_links_key(network),
    }
    to_stranger = {emails_to_key(purpose, "nobody@example.org") for purpose in Purpose}
    keys = of_account | of_client | to_stranger
    Attempts.objects.bulk_create(Attempts(key=key, count=1, until=timezone.now()) for key in keys)
    for term, found in (("alice", of_account), (network, of_client), ("Nobody@example.org", to_stranger)):
        page = admin.page(f"{ATTEMPTS}?q={term}")
        assert {key for key in keys if key in page} == found
