"""DELETE /api/auth/me/: what has to be done before an account ends, and what ends with it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation, Notice
from accounts.delegations.tests.cast import acting_for, give, make_clinic, problem
from accounts.leaving.tests.cast import with_token
from accounts.models import Attempts, LoginSession, User
from accounts.second_factor.tests.conftest import App
from audit.models import UserEvent
from conftest import PASSWORD, LoggedInClient, logged_in
from healthcare.tests.hostile_requests import CANARY
from patients.tests.factories import make_patient

ME, LOGIN = "/api/auth/me/", "/api/auth/login/"
PROOF = {"current_password": PASSWORD}

pytestmark = pytest.mark.django_db(transaction=True)


def is_active(user: User) -> bool:
    return User.objects.get(pk=user.pk).is_active


def test_an_account_without_records_ends_with_all_its_sessions(
    alice: User, as_alice: LoggedInClient, anonymous: APIClient
):
    other = logged_in(alice)
    answer = as_alice.delete(ME, PROOF)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not is_active(alice)
    assert not LoginSession.objects.filter(revoked_at=None).exists()
    assert [client.get(ME).status_code for client in (as_alice, other)] == [401, 401]
    refreshed = anonymous.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]})
    assert refreshed.status_code == 401


def test_afterwards_a_login_answers_like_one_with_a_wrong_password(
    bob: User, as_alice: LoggedInClient, anonymous: APIClient
):
    assert as_alice.delete(ME, PROOF).status_code == 204
    answers = [
        anonymous.post(LOGIN, {"username": name, "password": password})
        for name, password in [("alice", PASSWORD), ("alice@example.org", PASSWORD), ("bob", "Another-Pass-9")]
    ]
    bodies = {answer.content.replace(answer["X-Request-Id"].encode(), b"") for answer in answers}
    assert ({answer.status_code for answer in answers}, len(bodies)) == ({401}, 1)
    headers = [{name: value for name, value in answer.items() if name != "X-Request-Id"} for answer in answers]
    assert headers[0] == headers[1] == headers[2]


def test_the_history_names_the_user_and_the_request(alice: User, as_alice: LoggedInClient):
    answer = as_alice.delete(ME, PROOF)
    event = UserEvent.objects.filter(id=alice.pk).latest("pgh_id")
    assert (event.pgh_label, event.is_active) == ("update", False)
    assert event.pgh_context == {"actor": alice.pk, "request_id": answer["X-Request-Id"]}


def test_the_sessions_of_the_admin_end(make_user: Callable[..., User], client: Client):
    user = make_user("sam", is_staff=True)
    client.force_login(user)
    User.objects.filter(pk=user.pk).update(is_staff=False)
    assert logged_in(user).delete(ME, PROOF).status_code == 204
    assert not Session.objects.exists()


# The proof of identity.


def test_a_wrong_password_is_refused_and_counted(alice: User, as_alice: LoggedInClient):
    for _ in range(10):
        answer = as_alice.delete(ME, {"current_password": "Another-Pass-9"})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/current_password")
    assert Attempts.objects.get(kind="session").count == 10
    assert as_alice.delete(ME, PROOF).status_code == 429
    assert is_active(alice)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"current_password": None}, {"current_password": ""}, {"current_password": True}, {"current_password": 5},
        {"current_password": [PASSWORD]}, {"current_password": {"$ne": 1}}, {"current_password": f"{PASSWORD} "},
        {"current_password": CANARY * 5000}, [PASSWORD], {**PROOF, "otp": 5}, {**PROOF, "otp": ["123456"]},
        {**PROOF, "sure": True}, {"password": PASSWORD}, {"current_password": PASSWORD.lower()},
    ],
    ids=lambda body: ascii(body)[:40],
)  # fmt: skip
def test_hostile_bodies_are_refused_and_end_nothing(alice: User, as_alice: LoggedInClient, body: Any):
    answer = as_alice.delete(ME, body)
    assert answer.status_code == 400
    assert CANARY not in answer.content.decode()
    assert PASSWORD not in answer.content.decode()
    assert is_active(alice)
    assert as_alice.get(ME).status_code == 200


def test_nobody_leaves_without_a_login(alice: User, anonymous: APIClient):
    assert anonymous.delete(ME, PROOF).status_code == 401
    assert is_active(alice)


def test_the_second_factor_is_asked_for(alice: User, as_alice: LoggedInClient, enrol: Callable[[User], App]):
    app = enrol(alice)
    for body in (PROOF, {**PROOF, "otp": app.wrong_code()}):
        answer = as_alice.delete(ME, body)
        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"], error["code"]) == (400, "/otp", "otp_required")
    assert Attempts.objects.get(kind="pair").count == 1  # the wrong code counts, the missing one does not
    assert is_active(alice)
    assert as_alice.delete(ME, {**PROOF, "otp": app.recovery_codes[0]}).status_code == 204


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_personal_access_token_ends_no_account(alice: User, scope: str):
    assert problem(with_token(alice, scope).delete(ME, PROOF)) == (403, "not_by_token")
    assert is_active(alice)


def test_an_account_that_has_changed_since_it_was_read_does_not_end(alice: User, as_alice: LoggedInClient):
    tag = as_alice.get(ME)["ETag"]
    as_alice.patch(ME, {"name": "Alice B."})
    assert as_alice.delete(ME, PROOF, headers={"If-Match": tag}).status_code == 412
    assert is_active(alice)
    assert as_alice.delete(ME, PROOF, headers={"If-Match": as_alice.get(ME)["ETag"]}).status_code == 204


def test_an_account_that_got_another_password_meanwhile_does_not_end(
    alice: User, as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch
):
    def change_password(*_: Any) -> None:
        User.objects.filter(pk=alice.pk).update(password="!other")

    monkeypatch.setattr("accounts.views.prove_identity_with_factor", change_password)
    answer = as_alice.delete(ME, PROOF)
    assert (answer.status_code, answer.json()["detail"]) == (401, "The session has ended; log in again.")
    assert is_active(alice)


# What has to be done before.


def test_records_that_are_left_are_counted_by_kind(alice: User, as_alice: LoggedInClient):
    for _ in range(2):
        make_patient(alice)
    deleted = make_patient(alice)
    type(deleted).objects.filter(pk=deleted.pk).end()
    answer = as_alice.delete(ME, PROOF)
    assert answer.status_code == 409
    assert answer.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "You still own records (patients: 2, deleted patients: 1). Offer each patient to another owner "
        "(POST /api/patients/{id}/transfer/), or ask a member of staff to hand over everything, deleted patients "
        "included (manage.py hand_over).",
        "request_id": answer["X-Request-Id"],
        "code": "records_left",
        "records": {"patients": 2, "deleted_patients": 1},
    }
    assert is_active(alice)
    assert as_alice.get(ME).status_code == 200


def test_a_delegates_own_account_does_not_own_the_patients_of_others(
    alice: User, as_alice: LoggedInClient, bob: User, as_bob: LoggedInClient
):
    make_patient(alice)
    give(as_alice, "bob")
    answer = as_bob.delete(ME, PROOF, headers=acting_for("alice"))  # which this path ignores
    assert answer.status_code == 204
    assert (is_active(alice), is_active(bob)) == (True, False)


def test_the_last_manager_of_a_clinic_stays(alice: User, bob: User, as_alice: LoggedInClient):
    sunrise = make_clinic(as_alice)
    assert problem(as_alice.delete(ME, PROOF)) == (409, "last_manager")
    assert is_active(alice)
    assert Delegation.objects.living().filter(delegate=alice).exists()
    give(as_alice, "bob", "manage", sunrise)
    assert as_alice.delete(ME, PROOF).status_code == 204
    assert [*Delegation.objects.living().values_list("delegate", flat=True)] == [bob.pk]


@pytest.mark.parametrize("rights", ["is_staff", "is_superuser", "is_staff is_superuser"])
def test_a_member_of_staff_asks_a_colleague(make_user: Callable[..., User], rights: str):
    """So the last superuser does not lock everybody out, and neither do two who leave at once."""
    user = make_user("sam", **dict.fromkeys(rights.split(), True))
    answer = logged_in(user).delete(ME, PROOF)
    assert problem(answer) == (409, "staff_account")
    assert answer.json()["detail"] == (
        "You are a member of staff; ask a colleague to deactivate your account in the admin."
    )
    assert is_active(user)
    assert LoginSession.objects.filter(user=user, revoked_at=None).exists()


# What ends with the account.


def test_delegations_end_on_both_sides_with_notices(
    alice: User, bob: User, as_alice: LoggedInClient, as_bob: LoggedInClient
):
    given, received = give(as_alice, "bob"), give(as_bob, "alice", "read")
    Notice.objects.all().delete()
    assert as_alice.delete(ME, PROOF).status_code == 204
    assert not Delegation.objects.living().exists()
    notices = as_bob.get("/api/notices/").json()
    assert [(notice["kind"], notice["about"]["id"], notice["by"]["username"]) for notice in notices] == [
        ("delegation_ended", received, "alice"),
        ("delegation_ended", given, "alice"),
    ]
    assert as_bob.get(ME).json()["acting_for"] == []


def test_the_managers_of_a_clinic_are_told_that_its_delegate_leaves(
    bob: User, as_alice: LoggedInClient, as_bob: LoggedInClient
):
    sunrise = make_clinic(as_alice)
    give(as_alice, "bob", "write", sunrise)
    assert as_bob.delete(ME, PROOF).status_code == 204
    assert [notice["kind"] for notice in as_alice.get("/api/notices/").json()] == ["delegation_ended"]


def test_a_refusal_undoes_what_was_ended_before(
    alice: User, as_alice: LoggedInClient, as_bob: LoggedInClient, bob: User
):
    """The clinic's manager is found when a delegation of the same account has been revoked already."""
    give(as_alice, "bob")
    make_clinic(as_alice)
    Notice.objects.all().delete()
    assert problem(as_alice.delete(ME, PROOF)) == (409, "last_manager")
    assert Delegation.objects.living().count() == 2
    assert as_bob.get("/api/notices/").json() == []
