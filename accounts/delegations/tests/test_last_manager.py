"""A clinic always has a manager: an active user whose delegation has the role `manage` and no end."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from psycopg2.errors import RestrictViolation

from accounts.delegations.models import Delegation
from accounts.delegations.rules import found_clinic
from accounts.delegations.tests.cast import CLINICS, DELEGATIONS, acting_for, give, make_clinic, path_of, problem
from accounts.delegations.triggers import managers_checked_at_end
from accounts.models import User
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import LiveServer
from healthcare.tests.waiting import Waiting, call_in_thread

pytestmark = pytest.mark.django_db

LAST_MANAGER = (409, "last_manager")
LATER = "2099-01-01T00:00:00Z"


def delegation_of(clinic: User, username: str) -> Delegation:
    return Delegation.objects.get(owner=clinic, delegate__username=username, revoked_at=None)


def assert_refused_by_database(write: Any) -> None:
    with pytest.raises(IntegrityError) as raised, transaction.atomic():
        write()
    assert isinstance(raised.value.__cause__, RestrictViolation)


def has_manager(clinic: User) -> bool:
    return Delegation.objects.filter(owner=clinic).permanent_managers().exists()


def test_the_last_manager_cannot_leave(as_alice: LoggedInClient):
    sunrise = make_clinic(as_alice)
    path = path_of(delegation_of(sunrise, "alice").pk)
    for headers in ({}, acting_for("sunrise")):
        answer = as_alice.delete(path, headers=headers)
        assert problem(answer) == LAST_MANAGER
        assert answer.json()["detail"] == (
            "A clinic needs a manager. First give another user the role manage, without an end."
        )
    assert as_alice.get(CLINICS).json() != []


def test_a_second_manager_lets_the_first_one_leave(as_alice: LoggedInClient, as_ben: LoggedInClient):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise)
    assert as_alice.delete(path_of(delegation_of(sunrise, "alice").pk)).status_code == 204
    assert problem(as_ben.delete(path_of(delegation_of(sunrise, "ben").pk))) == LAST_MANAGER


@pytest.mark.parametrize(("role", "expires_at"), [("read", None), ("write", None), ("manage", LATER)])
def test_another_delegate_is_no_second_manager(as_alice: LoggedInClient, ben: User, role: str, expires_at: str | None):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", role, sunrise, expires_at=expires_at)
    assert problem(as_alice.delete(path_of(delegation_of(sunrise, "alice").pk))) == LAST_MANAGER


def test_a_deactivated_manager_is_no_second_manager(as_alice: LoggedInClient, ben: User):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise)
    User.objects.filter(pk=ben.pk).update(is_active=False)
    assert problem(as_alice.delete(path_of(delegation_of(sunrise, "alice").pk))) == LAST_MANAGER


@pytest.mark.parametrize("change", [{"role": "write"}, {"role": "read"}, {"expires_at": LATER}])
def test_neither_role_nor_end_of_the_last_manager_can_be_changed(
    as_alice: LoggedInClient, as_ben: LoggedInClient, change: dict[str, str]
):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise, expires_at=LATER)
    path = path_of(delegation_of(sunrise, "alice").pk)
    assert problem(as_ben.patch(path, change, headers=acting_for("sunrise"))) == LAST_MANAGER
    assert as_ben.patch(path, {"note": "the founder"}, headers=acting_for("sunrise")).status_code == 200
    kept = delegation_of(sunrise, "alice")
    assert (kept.role, kept.expires_at, kept.note) == ("manage", None, "the founder")


def test_delegates_below_manage_may_leave_and_be_changed(as_alice: LoggedInClient, as_ben: LoggedInClient):
    sunrise = make_clinic(as_alice)
    delegation = give(as_alice, "ben", "write", sunrise)
    answer = as_alice.patch(path_of(delegation), {"role": "read"}, headers=acting_for("sunrise"))
    assert (answer.status_code, as_ben.delete(path_of(delegation)).status_code) == (200, 204)


def test_a_person_needs_no_manager(as_alice: LoggedInClient, as_ben: LoggedInClient):
    assert as_ben.delete(path_of(give(as_alice, "ben", "manage"))).status_code == 204


def test_a_refusal_adds_no_notice(as_alice: LoggedInClient, as_ben: LoggedInClient):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise, expires_at=LATER)
    as_ben.delete("/api/notices/{}/".format(as_ben.get("/api/notices/").json()[0]["id"]))
    as_alice.delete(path_of(delegation_of(sunrise, "alice").pk))
    assert as_ben.get("/api/notices/").json() == []


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


# The database decides for every writer.


def test_the_last_manager_cannot_be_deactivated_or_deleted(as_alice: LoggedInClient, alice: User):
    sunrise, key = make_clinic(as_alice), alice.pk
    alice.is_active = False
    assert_refused_by_database(alice.save)
    assert_refused_by_database(lambda: User.objects.filter(pk=alice.pk).update(is_active=False))
    assert_refused_by_database(lambda: Delegation.objects.filter(owner=sunrise).delete())
    assert_refused_by_database(lambda: alice.delete())
    assert_refused_by_database(lambda: User.objects.filter(pk=key).delete())
    assert User.objects.get(pk=key).is_active
    assert has_manager(sunrise)


@pytest.mark.parametrize("column", ["owner", "delegate"])
def test_a_delegation_of_the_last_manager_cannot_be_moved(as_alice: LoggedInClient, bob: User, column: str):
    delegation = delegation_of(make_clinic(as_alice), "alice")
    inactive = User.objects.create_user("ida", "ida@example.org", None, name="Ida", is_active=False)
    target = bob if column == "owner" else inactive
    assert_refused_by_database(lambda: Delegation.objects.filter(pk=delegation.pk).update(**{column: target}))


def test_several_statements_may_mend_what_one_breaks(as_alice: LoggedInClient, ben: User):
    sunrise = make_clinic(as_alice)

    def replace(by: User | None) -> None:
        with managers_checked_at_end():
            Delegation.objects.filter(owner=sunrise).update(revoked_at=timezone.now())
            if by:
                Delegation.objects.create(owner=sunrise, delegate=by, role="manage")

    assert_refused_by_database(lambda: replace(None))
    replace(ben)
    assert [one.delegate for one in Delegation.objects.filter(owner=sunrise).permanent_managers()] == [ben]


def test_expiry_is_no_way_around_it(as_alice: LoggedInClient):
    delegation = delegation_of(make_clinic(as_alice), "alice")
    for at in (timezone.now() - timedelta(days=1), timezone.now() + timedelta(days=1)):
        assert_refused_by_database(lambda at=at: Delegation.objects.filter(pk=delegation.pk).update(expires_at=at))


def test_the_trigger_is_not_switched_off_for_the_role_of_requests(as_alice: LoggedInClient):
    make_clinic(as_alice)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'last_manager%' AND tgenabled = 'O'")
        assert cursor.fetchone() == (3,)


# Two managers at once


def found_live(live: LiveServer, tokens: dict[str, str], name: str) -> int:
    answer = live.call("POST", CLINICS, {"name": "Sunrise Clinic", "username": name}, tokens["access"])
    assert answer.status == 201, answer.body
    return int(answer.json["id"])


def test_of_two_managers_who_leave_at_once_one_stays(live: LiveServer):
    (alice, as_alice), (ben, as_ben) = live.register(), live.register()
    for turn in range(10):
        clinic = found_live(live, as_alice, f"{alice['username']}-{turn}")
        sent = {"delegate": ben["username"], "role": "manage"}
        given = live.call("POST", DELEGATIONS, sent, as_alice["access"], X_Acting_For=str(clinic))
        listed = live.call("GET", DELEGATIONS, None, as_alice["access"], X_Acting_For=str(clinic)).json
        [own] = [one["id"] for one in listed if one["delegate"]["id"] == alice["id"]]
        answers = call_concurrently(
            partial(live.call, "DELETE", path_of(own), None, as_alice["access"]),
            partial(live.call, "DELETE", path_of(given.json["id"]), None, as_ben["access"]),
        )
        assert sorted(answer.status for answer in answers) == [204, 409]
        assert [answer.json["code"] for answer in answers if answer.status == 409] == ["last_manager"]
        clinics = [live.call("GET", CLINICS, None, tokens["access"]).json for tokens in (as_alice, as_ben)]
        assert sorted(clinic in [one["id"] for one in listed] for listed in clinics) == [False, True]


@pytest.mark.django_db(transaction=True)
def test_whoever_becomes_a_manager_while_being_deactivated_lets_nobody_leave(as_alice: LoggedInClient, ben: User):
    sunrise = make_clinic(as_alice)
    with transaction.atomic():
        User.objects.filter(pk=ben.pk).update(is_active=False)
        call_in_thread(lambda: give(as_alice, "ben", "manage", sunrise))
        leaving = Waiting(lambda: as_alice.delete(path_of(delegation_of(sunrise, "alice").pk)))
    assert problem(leaving.finish()) == LAST_MANAGER
    assert has_manager(sunrise)


@pytest.mark.django_db(transaction=True)
def test_a_manager_who_has_stayed_cannot_be_deactivated_at_once(as_alice: LoggedInClient, ben: User):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise)
    with transaction.atomic():
        Delegation.objects.filter(owner=sunrise, delegate__username="alice").update(revoked_at=timezone.now())
        deactivating = Waiting(lambda: assert_refused_by_database(lambda: deactivate(ben)))
    deactivating.finish()
    assert has_manager(sunrise)


@pytest.mark.django_db(transaction=True)
def test_of_a_departure_and_a_deactivation_that_deadlock_one_happens(as_alice: LoggedInClient, ben: User):
    """Each has locked what the other one waits for: the clinic, and the manager who would stay."""
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise)

    def deactivated() -> bool:
        try:
            deactivate(ben)
        except (IntegrityError, OperationalError):
            return False
        return True

    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=sunrise.pk)
        leaving = Waiting(lambda: as_alice.delete(path_of(delegation_of(sunrise, "alice").pk)))
        deactivating = Waiting(deactivated)
    answer, happened = leaving.finish(), deactivating.finish()
    assert answer.status_code in ({409, 503} if happened else {204, 503})
    assert has_manager(sunrise)


@pytest.mark.django_db(transaction=True)
def test_who_leaves_while_founding_a_clinic_stays_as_its_manager(as_alice: LoggedInClient, alice: User):
    with transaction.atomic():
        clinic = found_clinic("Sunrise", "sunrise", alice)
        leaving = Waiting(lambda: as_alice.delete("/api/auth/me/", {"current_password": PASSWORD}))
    assert problem(leaving.finish()) == LAST_MANAGER
    assert has_manager(clinic)


@pytest.mark.django_db(transaction=True)
def test_a_clinic_that_waits_for_its_founder_to_leave_is_not_founded(as_alice: LoggedInClient, alice: User):
    with transaction.atomic():
        locked = User.objects.select_for_update().get(pk=alice.pk)
        founding = Waiting(lambda: as_alice.post(CLINICS, {"name": "Sunrise", "username": "sunrise"}))
        locked.is_active = False
        locked.save()
    assert founding.finish().status_code == 401
    assert not User.objects.filter(is_clinic=True).exists()
