"""`Idempotency-Key`: a repeated POST is executed once."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from drf_spectacular.generators import EndpointEnumerator
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from conftest import PASSWORD, LoggedInClient
from healthcare.api.idempotency import IdempotentMixin, NoKeyMixin
from healthcare.api.models import IdempotencyRecord
from healthcare.rls.context import enter
from patients.models import Patient
from patients.views import PatientViewSet

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
JOHN = {"name": "John Smith", "age": 34}
REGISTRATION = {"name": "Ann", "email": "ann@example.org", "username": "ann", "password": PASSWORD}


def post(client: APIClient, body: dict[str, Any], key: str = KEY, path: str = "/api/patients/") -> Any:
    return client.post(path, body, headers={"Idempotency-Key": key})


def test_a_repeated_request_gets_the_same_answer_and_creates_one_row(as_alice: LoggedInClient) -> None:
    first, second = post(as_alice, JOHN), post(as_alice, JOHN)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    for header in ("Content-Type", "ETag", "Location", "Vary", "Cache-Control"):
        assert second.get(header) == first.get(header)
    assert Patient.objects.count() == 1


def test_a_replay_returns_the_first_answer_even_after_a_change(as_alice: LoggedInClient) -> None:
    first = post(as_alice, JOHN)
    as_alice.patch(f"/api/patients/{first.json()['id']}/", {"name": "Jon"})
    assert post(as_alice, JOHN).content == first.content


def test_without_the_header_a_repeated_request_is_executed_again(as_alice: LoggedInClient) -> None:
    assert [as_alice.post("/api/patients/", JOHN).status_code for _ in range(2)] == [201, 201]
    assert (Patient.objects.count(), IdempotencyRecord.objects.count()) == (2, 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/patients/", {**JOHN, "age": 35}),
        ("/api/patients/?on_duplicate=reject", JOHN),
        ("/api/doctors/", JOHN),
        ("/api/auth/logout/", {}),
    ],
)
def test_another_request_with_the_key_is_refused(as_alice: LoggedInClient, path: str, body: dict[str, Any]) -> None:
    post(as_alice, JOHN)
    answer = post(as_alice, body, path=path)
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"] == "This Idempotency-Key was used for another request; send a new key."
    assert as_alice.get("/api/auth/me/").status_code == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256, '"', '""', '"a', '"a b"', '"a"b', r'"\x"', '"a";p=1'])
def test_a_malformed_key_is_refused(as_alice: LoggedInClient, key: str) -> None:
    answer = post(as_alice, JOHN, key)
    assert answer.status_code == 400
    assert "1 to 255 visible ASCII" in answer.json()["detail"]
    assert not Patient.objects.exists()


@pytest.mark.parametrize(("key", "same"), [("k", '"k"'), (r'"\"\\"', r'"\"\\"'), ("x" * 255, f'"{"x" * 255}"')])
def test_a_key_may_be_quoted(as_alice: LoggedInClient, key: str, same: str) -> None:
    assert [post(as_alice, JOHN, value).status_code for value in (key, same)] == [201, 201]
    assert Patient.objects.count() == 1


def test_a_refused_request_does_not_use_up_its_key(as_alice: LoggedInClient) -> None:
    assert post(as_alice, {"age": 34}).status_code == 400
    assert not IdempotencyRecord.objects.exists()
    assert post(as_alice, JOHN).status_code == 201


def test_the_same_key_of_another_user_is_another_key(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    assert [post(client, JOHN).status_code for client in (as_alice, as_bob)] == [201, 201]
    assert post(as_bob, {"name": "Another"}).status_code == 422
    assert set(Patient.objects.values_list("created_by", flat=True)) == {alice.pk, bob.pk}
    with transaction.atomic(), connection.cursor() as cursor:
        enter(bob.pk)
        cursor.execute("SELECT user_id FROM api_idempotencyrecord")
        assert cursor.fetchall() == [(bob.pk,)]
        transaction.set_rollback(True)


def test_a_replay_needs_a_live_session(as_alice: LoggedInClient) -> None:
    post(as_alice, JOHN)
    LoginSession.objects.filter(pk=as_alice.login_session.pk).revoke()
    assert post(as_alice, JOHN).status_code == 401


def test_an_expired_key_can_be_used_again(as_alice: LoggedInClient) -> None:
    post(as_alice, JOHN)
    IdempotencyRecord.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answer = post(as_alice, {"name": "Another"})
    assert (answer.status_code, "Idempotency-Replayed" in answer) == (201, False)
    assert Patient.objects.count() == 2


def test_a_key_expires_after_24_hours(as_alice: LoggedInClient) -> None:
    before = timezone.now()
    post(as_alice, JOHN)
    expires_at = IdempotencyRecord.objects.get().expires_at
    assert before + timedelta(hours=24) <= expires_at <= timezone.now() + timedelta(hours=24)


def test_the_next_post_or_login_of_any_user_deletes_expired_records(as_alice: LoggedInClient, bob: User) -> None:
    for attempt in (lambda: LoginSession.objects.start(bob, "", None), lambda: post(as_alice, JOHN, "new")):
        IdempotencyRecord.objects.create(
            digest="old", fingerprint="", user=bob, status=201, body="{}", expires_at=timezone.now() - timedelta(1)
        )
        attempt()
        assert not IdempotencyRecord.objects.filter(digest="old").exists()


def test_only_hashes_of_the_request_are_stored(anonymous: APIClient) -> None:
    assert post(anonymous, REGISTRATION, path="/api/auth/register/").status_code == 201
    stored = repr(list(IdempotencyRecord.objects.values_list()))
    assert "ann@example.org" in stored
    assert PASSWORD not in stored
    assert KEY not in stored


def test_a_repeated_registration_is_replayed(anonymous: APIClient) -> None:
    first, second = (post(anonymous, REGISTRATION, path="/api/auth/register/") for _ in range(2))
    assert (first.status_code, second.status_code, second.content) == (201, 201, first.content)
    assert second["Idempotency-Replayed"] == "true"
    assert User.objects.count() == 1


def test_a_registration_is_replayed_only_with_its_password(anonymous: APIClient) -> None:
    post(anonymous, REGISTRATION, path="/api/auth/register/")
    answer = post(anonymous, {**REGISTRATION, "password": "Another-Pass-9"}, path="/api/auth/register/")
    assert answer.status_code == 400
    assert [error["code"] for error in answer.json()["errors"]] == ["unique"]


@pytest.mark.django_db(transaction=True)  # it is not one transaction
def test_a_repeated_password_change_is_replayed(as_alice: LoggedInClient) -> None:
    body = {"current_password": PASSWORD, "new_password": "Another-Pass-9"}
    answers = [post(as_alice, body, path="/api/auth/password/") for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2
    assert answers[1]["Idempotency-Replayed"] == "true"
    assert as_alice.post("/api/auth/password/", body).status_code == 400


@pytest.mark.parametrize("route", ["login", "refresh"])
def test_tokens_are_never_stored(as_alice: LoggedInClient, anonymous: APIClient, route: str) -> None:
    body = {"login": {"username": "alice", "password": PASSWORD}, "refresh": {"refresh": as_alice.tokens["refresh"]}}
    answer = post(anonymous, body[route], path=f"/api/auth/{route}/")
    assert (answer.status_code, IdempotencyRecord.objects.count()) == (200, 0)


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_request_leaves_no_key(
    as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.FAST_PATH = "off"  # elsewhere the row and its key are one statement

    def break_off(*_: Any, **__: Any) -> None:
        raise RuntimeError

    as_alice.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr(PatientViewSet, "get_success_headers", break_off)  # after the row was written
        assert post(as_alice, JOHN).status_code == 500
    with monkeypatch.context() as patch:
        patch.setattr(IdempotencyRecord, "save", break_off)  # and between the row and its key
        assert post(as_alice, JOHN).status_code == 500
    assert (Patient.objects.count(), IdempotencyRecord.objects.count()) == (0, 0)
    assert post(as_alice, JOHN).status_code == 201


# Login and refresh answer tokens, and an e-mail may be asked for again. The others open their own transactions and
# store the key.
ELSEWHERE = {
    "/api/auth/login/", "/api/auth/refresh/", "/api/auth/register/", "/api/auth/password/",
    "/api/auth/password/reset/", "/api/auth/password/reset/confirm/", "/api/auth/email/", "/api/auth/email/verify/",
    "/api/auth/email/verify/confirm/",
}  # fmt: skip
REFUSED = {
    "/api/auth/invitations/",
    "/api/auth/otp/",
    "/api/auth/otp/confirm/",
    "/api/auth/tokens/",
    "/api/patients/{pk}/file/",
}  # their answers hold a secret, or everything about a patient


def test_every_post_accepts_the_key_or_refuses_it() -> None:
    posts = [
        (path, callback.cls)
        for path, _, method, callback in EndpointEnumerator().get_api_endpoints()
        if path.startswith("/api/") and method == "POST"
    ]
    assert {path for path, view in posts if not issubclass(view, IdempotentMixin | NoKeyMixin)} == ELSEWHERE
    assert {path for path, view in posts if issubclass(view, NoKeyMixin)} == REFUSED
    assert len(posts) > len(ELSEWHERE | REFUSED)
