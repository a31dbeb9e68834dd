"""`erase_doctor` and `erase_user`, which take the options of `erase_patient`."""

import io
from typing import Any

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts.delegations.models import Delegation, DelegationEvent
from accounts.invitations.models import Invitation
from accounts.leaving.attempts import attempts_of
from accounts.leaving.tests.cast import with_token
from accounts.limits import LoginAttempt, SessionAttempt
from accounts.models import Attempts, LoginAddress, LoginSession, User
from accounts.second_factor.models import RecoveryCode
from accounts.second_factor.tests.conftest import clock, enrol  # noqa: F401  (fixtures)
from audit.history import Event
from conftest import LoggedInClient
from doctors.models import Doctor, DoctorEvent
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import ErasureReceipt, Patient
from patients.tests.factories import make_patient

CANARY = "quetzalina"


def erase(command: str, subject: Any, *options: str) -> str:
    printed = io.StringIO()
    call_command(command, str(subject), "--reason", "Request 17", "--yes", *options, stdout=printed)
    return printed.getvalue()


def tables_with(word: str) -> list[str]:
    """The tables in which some row holds the word, in whatever column."""
    found = []
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            quoted = connection.ops.quote_name(table)
            cursor.execute(f"SELECT EXISTS (SELECT FROM {quoted} t WHERE t::text ILIKE %s)", [f"%{word}%"])  # noqa: S608
            if cursor.fetchone()[0]:
                found.append(table)
    return sorted(found)


def test_erasing_a_doctor_leaves_the_name_nowhere(as_alice: LoggedInClient, alice: User, staff: User) -> None:
    key = {"Idempotency-Key": "1"}
    body = {"name": f"Dr. {CANARY}", "email": f"{CANARY}@example.org"}
    doctor = as_alice.post("/api/doctors/", body, headers=key).json()["id"]
    other = as_alice.post("/api/doctors/", {"name": "Dr. Kept"}, headers={"Idempotency-Key": "2"}).json()["id"]
    ended = make_mapping(make_patient(alice), Doctor.objects.get(pk=doctor))
    Mapping.objects.filter(pk=ended.pk).end()
    assert {"doctors_doctor", "doctors_doctorevent", "doctors_doctorterm", "api_idempotencyrecord"} <= {
        *tables_with(CANARY)
    }
    printed = erase("erase_doctor", doctor, "--by", "staff")
    assert tables_with(CANARY) == []
    assert [*Doctor.objects.values_list("pk", flat=True)] == [other]
    assert as_alice.post("/api/doctors/", {"name": "Dr. Kept"}, headers={"Idempotency-Key": "2"}).json()["id"] == other
    assert (Patient.objects.count(), Mapping.objects.count()) == (1, 0)
    receipt = ErasureReceipt.objects.get()
    assert (receipt.kind, receipt.record_id, receipt.username, receipt.reason) == (
        "doctor", doctor, "staff", "Request 17",
    )  # fmt: skip
    assert receipt.counts["doctors_doctor"] == receipt.counts["mappings_mapping"] == 1
    assert f"Receipt {receipt.pk}." in printed


