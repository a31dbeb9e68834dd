"""The admin of invitations: add, list and withdraw."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.invitations.codes import write_invitation
from accounts.invitations.models import Invitation
from accounts.models import User
from accounts.tests.answers import refusals
from healthcare.api.models import IdempotencyRecord
from healthcare.tests.admin_pages import AdminClient, errors_of, in_role, main

LIST = "/admin/accounts/invitation/"
REGISTER = "/api/auth/register/"
EVE = {"name": "Eve", "email": "eve@example.org", "username": "eve", "password": "StrongPass123"}


@pytest.fixture
def sam(make_user: Callable[..., User]) -> User:
    return in_role(make_user("sam", is_staff=True), "Support")


@pytest.fixture
def client(sam: User) -> AdminClient:
    return AdminClient(sam)


def add(client: AdminClient, **fields: Any) -> Any:
    return client.submit(f"{LIST}add/", **fields)


def test_the_text_is_on_the_page_after_adding_and_nowhere_else(
    client: AdminClient, sam: User, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = add(client, email="eve@example.org")
    invitation = Invitation.objects.get()
    text = write_invitation(invitation)
    assert answer.status_code == 200
    assert answer["Cache-Control"].find("no-store") >= 0
    page = main(answer.content.decode())
    assert page.count(text) == 1
    assert "Give this text to eve@example.org" in page
    assert (invitation.created_by, invitation.email) == (sam, "eve@example.org")
    signature = text.rpartition(":")[2]
    for later in (LIST, f"{LIST}?state=all", f"{LIST}{invitation.pk}/change/", f"{LIST}{invitation.pk}/history/"):
        assert signature not in client.page(later), later
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.object_repr) == (sam, str(invitation.pk), f"invitation {invitation.pk}")
    stored = [LogEntry, IdempotencyRecord, Invitation]
    assert signature not in repr([list(model._default_manager.values_list()) for model in stored])
    assert signature not in repr([session.get_decoded() for session in Session.objects.all()])
    assert signature not in caplog.text


def test_the_text_of_the_page_works(client: AdminClient, anonymous: APIClient, settings: Any) -> None:
    settings.REGISTRATION = "invite"
    text = add(client).context_data["text"]
    assert anonymous.post(REGISTER, EVE | {"invitation": text}).status_code == 201


def test_a_form_that_is_sent_twice_adds_one_invitation_and_shows_it_twice(client: AdminClient) -> None:
    form = client.form(f"{LIST}add/")
    first, second = (client.submit(f"{LIST}add/", form) for _ in range(2))
    text = write_invitation(Invitation.objects.get())
    assert text in first.content.decode()
    assert text in second.content.decode()


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "ex\u00e4mple@example.org"}, "email"),
        ({"expires_at_0": "2001-01-01", "expires_at_1": "12:00:00"}, "expires_at"),
        ({"expires_at_0": "9999-12-31", "expires_at_1": "23:59:59"}, "expires_at"),
    ],
)
def test_what_nobody_could_use_is_refused(client: AdminClient, fields: dict[str, str], wrong: str) -> None:
    assert set(errors_of(add(client, **fields))) == {wrong}
    assert not Invitation.objects.exists()


def test_the_list_shows_usable_ones_unless_another_state_is_chosen(client: AdminClient, alice: User) -> None:
    past, later = (timezone.now() + timedelta(hours=hours) for hours in (-1, 1))
    states = {
        "usable": Invitation.objects.create(email="one@example.org", expires_at=later),
        "used": Invitation.objects.create(email="two@example.org", expires_at=past, used_at=past, used_by=alice),
        "expired": Invitation.objects.create(email="three@example.org", expires_at=past),
    }
    emails = {f"{name}@example.org" for name in ("one", "two", "three")}

    def shown(query: str) -> set[str]:
        page = main(client.page(f"{LIST}{query}"))
        return {email.partition("@")[0] for email in emails if email in page}

    assert shown("") == {"one"}
    assert shown("?state=used") == {"two"}
    assert shown("?state=expired") == {"three"}
    assert shown("?state=all") == {"one", "two", "three"}
    assert shown("?state=all&q=THREE@example.org") == {"three"}
    assert {state: one.state for state, one in states.items()} == {state: state for state in states}


def test_deleting_withdraws(client: AdminClient, anonymous: APIClient) -> None:
    text = add(client).context_data["text"]
    [invitation] = Invitation.objects.all()
    answer = client.post(f"{LIST}{invitation.pk}/delete/", {"post": "yes"})
    assert (answer.status_code, Invitation.objects.count()) == (302, 0)
    assert refusals(anonymous.post(REGISTER, EVE | {"invitation": text})) == {("/invitation", "invalid")}


def test_a_used_one_is_not_deleted(client: AdminClient, alice: User) -> None:
    used = Invitation.objects.create(used_at=timezone.now(), used_by=alice)
    assert client.post(f"{LIST}{used.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.act(f"{LIST}?state=all", "delete_selected", [used], post="yes").status_code == 403
    assert Invitation.objects.get() == used


def test_a_superuser_changes_none(staff: User) -> None:
    invitation = Invitation.objects.create(email="eve@example.org")
    path = f"{LIST}{invitation.pk}/change/"
    client = AdminClient(staff)
    assert 'name="_save"' not in client.page(path)
    assert client.post(path, {"email": "bob@example.org"}).status_code == 403
    assert Invitation.objects.get().email == "eve@example.org"


def test_the_one_who_invited_and_the_one_who_came_can_be_deleted(client: AdminClient, sam: User, alice: User) -> None:
    Invitation.objects.create(created_by=sam, used_at=timezone.now(), used_by=alice)
    User.objects.filter(pk__in=[sam.pk, alice.pk]).delete()
    invitation = Invitation.objects.get()
    assert (invitation.created_by, invitation.used_by, invitation.state) == (None, None, "used")
