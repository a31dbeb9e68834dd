"""`acting_for` at POST /api/auth/login/: the requests of the session act for another owner."""

from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.db.models import F
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import Attempts, LoginSession, User
from accounts.tests.answers import WRONG_LOGIN, refusals, without_request_id
from conftest import PASSWORD, LoggedInClient
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)

NOT_A_DELEGATE = {
    "type": "about:blank",
    "title": "Forbidden",
    "status": 403,
    "detail": "You may not act for this owner. Ask them for a delegation, or work on your own records: send "
    "`X-Acting-For: self`, or log in or create the token without `acting_for`.",
    "code": "not_a_delegate",
}


@pytest.fixture(params=["on", "off"])
def path(request: pytest.FixtureRequest, settings: Any) -> None:
    """The fast path, and standard Django REST framework."""
    settings.FAST_PATH = request.param


@pytest.fixture
def delegation(alice: User, bob: User) -> Delegation:
    return Delegation.objects.create(owner=alice, delegate=bob, role="write")


@pytest.fixture
def of_alice(alice: User) -> Patient:
    return make_patient(alice)


@pytest.fixture
def of_bob(bob: User) -> Patient:
    return make_patient(bob)


def log_in(acting_for: Any = None, username: str = "bob", password: str = PASSWORD) -> Any:
    body = {"username": username, "password": password}
    return APIClient().post("/api/auth/login/", body if acting_for is None else body | {"acting_for": acting_for})


def client_of(answer: Any) -> APIClient:
    assert answer.status_code == 200, answer.content
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    return client


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def patients_seen(client: APIClient, **headers: str) -> set[int]:
    answer = client.get("/api/patients/", headers=headers)
    assert answer.status_code == 200, answer.content
    return {patient["id"] for patient in answer.json()}


