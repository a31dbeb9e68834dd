"""POST and GET /api/clinics/, GET and PATCH /api/clinics/<id>/"""

from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.delegations.tests.cast import CLINICS, acting_for, give, make_clinic, path_of, problem
from accounts.models import Attempts, LoginSession, User
from accounts.tests.answers import refusals
from conftest import PASSWORD, LoggedInClient, logged_in

pytestmark = pytest.mark.django_db

SUNRISE = {"name": "Sunrise Clinic", "username": "sunrise"}


def test_alice_founds_a_clinic_and_becomes_its_manager(as_alice: LoggedInClient, alice: User):
    answer = as_alice.post(CLINICS, SUNRISE)
    clinic = User.objects.get(username="sunrise")
    assert (answer.status_code, answer.json()) == (201, {"id": clinic.pk, **SUNRISE})
    assert answer["Location"] == f"{CLINICS}{clinic.pk}/"
    assert (clinic.is_clinic, clinic.email, clinic.has_usable_password()) == (True, None, False)
    given = Delegation.objects.get(owner=clinic)
    assert (given.delegate, given.role, given.expires_at, given.note) == (alice, "manage", None, "")


def test_a_clinic_is_listed_and_read_by_those_who_may_act_for_it_alone(
    as_alice: LoggedInClient, as_ben: LoggedInClient, as_bob: LoggedInClient
):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "read", sunrise)
    one = {"id": sunrise.pk, **SUNRISE}
    for client in (as_alice, as_ben):
        assert client.get(CLINICS).json() == [one]
        assert client.get(f"{CLINICS}{sunrise.pk}/").json() == one
    assert as_bob.get(CLINICS).json() == []
    assert as_bob.get(f"{CLINICS}{sunrise.pk}/").status_code == 404


def test_a_person_one_acts_for_is_no_clinic(as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient):
    give(as_alice, "ben", "manage")
    assert as_ben.get(CLINICS).json() == []
    assert as_ben.patch(f"{CLINICS}{alice.pk}/", {"name": "New"}).status_code == 404


def test_clinics_come_in_pages_the_newest_first(as_alice: LoggedInClient):
    clinics = [make_clinic(as_alice, f"clinic-{number}").pk for number in range(3)]
    first = as_alice.get(f"{CLINICS}?limit=2&count=true")
    assert ([one["id"] for one in first.json()], first["X-Total-Count"]) == ([clinics[2], clinics[1]], "3")
    following = first["Link"].partition(">")[0].removeprefix("<")
    assert [one["id"] for one in as_alice.get(following).json()] == [clinics[0]]


def test_a_manager_changes_the_name_without_a_header(as_alice: LoggedInClient, alice: User):
    sunrise = make_clinic(as_alice)
    answer = as_alice.patch(f"{CLINICS}{sunrise.pk}/", {"name": "Sunset Clinic"})
    assert (answer.status_code, answer.json()) == (200, {"id": sunrise.pk, **SUNRISE, "name": "Sunset Clinic"})
    sunrise.refresh_from_db()
    assert sunrise.name == "Sunset Clinic"


@pytest.mark.parametrize("role", ["read", "write"])
def test_below_manage_the_name_cannot_be_changed(
    as_alice: LoggedInClient, as_ben: LoggedInClient, ben: User, role: str
):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", role, sunrise)
    assert problem(as_ben.patch(f"{CLINICS}{sunrise.pk}/", {"name": ""})) == (403, "role_too_low")
    sunrise.refresh_from_db()
    assert sunrise.name == "Sunrise Clinic"


def test_whoever_managed_a_clinic_once_and_reads_it_now_does_not_change_its_name(
    as_alice: LoggedInClient, as_ben: LoggedInClient
):
    sunrise = make_clinic(as_alice)
    assert as_ben.delete(path_of(give(as_alice, "ben", "manage", sunrise))).status_code == 204
    give(as_alice, "ben", "read", sunrise)
    assert problem(as_ben.patch(f"{CLINICS}{sunrise.pk}/", {"name": "Mine"})) == (403, "role_too_low")


def test_a_strangers_patch_reads_like_that_of_a_missing_clinic(as_alice: LoggedInClient, as_bob: LoggedInClient):
    sunrise = make_clinic(as_alice)
    stranger, missing = (as_bob.patch(f"{CLINICS}{key}/", {"name": "Mine"}) for key in (sunrise.pk, 2**40))
    bodies = [{**answer.json(), "request_id": ""} for answer in (stranger, missing)]
    assert (stranger.status_code, bodies[0]) == (404, bodies[1])


def test_a_change_of_the_name_obeys_if_match(as_alice: LoggedInClient):
    path = f"{CLINICS}{make_clinic(as_alice).pk}/"
    tag = as_alice.get(path)["ETag"]
    assert as_alice.patch(path, {"name": "Sunset Clinic"}, headers={"If-Match": tag}).status_code == 200
    assert as_alice.patch(path, {"name": "Noon Clinic"}, headers={"If-Match": tag}).status_code == 412
    assert as_alice.get(path, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("username", "self", "invalid"),
        ("username", "Self", "invalid"),
        ("username", "clinic@example.org", "invalid"),
        ("username", "sun rise", "invalid"),
        ("username", "2024", "invalid"),
        ("username", "", "blank"),
        ("username", None, "null"),
        ("name", "", "blank"),
        ("name", None, "null"),
        ("is_staff", True, "unknown"),
    ],
)
def test_a_bad_value_is_refused(as_alice: LoggedInClient, field: str, value: Any, code: str):
    assert refusals(as_alice.post(CLINICS, {**SUNRISE, field: value})) == {(f"/{field}", code)}
    assert not User.objects.filter(is_clinic=True).exists()


