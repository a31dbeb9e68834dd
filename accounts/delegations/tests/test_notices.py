"""GET /api/notices/, DELETE /api/notices/<id>/, and the e-mails about notices."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import mail
from accounts.delegations.models import Delegation, Notice
from accounts.delegations.notices import notify
from accounts.delegations.tests.cast import DELEGATIONS, NOTICES, acting_for, give, make_clinic, named, path_of
from accounts.models import User
from accounts.tests.smtp_server import smtp_server
from conftest import LoggedInClient
from healthcare.tests.live import free_port

pytestmark = pytest.mark.django_db


def kinds(client: LoggedInClient) -> list[str]:
    return [notice["kind"] for notice in client.get(NOTICES).json()]


def test_a_delegate_gets_notices_of_what_others_have_done(
    as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient, ben: User
):
    delegation = give(as_alice, "ben", "read")
    [notice] = as_ben.get(NOTICES).json()
    assert notice == {
        "id": notice["id"], "at": notice["at"], "kind": "delegation_given", "by": named(alice),
        "about": {
            "id": delegation, "owner": named(alice), "delegate": named(ben), "role": "read", "expires_at": None
        },
    }  # fmt: skip
    as_alice.patch(path_of(delegation), {"role": "write", "expires_at": "2099-01-01T00:00:00Z"})
    changed = as_ben.get(NOTICES).json()[0]["about"]
    assert (changed["role"], changed["expires_at"]) == ("write", "2099-01-01T00:00:00Z")
    as_alice.delete(path_of(delegation))
    assert kinds(as_ben) == ["delegation_ended", "delegation_changed", "delegation_given"]
    assert kinds(as_alice) == []


def test_an_owner_gets_a_notice_of_who_has_left(as_alice: LoggedInClient, as_ben: LoggedInClient):
    as_ben.delete(path_of(give(as_alice, "ben")))
    assert (kinds(as_alice), kinds(as_ben)) == (["delegation_ended"], ["delegation_given"])


def test_a_change_of_nothing_adds_no_notice(as_alice: LoggedInClient, as_ben: LoggedInClient):
    delegation = give(as_alice, "ben", "read")
    as_alice.patch(path_of(delegation), {"role": "read", "note": ""})
    assert kinds(as_ben) == ["delegation_given"]


def test_the_notices_of_a_clinic_go_to_its_other_managers(
    as_alice: LoggedInClient, as_asha: LoggedInClient, as_ben: LoggedInClient, as_bob: LoggedInClient, bob: User
):
    sunrise = make_clinic(as_alice)
    for name, role in (("asha", "manage"), ("ben", "write")):
        give(as_alice, name, role, sunrise)
    Notice.objects.all().delete()
    give(as_alice, "bob", "read", sunrise)
    received = {client: kinds(client) for client in (as_alice, as_asha, as_ben, as_bob)}
    given = ["delegation_given"]
    assert received == {as_alice: [], as_asha: given, as_ben: [], as_bob: given}
    assert not Notice.objects.filter(user=sunrise).exists()
    as_asha.delete(path_of(Delegation.objects.get(owner=sunrise, delegate__username="asha").pk))
    Notice.objects.all().delete()
    as_alice.patch(path_of(Delegation.objects.get(delegate=bob).pk), {"role": "write"}, headers=acting_for("sunrise"))
    assert (kinds(as_asha), kinds(as_bob)) == ([], ["delegation_changed"]), "a former manager gets no further notice"


def test_a_manager_whose_own_delegation_is_given_gets_one_notice(as_alice: LoggedInClient, as_ben: LoggedInClient):
    give(as_alice, "ben", "manage", make_clinic(as_alice))
    assert kinds(as_ben) == ["delegation_given"]


def test_a_notice_of_what_the_server_does_names_no_user(as_alice: LoggedInClient, alice: User):
    notify(alice, "transfer_lapsed", None, {"id": 1})
    [notice] = as_alice.get(NOTICES).json()
    assert (notice["by"], notice["about"]) == (None, {"id": 1})


def test_an_unknown_kind_is_a_fault_of_the_program(alice: User):
    with pytest.raises(KeyError):
        notify(alice, "delegation_misspelt", None, {})


def test_a_refused_request_adds_no_notice(as_alice: LoggedInClient, as_ben: LoggedInClient):
    give(as_alice, "ben")
    assert as_alice.post(DELEGATIONS, {"delegate": "ben", "role": "read"}).status_code == 400
    assert kinds(as_ben) == ["delegation_given"]


def test_a_notice_that_is_deleted_is_read(as_alice: LoggedInClient, as_ben: LoggedInClient, as_bob: LoggedInClient):
    give(as_alice, "ben")
    path = f"{NOTICES}{as_ben.get(NOTICES).json()[0]['id']}/"
    assert [client.delete(path).status_code for client in (as_alice, as_bob)] == [404, 404]
    assert [as_ben.delete(path).status_code for _ in range(2)] == [204, 404]
    assert kinds(as_ben) == []
    assert Notice.objects.get().read_at is not None


def test_notices_are_ones_own_whomever_the_header_names(as_alice: LoggedInClient, as_ben: LoggedInClient):
    give(as_alice, "ben", "read")
    answer = as_ben.get(NOTICES, headers=acting_for("alice"))
    assert (len(answer.json()), "X-Acting-For" in answer) == (1, False)


def test_notices_come_in_pages(as_alice: LoggedInClient, as_ben: LoggedInClient):
    delegation = give(as_alice, "ben", "read")
    as_alice.patch(path_of(delegation), {"role": "write"})
    first = as_ben.get(f"{NOTICES}?limit=1&count=true")
    following = as_ben.get(first["Link"].partition(">")[0].removeprefix("<"))
    assert first["X-Total-Count"] == "2"
    assert [answer.json()[0]["kind"] for answer in (first, following)] == ["delegation_changed", "delegation_given"]


@pytest.mark.parametrize("number", [1, 5])
def test_a_list_takes_these_queries(as_alice: LoggedInClient, alice: User, bob: User, number: int):
    for _ in range(number):
        notify(alice, "delegation_given", bob, {})
    lapses = ["leave the role", "the expired transfers", "take the role"]
    queries_named = ["SAVEPOINT", "the session and its user", *lapses, "the notices with the names", "RELEASE"]
    with CaptureQueriesContext(connection) as queries:
        assert len(as_alice.get(NOTICES).json()) == number
    assert len(queries) == len(queries_named), queries.captured_queries


# E-mails


@pytest.mark.django_db(transaction=True)
def test_the_email_about_a_notice_has_no_persons_name(
    as_alice: LoggedInClient, as_ben: LoggedInClient, mail_to: Callable[[int], None]
):
    with smtp_server() as server:
        mail_to(server.port)
        give(as_alice, "ben")
        mail._queue.join()
        as_alice.post(DELEGATIONS, {"delegate": "ben", "role": "read"})  # refused: nothing has happened
        mail._queue.join()
    [(recipients, text)] = server.received
    assert recipients == ["ben@example.org"]
    assert "From: clinic@example.org" in text
    assert "Subject: A delegation was given" in text
    assert text.rstrip().endswith("A delegation was given by alice. Log in to read the notice.")
    assert "Alice" not in text
    assert "Ben" not in text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", ["no server", "no mailbox"])
def test_an_email_that_fails_is_logged_without_its_recipient(
    as_alice: LoggedInClient,
    as_ben: LoggedInClient,
    mail_to: Callable[[int], None],
    fault: str,
    caplog: pytest.LogCaptureFixture,
):
    with smtp_server(refuses=True) as server, caplog.at_level(logging.ERROR, "healthcare.mail"):
        mail_to(server.port if fault == "no mailbox" else free_port())
        give(as_alice, "ben")
        mail._queue.join()
    reason = {"no server": "ConnectionRefusedError", "no mailbox": "SMTPRecipientsRefused"}[fault]
    assert [record.getMessage() for record in caplog.records if record.name == "healthcare.mail"] == [
        f"e-mail not sent: {reason}"
    ]
    assert "ben" not in caplog.text
    assert kinds(as_ben) == ["delegation_given"]


@pytest.mark.django_db(transaction=True)
def test_without_a_server_nothing_is_queued(as_alice: LoggedInClient, ben: User, settings: Any):
    assert not settings.EMAIL_CONFIGURED
    give(as_alice, "ben")
    assert mail._queue.empty()


@pytest.mark.django_db(transaction=True)
def test_a_deactivated_user_gets_no_email(alice: User, bob: User, mail_to: Callable[[int], None]):
    User.objects.filter(pk=alice.pk).update(is_active=False)
    with smtp_server() as server:
        mail_to(server.port)
        notify(User.objects.all(), "delegation_given", None, {})
        mail._queue.join()
    assert [recipients for recipients, _ in server.received] == [["bob@example.org"]]


@pytest.mark.django_db(transaction=True)
def test_of_one_user_an_email_is_sent_once_an_hour_or_after_reading(
    as_alice: LoggedInClient, as_bob: LoggedInClient, as_ben: LoggedInClient, mail_to: Callable[[int], None]
):
    with smtp_server() as server:
        mail_to(server.port)

        def emails_after(client: LoggedInClient) -> int:
            client.delete(path_of(give(client, "ben")))
            mail._queue.join()
            return len(server.received)

        assert [emails_after(client) for client in (as_alice, as_alice, as_bob)] == [1, 1, 2]
        Notice.objects.update(at=timezone.now() - timedelta(minutes=61))
        assert emails_after(as_alice) == 3
        for notice in as_ben.get(NOTICES).json():
            as_ben.delete(f"{NOTICES}{notice['id']}/")
        assert emails_after(as_alice) == 4
    assert len(as_ben.get(NOTICES).json()) == 2


def test_a_process_that_ends_sends_what_is_queued_by_the_server_of_its_settings():
    code = (
        "import django; django.setup(); from accounts.mail import send_later; "
        "send_later(['ben@example.org', 'asha@example.org'], 'A delegation was given', 'Log in to read it.')"
    )
    with smtp_server() as server:
        environment = {
            **os.environ, "EMAIL_URL": f"smtp://127.0.0.1:{server.port}", "EMAIL_FROM": "clinic@example.org",
            "DJANGO_SETTINGS_MODULE": "healthcare.settings",
        }  # fmt: skip
        subprocess.run([sys.executable, "-c", code], cwd=settings.BASE_DIR, env=environment, check=True)
    assert [recipients for recipients, _ in server.received] == [["ben@example.org"], ["asha@example.org"]]
    assert "From: clinic@example.org" in server.received[0][1]
