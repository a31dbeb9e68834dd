"""POST /api/auth/invitations/"""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core.signing import Signer
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.invitations.codes import read_invitation, write_invitation
from accounts.invitations.models import Invitation
from accounts.models import LoginSession, User
from accounts.personal_tokens.format import hash_secret, write_token
from accounts.tests.answers import refusals, without_request_id
from conftest import LoggedInClient
from healthcare.api.models import IdempotencyRecord

INVITATIONS = "/api/auth/invitations/"


def test_staff_invite_and_the_text_is_in_the_answer_alone(
    as_staff: LoggedInClient, staff: User, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = as_staff.post(INVITATIONS, {"email": "", "expires_at": None})
    stored = Invitation.objects.get()
    text = write_invitation(stored)
    assert answer.status_code == 201
    assert answer.json() == {"id": stored.pk, "invitation": text, "email": "", "expires_at": None}
    assert read_invitation(text) == (stored.pk, stored.created_at)
    assert answer["Location"] == f"/admin/accounts/invitation/{stored.pk}/change/"
    assert answer["Cache-Control"] == "no-store"
    assert (stored.created_by, stored.used_at, stored.used_by) == (staff, None, None)
    signature = text.rpartition(":")[2]
    assert signature not in repr(list(Invitation.objects.values_list()))
    assert signature not in caplog.text


def test_without_a_body_anybody_may_use_it_at_any_time(as_staff: LoggedInClient) -> None:
    answer = as_staff.post(INVITATIONS, {})
    assert (answer.status_code, answer.json()["email"], answer.json()["expires_at"]) == (201, "", None)


def test_email_and_end_are_stored(as_staff: LoggedInClient) -> None:
    answer = as_staff.post(INVITATIONS, {"email": " Eve@Example.org ", "expires_at": "2099-01-01T12:00:00+02:00"})
    assert answer.status_code == 201
    assert answer.json()["email"] == "Eve@Example.org"
    assert answer.json()["expires_at"] == "2099-01-01T10:00:00Z"
    assert Invitation.objects.get().email == "Eve@Example.org"


@pytest.mark.parametrize("end", ["2001-01-01T00:00:00Z", "9000-01-01T00:00:00Z"])
def test_the_end_is_in_the_future_and_before_the_year_9000(as_staff: LoggedInClient, end: str) -> None:
    answer = as_staff.post(INVITATIONS, {"expires_at": end})
    assert refusals(answer) == {("/expires_at", "invalid")}
    assert not Invitation.objects.exists()


def test_others_are_refused(as_alice: LoggedInClient, anonymous: APIClient) -> None:
    answer = as_alice.post(INVITATIONS, {})
    assert without_request_id(answer) == {
        "type": "about:blank", "title": "Forbidden", "status": 403,
        "detail": "Ask a member of staff: only staff may invite people.",
    }  # fmt: skip
    assert anonymous.post(INVITATIONS, {}).status_code == 401
    assert not Invitation.objects.exists()


def test_a_token_of_a_member_of_staff_invites_nobody(staff: User, anonymous: APIClient) -> None:
    session = LoginSession.new(staff, "", None)
    session.kind, session.scope, session.secret_hash = "token", "write", hash_secret("0" * 64)
    session.save()
    token = write_token(session.pk, staff.pk, "0" * 64)
    answer = anonymous.post(INVITATIONS, {}, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_by_token")
    assert not Invitation.objects.exists()


@pytest.mark.parametrize("key", ["one", "", "not a key"])
def test_an_idempotency_key_is_refused(as_staff: LoggedInClient, as_alice: LoggedInClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    answer = as_staff.post(INVITATIONS, {}, headers=headers)
    assert without_request_id(answer) == {
        "type": "about:blank", "title": "Bad Request", "status": 400,
        "detail": "Send this without Idempotency-Key: the answer holds a secret, and is not stored for a repeated "
        "request.",
    }  # fmt: skip
    assert as_alice.post(INVITATIONS, {}, headers=headers).status_code == 403
    assert not Invitation.objects.exists()
    assert not IdempotencyRecord.objects.exists()


def texts_of_others(invitation: Invitation) -> dict[str, Any]:
    text = write_invitation(invitation)
    signed, _, signature = text.rpartition(":")
    other = Invitation(pk=invitation.pk, created_at=invitation.created_at + timedelta(microseconds=1))
    return {
        "no signature": signed,
        "an empty signature": f"{signed}:",
        "another id": f"{invitation.pk + 1}{signed[len(str(invitation.pk)) :]}:{signature}",
        "another time": write_invitation(other).rpartition(":")[0] + f":{signature}",
        "a shorter signature": text[:-1],
        "a longer signature": f"{text}A",
    }


@pytest.mark.parametrize("changed", texts_of_others(Invitation(pk=1, created_at=timezone.now())))
def test_a_changed_text_is_not_read(changed: str) -> None:
    invitation = Invitation(pk=17, created_at=timezone.now())
    assert read_invitation(write_invitation(invitation)) == (17, invitation.created_at)
    assert read_invitation(texts_of_others(invitation)[changed]) is None


def test_a_text_that_is_signed_with_another_key_or_for_another_purpose_is_not_read(settings: Any) -> None:
    invitation = Invitation(pk=17, created_at=timezone.now())
    text = write_invitation(invitation)
    assert read_invitation(Signer().sign(text.rpartition(":")[0])) is None
    settings.SECRET_KEY = "another key that is long enough to sign with, and random"  # noqa: S105
    assert read_invitation(text) is None