@pytest.mark.parametrize("username", ["bob", "BOB"])
def test_a_taken_username_is_refused(as_alice: LoggedInClient, bob: User, username: str):
    assert refusals(as_alice.post(CLINICS, {**SUNRISE, "username": username})) == {("/username", "unique")}


def test_sixty_accounts_an_hour_are_added_from_one_address(as_alice: LoggedInClient):
    make_clinic(as_alice)
    Attempts.objects.filter(kind=Attempts.Kind.REGISTRATION).update(count=60)
    answer = as_alice.post(CLINICS, {**SUNRISE, "username": "sunset"})
    assert (answer.status_code, User.objects.filter(is_clinic=True).count()) == (429, 1)


def test_taken_usernames_are_reported_twenty_times_an_hour(as_alice: LoggedInClient, bob: User):
    taken = [as_alice.post(CLINICS, {**SUNRISE, "username": "bob"}).status_code for _ in range(20)]
    assert taken == [400] * 20
    free, again = (as_alice.post(CLINICS, {**SUNRISE, "username": name}) for name in ("free", "bob"))
    assert (free.status_code, again.status_code) == (429, 429)


def test_a_repeated_request_founds_one_clinic(as_alice: LoggedInClient):
    first, second = (as_alice.post(CLINICS, SUNRISE, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert (first.json(), first.status_code) == (second.json(), second.status_code)
    assert second["Idempotency-Replayed"] == "true"
    assert User.objects.filter(is_clinic=True).count() == 1


def test_where_staff_alone_found_clinics_others_are_refused(
    as_alice: LoggedInClient, as_staff: LoggedInClient, settings: Any
):
    settings.CLINICS = "staff"
    answer = as_alice.post(CLINICS, {})
    assert (answer.status_code, answer.json()["detail"]) == (
        403, "Ask a member of staff: only staff may found clinics."
    )  # fmt: skip
    assert as_alice.get(CLINICS).status_code == 200
    assert as_staff.post(CLINICS, SUNRISE).status_code == 201


def test_the_header_is_ignored_here(as_alice: LoggedInClient, alice: User):
    answer = as_alice.get(CLINICS, headers=acting_for("nobody"))
    assert (answer.status_code, "X-Acting-For" in answer) == (200, False)


# Nobody logs in to a clinic.


@pytest.mark.django_db(transaction=True)
def test_nobody_logs_in_to_a_clinic(as_alice: LoggedInClient, anonymous: APIClient):
    make_clinic(as_alice)
    for password in ("", "!", PASSWORD):
        sent = {"username": "sunrise", "password": password}
        assert anonymous.post("/api/auth/login/", sent).status_code in {400, 401}
    assert LoginSession.objects.filter(user__is_clinic=True).count() == 0


def test_no_command_gives_a_clinic_a_password(as_alice: LoggedInClient):
    sunrise = make_clinic(as_alice)
    with patch("getpass.getpass", return_value="Kf7-thirteen-x"), pytest.raises(CommandError):
        call_command("changepassword", "sunrise", stdout=StringIO(), stderr=StringIO())
    sunrise.refresh_from_db()
    assert not sunrise.has_usable_password()
    with pytest.raises(ValidationError, match="A clinic has no password"):
        validate_password("Kf7-thirteen-x", sunrise)


def test_no_superuser_takes_the_username_of_a_clinic_or_self(as_alice: LoggedInClient):
    make_clinic(as_alice)
    for username in ("sunrise", "self"):
        with pytest.raises(ValidationError):
            User.objects.create_superuser(username, f"{username}@example.org", PASSWORD, name="Root")


@pytest.mark.parametrize(
    "change",
    [
        {"password": "argon2$x"},
        {"is_staff": True},
        {"is_superuser": True},
        {"username": "sunrise@example.org"},
        {"email": "sunrise@example.org"},
    ],
)
def test_the_database_refuses_what_would_let_somebody_log_in(as_alice: LoggedInClient, change: dict[str, Any]):
    sunrise = make_clinic(as_alice)
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=sunrise.pk).update(**change)


def test_a_session_of_a_clinic_could_found_nothing_by_itself(as_alice: LoggedInClient):
    sunrise = make_clinic(as_alice)
    refused = as_alice.post("/api/delegations/", {"delegate": "sunrise", "role": "read"})
    assert refusals(refused) == {("/delegate", "invalid")}
    assert Delegation.objects.filter(delegate=sunrise).count() == 0


@pytest.mark.parametrize("username", ["self", "SELF"])
def test_nobody_registers_as_self(anonymous: APIClient, username: str):
    sent = {"name": "Self", "email": "self@example.org", "username": username, "password": PASSWORD}
    assert refusals(anonymous.post("/api/auth/register/", sent)) == {("/username", "invalid")}


def test_a_deactivated_clinic_is_listed_no_more(as_alice: LoggedInClient):
    sunrise = make_clinic(as_alice)
    User.objects.filter(pk=sunrise.pk).update(is_active=False)
    assert as_alice.get(CLINICS).json() == []
    assert problem(as_alice.get("/api/patients/", headers=acting_for("sunrise"))) == (403, "not_a_delegate")


def test_a_clinic_without_records_can_be_deleted_with_its_delegations(as_alice: LoggedInClient, alice: User):
    make_clinic(as_alice, "sunrise").delete()
    make_clinic(as_alice, "sunset")
    User.objects.filter(username="sunset").delete()
    assert Delegation.objects.count() == 0
    assert logged_in(alice).get(CLINICS).json() == []
