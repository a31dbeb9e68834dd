"""Accounts that end while patients are theirs, are offered to them, or are added for them at the same moment."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction
from psycopg2.errors import RestrictViolation
from pytest_django import Settings

from accounts.delegations.tests.cast import acting_for, give, problem
from accounts.models import User
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import LiveServer
from healthcare.tests.waiting import Waiting
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import Patient, PatientTransfer
from patients.tests.factories import make_patient

ME, PATIENTS = "/api/auth/me/", "/api/patients/"
PROOF = {"current_password": PASSWORD}
RECORDS_LEFT, OWNER_INACTIVE = (409, "records_left"), (409, "owner_inactive")


def offer(client: LoggedInClient, patient: Patient, to: str) -> int:
    answer = client.post(f"{PATIENTS}{patient.pk}/transfer/", {"to": to})
    assert answer.status_code == 202, answer.content
    return int(answer.json()["id"])


def test_a_merged_record_counts_with_the_one_that_was_kept(as_alice: LoggedInClient, alice: User) -> None:
    kept, duplicate = make_patient(alice), make_patient(alice)
    with transaction.atomic():
        merge(kept, duplicate)
    assert as_alice.delete(ME, PROOF).json()["records"] == {"patients": 1}


@pytest.mark.django_db(transaction=True)
def test_a_patient_who_is_offered_counts_until_the_other_side_accepts(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User
) -> None:
    transfer = offer(as_alice, make_patient(alice), "bob")
    assert as_alice.delete(ME, PROOF).json()["records"] == {"patients": 1}
    assert PatientTransfer.objects.get().state == "pending"
    assert as_bob.post(f"/api/transfers/{transfer}/accept/").status_code == 200
    assert as_alice.delete(ME, PROOF).status_code == 204
    assert as_bob.get(PATIENTS).json()[0]["id"]


def test_an_offer_to_the_account_is_declined_and_the_owner_told(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    patient = make_patient(alice)
    transfer = offer(as_alice, patient, "bob")
    assert as_bob.delete(ME, PROOF).status_code == 204
    assert PatientTransfer.objects.get().state == "declined"
    [notice] = as_alice.get("/api/notices/").json()
    assert (notice["kind"], notice["about"]["id"]) == ("transfer_declined", transfer)
    assert Patient.objects.get(pk=patient.pk).created_by == alice
    assert as_alice.post(f"{PATIENTS}{patient.pk}/transfer/", {"to": "bob"}).status_code == 400


def test_a_held_patient_counts(as_alice: LoggedInClient, alice: User) -> None:
    set_hold(make_patient(alice).pk, reason="case 7", account="root")
    assert problem(as_alice.delete(ME, PROOF)) == RECORDS_LEFT


# The database decides for every writer.


def insert(owner: User) -> None:
    with transaction.atomic():
        make_patient(owner)


def test_nobody_adds_or_gives_a_patient_to_an_inactive_owner(alice: User, bob: User) -> None:
    patient = make_patient(alice)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    for write in (lambda: insert(bob), lambda: Patient.objects.filter(pk=patient.pk).update(created_by=bob)):
        with pytest.raises(IntegrityError) as raised, transaction.atomic():
            write()
        assert isinstance(raised.value.__cause__, RestrictViolation)
    assert Patient.objects.get().created_by == alice


def test_what_an_inactive_owner_has_stays_can_be_changed_and_given_to_others(alice: User, bob: User) -> None:
    patient = make_patient(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    Patient.objects.filter(pk=patient.pk).update(name="New", created_by=alice)
    Patient.objects.filter(pk=patient.pk).update(created_by=bob)
    assert Patient.objects.get().created_by == bob


def test_the_triggers_are_not_switched_off_for_the_role_of_requests(alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'active%owner' AND tgenabled = 'O'")
        assert cursor.fetchone() == (2,)


# At the same moment, over connections of their own.


@pytest.fixture(params=["on", "off"])
def either_path(request: pytest.FixtureRequest, settings: Settings) -> None:
    settings.FAST_PATH = request.param


@pytest.mark.django_db(transaction=True)
def test_an_account_that_waits_for_a_new_patient_stays(as_alice: LoggedInClient, alice: User) -> None:
    with transaction.atomic():
        make_patient(alice)
        leaving = Waiting(lambda: as_alice.delete(ME, PROOF))
    assert problem(leaving.finish()) == RECORDS_LEFT
    assert User.objects.get(pk=alice.pk).is_active


@pytest.mark.usefixtures("either_path")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by", ["the owner", "a delegate"])
def test_a_patient_who_waits_for_an_account_that_ends_is_refused(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, by: str
) -> None:
    give(as_alice, "bob")
    client, headers = (as_alice, {}) if by == "the owner" else (as_bob, acting_for("alice"))
    assert client.get(PATIENTS, headers=headers).status_code == 200  # the fast path knows the owner from now on
    with transaction.atomic():
        locked = User.objects.select_for_update().get(pk=alice.pk)
        adding = Waiting(lambda: client.post(PATIENTS, {"name": "Late"}, headers=headers))
        locked.is_active = False
        locked.save()
    answer = adding.finish()
    assert problem(answer) == OWNER_INACTIVE
    assert answer.json()["detail"] == "The account of the owner is not active; nothing can be added or given to it."
    assert not Patient.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_acceptance_that_meets_the_end_of_the_account_is_settled_one_way(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    """The end of the account declines the offer first, and waits for the acceptance, which holds the offer's row lock;
    what was accepted is then counted."""
    patient = make_patient(alice)
    transfer = offer(as_alice, patient, "bob")
    with transaction.atomic():
        PatientTransfer.objects.select_for_update(no_key=True).get(pk=transfer)
        accepting = Waiting(lambda: as_bob.post(f"/api/transfers/{transfer}/accept/"))
        leaving = Waiting(lambda: as_bob.delete(ME, PROOF))
    accepted, left = accepting.finish(), leaving.finish()
    if accepted.status_code == 200:
        assert problem(left) == RECORDS_LEFT
    else:
        assert (accepted.status_code, left.status_code) == (409, 204)
    owner = Patient.objects.select_related("created_by").get().created_by
    assert owner is not None
    assert owner.is_active


def test_of_a_patient_and_an_end_at_once_one_happens(live: LiveServer, make_user: Callable[..., User]) -> None:
    outcomes = set()
    for turn in range(8):
        account, tokens = live.register()
        add = lambda: live.call("POST", PATIENTS, {"name": "X"}, tokens["access"])  # noqa: B023, E731
        leave = lambda: live.call("DELETE", ME, PROOF, tokens["access"])  # noqa: B023, E731
        # Argon2 makes the end the slower one: other patients come while it runs.
        answers = call_concurrently(leave, *[add] * (1 + turn % 3))
        left, added = answers[0].status, [answer.status for answer in answers[1:]]
        assert (left, {*added} & {201}) in [(204, set()), (409, {201})], (left, added)
        assert {*added} <= {201, 401, 409}
        outcomes.add(left)
    assert outcomes <= {204, 409}