def test_a_doctor_who_treats_somebody_is_not_erased(alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    with pytest.raises(CommandError, match=f"Doctor {mapping.doctor_id} has 1 active assignments: end them first"):
        erase("erase_doctor", mapping.doctor_id)
    assert (Doctor.objects.count(), ErasureReceipt.objects.count()) == (1, 0)


def test_a_deleted_doctor_is_erased_and_a_missing_one_reported(alice: User) -> None:
    doctor = make_doctor(alice)
    Doctor.objects.filter(pk=doctor.pk).end()
    erase("erase_doctor", doctor.pk)
    assert not DoctorEvent.objects.filter(id=doctor.pk).exists()
    with pytest.raises(CommandError, match=f"There is no doctor {doctor.pk}"):
        erase("erase_doctor", doctor.pk)


@pytest.mark.parametrize("identifier", [CANARY, f"{CANARY.upper()}@example.org"])
def test_erasing_a_user_leaves_the_name_nowhere_and_the_doctors_without_a_creator(
    make_user: Any, alice: User, as_alice: LoggedInClient, identifier: str
) -> None:
    user = make_user(CANARY, is_staff=True)
    client = LoggedInClient(user)
    doctor = client.post("/api/doctors/", {"name": "Dr. New"}, headers={"Idempotency-Key": "1"}).json()["id"]
    client.patch("/api/auth/me/", {"name": f"{CANARY} B."})
    key = user.pk
    erase("erase_user", identifier)
    assert tables_with(CANARY) == []
    assert not User.objects.filter(pk=key).exists()
    assert not LoginSession.objects.filter(user_id=key).exists()
    found = Doctor.objects.get(pk=doctor)
    assert (found.name, found.created_by) == ("Dr. New", None)
    assert client.get("/api/patients/").status_code == 401
    assert as_alice.patch(f"/api/doctors/{doctor}/", {"name": "Dr. Newer"}).status_code == 200
    assert [event["action"] for event in as_alice.get(f"/api/doctors/{doctor}/history/").json()][-1] == "create"
    assert (ErasureReceipt.objects.get().kind, ErasureReceipt.objects.get().record_id) == ("user", key)


def test_a_user_who_owns_patients_is_not_erased(alice: User) -> None:
    patient = make_patient(alice)
    Patient.objects.filter(pk=patient.pk).end()
    message = r"^Hand over \(hand_over\) or erase \(erase_patient\) the patients of this user first, .*: 1\.$"
    with pytest.raises(CommandError, match=message):
        erase("erase_user", "alice")
    assert User.objects.filter(pk=alice.pk).exists()


def test_an_unknown_user_is_reported(alice: User) -> None:
    with pytest.raises(CommandError, match="There is no user with this username"):
        erase("erase_user", "nobody")


@pytest.mark.parametrize(("command", "subject"), [("erase_doctor", ""), ("erase_user", "bob")])
def test_a_dry_run_counts_and_erases_nothing(alice: User, bob: User, command: str, subject: str) -> None:
    subject = subject or str(make_doctor(alice).pk)
    printed = io.StringIO()
    call_command(command, subject, "--reason", "asked", "--dry-run", stdout=printed)
    assert printed.getvalue().startswith("Would be erased:\n")
    assert (User.objects.count(), ErasureReceipt.objects.count()) == (2, 0)


def test_a_doctor_of_other_accounts_is_not_deleted_and_the_answer_says_so(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    doctor = make_doctor(alice)
    path = f"/api/doctors/{doctor.pk}/"

    def refusal() -> str:
        answer = as_alice.delete(path)
        assert answer.status_code == 409
        return str(answer.json()["detail"])

    others = make_mapping(make_patient(bob), doctor)
    assert refusal() == (
        "This doctor treats patients of other accounts, who have to end those assignments first; ask a member of staff."
    )
    own = make_mapping(make_patient(alice), doctor)
    assert refusal() == (
        "This doctor treats patients of yours and of other accounts; end your assignments, and ask a member of staff "
        "about the others."
    )
    assert as_bob.delete(f"/api/mappings/{others.pk}/").status_code == 204
    assert refusal() == "This doctor treats patients; end those assignments first."
    assert as_alice.delete(f"/api/mappings/{own.pk}/").status_code == 204
    assert as_alice.delete(path).status_code == 204


def test_the_past_of_doctors_needs_a_login(as_bob: LoggedInClient, anonymous: Any, alice: User) -> None:
    doctor = make_doctor(alice, phone="555")
    at = DoctorEvent.objects.get().pgh_created_at.isoformat()
    Doctor.objects.filter(pk=doctor.pk).end()
    for path in (f"/api/doctors/{doctor.pk}/", "/api/doctors/"):
        refused = anonymous.get(path, {"as_of": at})
        assert (refused.status_code, refused["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
        assert "555" in as_bob.get(path, {"as_of": at}).content.decode()


@pytest.fixture
def clinic(make_user: Any, alice: User, bob: User) -> User:
    """Alice and Bob manage it."""
    clinic: User = make_user("sunrise", email=None, is_clinic=True, password=None)
    for manager in (alice, bob):
        Delegation.objects.create(owner=clinic, delegate=manager, role="manage")
    return clinic


def test_erasing_a_delegate_leaves_the_name_in_no_delegation_notice_or_answer(
    make_user: Any, alice: User, as_alice: LoggedInClient, clinic: User
) -> None:
    user = make_user(CANARY)
    as_sunrise = {"X-Acting-For": "sunrise", "Idempotency-Key": "1"}
    body = {"delegate": CANARY, "role": "manage", "note": f"{CANARY} covers the nights"}
    given = as_alice.post("/api/delegations/", body, headers=as_sunrise)
    assert given.status_code == 201
    LoggedInClient(user).post("/api/delegations/", {"delegate": "alice", "role": "read"})
    path = f"/api/delegations/{given.json()['id']}/"
    assert as_alice.patch(path, {"role": "write"}, headers={"X-Acting-For": "sunrise"}).status_code == 200
    assert {
        "accounts_user", "accounts_delegation", "accounts_delegationevent", "accounts_notice", "api_idempotencyrecord",
    } <= {*tables_with(CANARY)}  # fmt: skip
    kept = [*Delegation.objects.filter(owner=clinic).exclude(delegate=user).values_list("pk", flat=True)]
    printed = erase("erase_user", CANARY)
    assert tables_with(CANARY) == []
    assert [*Delegation.objects.values_list("pk", flat=True)] == kept
    assert "  accounts_delegation 2\n" in printed
    again = as_alice.post("/api/delegations/", body, headers=as_sunrise)
    assert again.status_code == 410


def test_the_history_of_a_delegation_that_was_handed_over_forgets_the_erased_owner(alice: User, bob: User) -> None:
    given = Delegation.objects.create(owner=alice, delegate=bob, role="read")
    other = User.objects.create_user("other", "other@example.org", None, name="Other")
    Delegation.objects.filter(pk=given.pk).update(owner=other)
    erase("erase_user", "alice")
    events: Any = DelegationEvent
    assert [*events.objects.values_list("owner", flat=True)] == [other.pk]
    assert Delegation.objects.get().owner == other


def test_the_last_manager_of_a_clinic_is_not_erased(alice: User, bob: User, clinic: User) -> None:
    erase("erase_user", "bob")
    Delegation.objects.create(
        owner=clinic, delegate=User.objects.create_user("ben", "b@example.org", None), role="write"
    )
    with pytest.raises(CommandError, match="This user is the last manager of a clinic: first give another user the"):
        erase("erase_user", "alice")
    assert User.objects.filter(pk=alice.pk).exists()
    assert Delegation.objects.filter(delegate=alice).exists()
    assert ErasureReceipt.objects.count() == 1


def test_a_clinic_without_patients_is_erased_with_its_delegations(alice: User, bob: User, clinic: User) -> None:
    erase("erase_user", "sunrise")
    assert not Delegation.objects.exists()
    assert not DelegationEvent.objects.exists()
    assert {*User.objects.values_list("username", flat=True)} == {"alice", "bob"}
    assert ErasureReceipt.objects.get().counts["accounts_delegation"] == 2


def fill_account(user: User, enrol_user: Any, staff: User) -> None:
    """Give an account a row in every table about accounts, each with the word where the table has a text for it."""
    enrol_user(user)
    client = with_token(user, name=f"{CANARY}'s export")
    LoginSession.objects.filter(user=user).update(user_agent=f"{CANARY} 1.0")
    User.objects.filter(pk=user.pk).update(
        verified_email=f"{CANARY}@example.org", pending_email=f"{CANARY}@new.example.org"
    )
    request = RequestFactory().post("/", REMOTE_ADDR="203.0.113.9")
    LoginAttempt.begin(request, CANARY, user)
    LoginAddress.objects.create(user=user, network="203.0.113.9", last_login_at=timezone.now())
    for session in LoginSession.objects.filter(user=user):
        SessionAttempt.begin(request, session.pk, user.pk)
    for address in (f"{CANARY}@example.org", f"{CANARY.title()}@new.example.org"):
        Invitation.objects.create(email=address, created_by=staff)
    Invitation.objects.create(created_by=user)
    Invitation.objects.create(created_by=staff, used_by=user, used_at=timezone.now())
    Import.objects.create(created_by=user, caller=user.pk, kind=CANARY).lines.create(
        created_by=user, line=2, status="created", record_id=1
    )
    Client().force_login(user)
    assert client.get("/api/auth/me/").status_code == 200


def test_erasing_a_user_leaves_nothing_of_the_account(make_user: Any, enrol: Any, staff: User, alice: User) -> None:  # noqa: F811
    user = make_user(CANARY, is_staff=True)
    fill_account(user, enrol, staff)
    kept = Invitation.objects.create(email="alice@example.org", created_by=staff)
    other = LoginSession.objects.start(alice, "tests", "127.0.0.1")
    user.refresh_from_db()
    assert {"accounts_user", "accounts_loginsession", "accounts_invitation"} <= {*tables_with(CANARY)}
    counted = Attempts.objects.filter(key__in=attempts_of(user))
    assert {*counted.values_list("kind", flat=True)} >= {"pair", "account", "session"}
    key = user.pk
    printed = erase("erase_user", CANARY)
    assert tables_with(CANARY) == []
    for model in apps.get_models(include_auto_created=True):
        for field in () if model._meta.proxy else model._meta.local_concrete_fields:
            if field.related_model is User and not issubclass(model, Event):
                assert not model._base_manager.filter(**{field.attname: key}).exists(), (model, field)
    assert not RecoveryCode.objects.exists()
    assert not Session.objects.exists()
    assert {*Attempts.objects.values_list("kind", flat=True)} == {"address"}  # the address may be another user's now
    assert [*Invitation.objects.all()] == [kept]
    assert [*LoginSession.objects.all()] == [other]
    assert "  imports_import 1\n" in printed
    assert "  imports_importedline 1\n" in printed
    for table in ("secondfactor 1", "recoverycode 10", "loginaddress 1", "invitation 4", "loginsession 1"):
        assert f"  accounts_{table}\n" in printed


def test_every_kind_of_attempts_of_an_account_is_erased_with_it() -> None:
    """A new kind is either found by `attempts_of` or is about an address of a client alone."""
    found = {"pair", "account", "session", "email change", "name", "e-mails to", "account file"}
    assert {*Attempts.Kind.values} - found == {"address", "registration", "e-mails from", "wrong links"}
