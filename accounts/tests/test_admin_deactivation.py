"""Deactivating users in the admin ends their sessions; reactivating them brings no session back."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from audit.models import UserEvent
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.admin_pages import AdminClient, allow, main

USERS = "/admin/accounts/user/"


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


@pytest.fixture
def support(make_user: Any) -> AdminClient:
    return AdminClient(allow(make_user("helen", is_staff=True), "view_user", "deactivate_user"))


def message(client: AdminClient, answer: Any) -> str:
    assert answer.status_code == 302
    return client.page(answer["Location"]).partition('class="messagelist"')[2].partition("</ul>")[0]


@pytest.mark.django_db(transaction=True)  # the login is not one transaction, and an error ends that of a test
def test_a_deactivated_user_is_out_at_once_and_stays_out(
    support: AdminClient, alice: User, as_alice: LoggedInClient, anonymous: LoggedInClient
):
    LoginSession.objects.start(alice, "another device", "127.0.0.1")
    assert as_alice.get("/api/patients/").status_code == 200
    preview = support.act(USERS, "deactivate", [alice])
    assert "All their sessions end at once" in main(preview.content.decode())
    assert as_alice.get("/api/patients/").status_code == 200
    said = message(support, support.confirm(preview))
    assert "1 user deactivated. 2 sessions of the API and 0 sessions of the admin ended." in said
    assert as_alice.get("/api/patients/").status_code == 401
    login = {"username": "alice", "password": PASSWORD}
    assert anonymous.post("/api/auth/login/", login).status_code == 401
    event = UserEvent.objects.filter(id=alice.pk, pgh_label="update").latest("pgh_id")
    assert (event.is_active, event.pgh_context["actor"]) == (False, User.objects.get(username="helen").pk)
    preview = support.get(f"{USERS}reactivate/?id={alice.pk}")
    assert "The sessions that were ended stay ended." in main(preview.content.decode())
    assert "1 user reactivated. Their sessions stay ended." in message(support, support.confirm(preview))
    assert as_alice.get("/api/patients/").status_code == 401
    assert anonymous.post("/api/auth/login/", login).status_code == 200


@pytest.mark.parametrize("way", ["action", "form"])
def test_the_admin_session_of_a_member_of_staff_ends_for_good(admin: AdminClient, make_user: Any, way: str):
    colleague = make_user("colleague", is_staff=True)
    session = AdminClient(colleague)
    assert session.get("/admin/").status_code == 200
    if way == "action":
        said = message(admin, admin.confirm(admin.act(USERS, "deactivate", [colleague])))
        assert "0 sessions of the API and 1 session of the admin ended." in said
    else:
        assert admin.submit(f"{USERS}{colleague.pk}/change/", is_active=None).status_code == 302
    assert session.get("/admin/").status_code == 302
    assert Session.objects.count() == 1  # of the superuser
    unseen = AdminClient(colleague)  # of a login that the deactivation has overtaken
    admin.confirm(admin.get(f"{USERS}reactivate/?id={colleague.pk}"))
    assert (session.get("/admin/").status_code, unseen.get("/admin/").status_code) == (302, 302)


def test_nobody_deactivates_themselves_or_staff_without_being_a_superuser(
    support: AdminClient, admin: AdminClient, staff: User, make_user: Any
):
    helen, colleague = User.objects.get(username="helen"), make_user("colleague", is_staff=True)
    said = message(support, support.act(USERS, "deactivate", [helen, colleague, staff], post="yes"))
    assert "Nothing was deactivated." in said
    assert f"user {helen.pk} is your own account; ask a colleague" in said
    for user in (colleague, staff):
        assert f"user {user.pk} is a member of staff; ask a superuser" in said
    assert "is your own account" in message(admin, admin.act(USERS, "deactivate", [staff], post="yes"))
    User.objects.filter(pk=colleague.pk).update(is_active=False)
    said = message(support, support.act(USERS, "reactivate", [colleague], post="yes"))
    assert f"user {colleague.pk} is a member of staff; ask a superuser" in said
    assert User.objects.filter(is_active=True).count() == 2


@pytest.mark.parametrize("name", ["is_active", "is_staff", "is_superuser"])
def test_the_form_of_the_own_account_does_not_take_the_own_rights(
    admin: AdminClient, staff: User, make_user: Any, name: str
):
    path = f"{USERS}{staff.pk}/change/"
    assert name not in admin.form(path)
    sent = admin.form(path) | {"name": "Renamed", f"initial-{name}": "on"}  # unticked
    assert admin.submit(path, sent).status_code == 302
    own = User.objects.get(pk=staff.pk)
    assert (own.name, getattr(own, name), admin.get("/admin/").status_code) == ("Renamed", True, 200)
    other = make_user("other", is_staff=True, is_superuser=True)
    assert name in admin.form(f"{USERS}{other.pk}/change/")


def test_who_selects_their_own_account_too_deactivates_the_others(admin: AdminClient, staff: User, make_user: Any):
    other = make_user("other", is_staff=True, is_superuser=True)
    said = message(admin, admin.confirm(admin.act(USERS, "deactivate", [staff, other])))
    assert "1 user deactivated." in said
    assert f"Not deactivated: user {staff.pk} is your own account; ask a colleague." in said
    assert User.objects.get(is_superuser=True, is_active=True) == staff


def test_the_last_active_superuser_stays(make_user: Any, staff: User):
    other = make_user("other", is_staff=True, is_superuser=True)
    clients = [AdminClient(staff), AdminClient(other)]
    previews = [clients[0].act(USERS, "deactivate", [other]), clients[1].act(USERS, "deactivate", [staff])]
    assert clients[0].confirm(previews[0]).status_code == 302
    assert clients[1].confirm(previews[1])["Location"].startswith("/admin/login/")
    assert User.objects.get(is_superuser=True, is_active=True) == staff


def test_the_queries_do_not_grow_with_the_users(admin: AdminClient, make_user: Any):
    counts = set()
    for number in (1, 4):
        users = [make_user(f"user{number}{place}") for place in range(number)]
        for user in users:
            LoginSession.objects.start(user, "curl", "127.0.0.1")
        sent = {"_selected_action": [user.pk for user in users], "post": "yes"}
        with CaptureQueriesContext(connection) as queries:
            assert admin.post(f"{USERS}deactivate/", sent).status_code == 302
        counts.add(len(queries))
    assert len(counts) == 1


@pytest.fixture
def clinic(make_user: Any, alice: User) -> User:
    """Alice manages it, and so do others, who do not stay."""
    clinic: User = make_user("sunrise", email=None, is_clinic=True, password=None)
    Delegation.objects.create(owner=clinic, delegate=alice, role="manage")
    gone, passing = make_user("gone", is_active=False), make_user("passing")
    Delegation.objects.create(owner=clinic, delegate=gone, role="manage")
    Delegation.objects.create(
        owner=clinic, delegate=passing, role="manage", expires_at=timezone.now() + timedelta(days=1)
    )
    return clinic


def test_the_action_leaves_the_last_manager_of_a_clinic_active_and_deactivates_the_others(
    support: AdminClient, alice: User, bob: User, clinic: User, as_alice: LoggedInClient
):
    preview = support.act(USERS, "deactivate", [alice, bob])
    refusal = "is the last manager of a clinic; first make another user its manager"
    assert refusal in main(preview.content.decode())
    said = message(support, support.confirm(preview))
    assert "1 user deactivated." in said
    assert f"user {alice.pk} {refusal}" in said
    assert dict(User.objects.filter(pk__in=[alice.pk, bob.pk]).values_list("username", "is_active")) == {
        "alice": True,
        "bob": False,
    }
    assert as_alice.get("/api/patients/").status_code == 200


def test_all_managers_of_a_clinic_are_not_deactivated_together(
    support: AdminClient, alice: User, bob: User, clinic: User
):
    Delegation.objects.create(owner=clinic, delegate=bob, role="manage")
    assert "Nothing was deactivated." in message(support, support.act(USERS, "deactivate", [alice, bob], post="yes"))
    assert "1 user deactivated." in message(support, support.act(USERS, "deactivate", [bob], post="yes"))


@pytest.mark.parametrize("way", ["save", "update", "form"])
def test_nothing_else_deactivates_the_last_manager_of_a_clinic_either(
    admin: AdminClient, alice: User, as_alice: LoggedInClient, clinic: User, way: str
):
    if way == "form":
        answer = admin.submit(f"{USERS}{alice.pk}/change/", is_active=None)
        assert answer.status_code == 200
        assert "A clinic needs a manager." in answer.content.decode()
    else:
        alice.is_active = False
        with pytest.raises(IntegrityError, match="A clinic needs a manager"), transaction.atomic():
            alice.save() if way == "save" else User.objects.filter(pk=alice.pk).update(is_active=False)
    assert User.objects.get(pk=alice.pk).is_active
    assert as_alice.get("/api/patients/").status_code == 200