@pytest.mark.parametrize("name", ["alice", " ALICE ", "<id>"])
def test_the_session_acts_for_the_owner_without_a_header(
    path: None,
    name: str,
    alice: User,
    delegation: Delegation,
    of_alice: Patient,
    of_bob: Patient,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO")
    answer = log_in(str(alice.pk) if name == "<id>" else name)
    assert claims(answer.json()["access"])["acting_for"] == alice.pk
    assert "acting_for" not in claims(answer.json()["refresh"])
    assert LoginSession.objects.get().acting_for == alice.pk
    client = client_of(answer)
    for number in range(2):
        listed = client.get("/api/patients/")
        # The fast path serves an owner whom the process knows.
        assert caplog.messages[-1].endswith("fast" if number and settings.FAST_PATH == "on" else "standard")
        assert [patient["id"] for patient in listed.json()] == [of_alice.pk]
        assert listed["X-Acting-For"] == "alice"
    created = client.post("/api/patients/", {"name": "John Smith", "age": 34, "gender": "M"})
    assert created.status_code == 201
    assert created["X-Acting-For"] == "alice"
    assert Patient.objects.get(pk=created.json()["id"]).created_by == alice


def test_a_header_overrides_the_session_for_one_request(
    path: None, alice: User, delegation: Delegation, of_alice: Patient, of_bob: Patient, make_user: Any
):
    clinic = make_user("sunrise")
    of_clinic = make_patient(clinic)
    Delegation.objects.create(owner=clinic, delegate=delegation.delegate, role="read")
    client = client_of(log_in("alice"))
    for _ in range(2):
        assert patients_seen(client, x_acting_for="self") == {of_bob.pk}
        assert "X-Acting-For" not in client.get("/api/patients/", headers={"X-Acting-For": "self"})
        assert patients_seen(client, x_acting_for="bob") == {of_bob.pk}
        assert patients_seen(client, x_acting_for="sunrise") == {of_clinic.pk}
        assert patients_seen(client) == {of_alice.pk}
    assert client.get("/api/patients/", headers={"X-Acting-For": ""}).status_code == 400


def test_it_does_not_concern_the_account_and_the_directory(path: None, delegation: Delegation, of_alice: Patient):
    client = client_of(log_in("alice"))
    for route in ("/api/auth/me/", "/api/auth/sessions/", "/api/doctors/"):
        answer = client.get(route)
        assert answer.status_code == 200
        assert "X-Acting-For" not in answer
    assert client.get("/api/auth/me/").json()["username"] == "bob"
    doctor = client.post("/api/doctors/", {"name": "Dr Rao", "specialization": "Cardiology", "license_number": "K-1"})
    assert doctor.status_code == 201
    Delegation.objects.update(revoked_at=timezone.now())
    assert client.get("/api/auth/me/").status_code == 200
    assert client.get(f"/api/doctors/{doctor.json()['id']}/").status_code == 200


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
def test_requests_of_an_ended_delegation_are_refused_until_self_or_a_new_login(
    path: None, end: str, delegation: Delegation, of_alice: Patient, of_bob: Patient
):
    client = client_of(log_in("alice"))
    for _ in range(2):
        assert patients_seen(client) == {of_alice.pk}
    Delegation.objects.update(**{end: timezone.now() - timedelta(seconds=1)})
    for _ in range(2):
        refused = client.get("/api/patients/")
        assert without_request_id(refused) == NOT_A_DELEGATE
        assert client.post("/api/patients/", {"name": "John Smith", "age": 34, "gender": "M"}).status_code == 403
    assert patients_seen(client, x_acting_for="self") == {of_bob.pk}
    assert patients_seen(client_of(log_in())) == {of_bob.pk}
    assert log_in("alice").status_code == 403


def test_a_refused_owner_starts_no_session_and_counts_as_no_failed_login(alice: User, bob: User, make_user: Any):
    log_in()
    after_success = [*Attempts.objects.order_by("key").values_list("key", "count")]
    LoginSession.objects.all().delete()
    past = make_user("past")
    Delegation.objects.create(owner=past, delegate=bob, role="write", expires_at=timezone.now())
    left = make_user("left", is_active=False)
    Delegation.objects.create(owner=left, delegate=bob, role="write")
    Delegation.objects.create(owner=bob, delegate=alice, role="manage")
    for name in ("alice", "nobody", "past", "left", str(alice.pk), "0", "9" * 30):
        answer = log_in(name)
        assert answer.status_code == 403
        assert without_request_id(answer) == NOT_A_DELEGATE
    assert not LoginSession.objects.exists()
    assert [*Attempts.objects.order_by("key").values_list("key", "count")] == after_success


def test_without_the_password_nothing_tells_whether_the_owner_exists(delegation: Delegation):
    answers = [log_in(name, password="Wrong-Pass-123") for name in ("alice", "nobody", "self")]
    assert [without_request_id(answer) for answer in answers] == [WRONG_LOGIN] * 3
    assert not LoginSession.objects.exists()


@pytest.mark.parametrize("name", ["self", "Bob", "<id>"])
def test_a_login_for_oneself_is_an_ordinary_login(name: str, bob: User):
    answer = log_in(str(bob.pk) if name == "<id>" else name)
    assert "acting_for" not in claims(answer.json()["access"])
    assert LoginSession.objects.get().acting_for is None


def test_digits_are_an_id_even_if_they_are_the_own_username(alice: User, make_user: Any):
    caller = make_user(str(alice.pk))
    Delegation.objects.create(owner=alice, delegate=caller, role="read")
    assert claims(log_in(str(alice.pk), username=caller.username).json()["access"])["acting_for"] == alice.pk
    assert "acting_for" not in claims(log_in(f"0{caller.pk}", username=caller.username).json()["access"])


def test_null_is_as_if_it_were_left_out_and_an_empty_name_is_refused(bob: User):
    body = {"username": "bob", "password": PASSWORD}
    assert "acting_for" not in claims(
        APIClient().post("/api/auth/login/", body | {"acting_for": None}).json()["access"]
    )
    assert refusals(log_in("  ")) == {("/acting_for", "blank")}
    assert refusals(log_in(17)) == {("/acting_for", "invalid")}


def test_a_refresh_keeps_the_owner_and_repeated_returns_the_same_pair(
    alice: User, delegation: Delegation, of_alice: Patient
):
    first = log_in("alice")
    for _ in range(2):
        refreshed = APIClient().post("/api/auth/refresh/", {"refresh": first.json()["refresh"]})
        assert claims(refreshed.json()["access"])["acting_for"] == alice.pk
        repeated = APIClient().post("/api/auth/refresh/", {"refresh": first.json()["refresh"]})
        assert repeated.content == refreshed.content
        assert patients_seen(client_of(refreshed)) == {of_alice.pk}
        LoginSession.objects.update(rotated_at=F("rotated_at") - timedelta(minutes=1))
        first = refreshed


def test_a_revoked_delegation_does_not_end_the_session(delegation: Delegation):
    first = log_in("alice")
    Delegation.objects.update(revoked_at=timezone.now())
    refreshed = APIClient().post("/api/auth/refresh/", {"refresh": first.json()["refresh"]})
    assert refreshed.status_code == 200
    assert client_of(refreshed).get("/api/patients/").status_code == 403


def test_a_token_without_the_claim_works_on_the_own_records(path: None, as_bob: LoggedInClient, of_bob: Patient):
    assert "acting_for" not in claims(as_bob.tokens["access"])
    assert patients_seen(as_bob) == {of_bob.pk}
