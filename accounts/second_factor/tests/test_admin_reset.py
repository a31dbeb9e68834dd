"""Staff remove the second factor of users who have lost theirs."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from accounts.admin_second_factor import PASSED, time_of
from accounts.limits import user_key
from accounts.models import User
from accounts.second_factor.models import RecoveryCode, SecondFactor
from accounts.second_factor.tests.conftest import App
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.admin_pages import AdminClient, allow, in_role

USERS = "/admin/accounts/user/"
SENT = {"reason": "has lost the phone, called back"}
Enrol = Callable[[User], App]


@pytest.fixture
def support(make_user: Any) -> AdminClient:
    return AdminClient(in_role(make_user("support", is_staff=True), "Support"))


def text_of(answer: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


def remove(client: AdminClient, *users: User, **sent: str) -> Any:
    return client.confirm(client.act(USERS, "reset_second_factor", users), **(sent or SENT))


def enrolled() -> set[str]:
    return {*SecondFactor.objects.values_list("user__username", flat=True)}


def test_support_removes_a_factor_and_says_why(
    support: AdminClient, alice: User, bob: User, enrol: Enrol, as_alice: LoggedInClient, anonymous: Any,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    for user in (alice, bob):
        enrol(user)
    preview = support.act(USERS, "reset_second_factor", [alice])
    assert "Remove the second factor of 1 user" in text_of(preview)
    assert "It cannot be undone." in text_of(preview)
    assert enrolled() == {"alice", "bob"}
    answer = support.confirm(preview, **SENT)
    assert answer.status_code == 302
    assert "1 user left without a second factor." in text_of(support.get(answer["Location"]))
    assert enrolled() == {"bob"}
    assert RecoveryCode.objects.exclude(factor_id=bob.pk).count() == 0
    assert LogEntry.objects.get().change_message == (
        "Left without a second factor. Reason: has lost the phone, called back"
    )
    [line] = [record for record in caplog.records if record.getMessage() == "second factor removed"]
    by = user_key(User.objects.get(username="support").pk)
    assert vars(line)["fields"].items() >= {"account": user_key(alice.pk), "by": by, **SENT}.items()
    assert as_alice.get("/api/auth/me/").status_code == 200, "sessions stay"
    assert anonymous.post("/api/auth/login/", {"username": "alice", "password": PASSWORD}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_user_is_told_by_email(staff: User, alice: User, enrol: Enrol, mail_server: Any):
    enrol(alice)
    mail_server.take()
    assert remove(AdminClient(staff), alice).status_code == 302
    [(recipient, message)] = mail_server.take()
    assert (recipient, message["Subject"]) == ("alice@example.org", "Your second factor was removed")
    assert SENT["reason"] not in str(message.get_payload())


def test_it_takes_a_reason(support: AdminClient, alice: User, enrol: Enrol):
    enrol(alice)
    for reason in ("", " ", "x" * 201, "two\nlines"):
        answer = remove(support, alice, reason=reason)
        assert (answer.status_code, "Nothing was changed." in text_of(answer)) == (200, True), reason
    assert enrolled() == {"alice"}


def test_users_without_one_are_left_as_they_are(support: AdminClient, alice: User, bob: User, enrol: Enrol):
    enrol(alice)
    preview = support.act(USERS, "reset_second_factor", [alice, bob])
    assert "bob has no second factor." in text_of(preview)
    answer = support.confirm(preview, **SENT)
    assert f"Not left without a second factor: user {bob.pk} has no second factor." in text_of(
        support.get(answer["Location"])
    )
    assert enrolled() == set()


def test_nobody_but_a_superuser_removes_that_of_staff_and_nobody_their_own(
    support: AdminClient, staff: User, make_user: Any, enrol: Enrol
):
    clerk, root = make_user("clerk", is_staff=True), make_user("root", is_superuser=True)
    own = User.objects.get(username="support")
    for user in (clerk, root, own, staff):
        enrol(user)
    support = AdminClient(own)
    sent = {"action": "reset_second_factor", "_selected_action": [clerk.pk, root.pk, own.pk], "post": "yes", **SENT}
    session = support.session  # the code of the own factor is given
    session[PASSED] = time_of(own.second_factor.confirmed_at)
    session.save()
    preview = support.act(USERS, "reset_second_factor", [clerk, root, own])
    assert text_of(preview).count("is a member of staff; ask a superuser.") == 2
    assert "is your own account; use Second factor at the top of the page." in text_of(preview)
    assert support.post(f"{USERS}reset_second_factor/", sent).status_code == 302
    assert enrolled() == {"clerk", "root", "support", "staff"}
    other = AdminClient(make_user("other", is_staff=True, is_superuser=True))
    assert remove(other, clerk, root, staff).status_code == 302
    assert enrolled() == {"support"}


def test_it_takes_a_permission_of_its_own(make_user: Any, alice: User, enrol: Enrol):
    enrol(alice)
    others = ["view_user", "change_user", "deactivate_user", "set_credentials_user", "hand_over_user"]
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), *others))
    sent = {"action": "reset_second_factor", "_selected_action": [alice.pk], "post": "yes", **SENT}
    assert [clerk.post(path, sent).status_code for path in (USERS, f"{USERS}reset_second_factor/")] == [403, 403]
    assert "Remove second factor" not in clerk.page(f"{USERS}{alice.pk}/change/")
    assert enrolled() == {"alice"}


def test_the_page_of_a_user_offers_it_while_there_is_one(support: AdminClient, alice: User, enrol: Enrol):
    path = f"{USERS}{alice.pk}/change/"
    assert "Remove second factor" not in support.page(path)
    enrol(alice)
    page = support.page(path)
    assert f'<a href="{USERS}reset_second_factor/?id={alice.pk}">Remove second factor</a>' in page
