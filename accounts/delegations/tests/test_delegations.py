"""POST and GET /api/delegations/, GET, PATCH and DELETE /api/delegations/<id>/, `acting_for` in /api/auth/me/, and
GET /api/patients/<id>/audience/"""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.delegations.models import Delegation, DelegationEvent
from accounts.delegations.tests.cast import DELEGATIONS, acting_for, give, make_clinic, named, path_of, problem
from accounts.models import User
from accounts.tests.answers import refusals
from conftest import LoggedInClient
from healthcare.ownership import RecordOwner
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db

PATIENTS = "/api/patients/"


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [one["id"] for one in answer.json()]


def expire(delegation: int) -> None:
    Delegation.objects.filter(pk=delegation).update(expires_at=timezone.now() - timedelta(minutes=1))


# Giving


def test_alice_lets_ben_act_for_her(as_alice: LoggedInClient, alice: User, ben: User):
    answer = as_alice.post(DELEGATIONS, {"delegate": "ben", "role": "write"})
    given = Delegation.objects.get()
    expected = {
        "id": given.pk, "owner": named(alice), "delegate": named(ben), "role": "write", "note": "",
        "created_at": answer.json()["created_at"], "expires_at": None, "revoked_at": None,
    }  # fmt: skip
    assert (answer.status_code, answer.json()) == (201, expected)
    assert answer["Location"] == path_of(given.pk)
    assert as_alice.get(answer["Location"]).json() == expected


@pytest.mark.parametrize("name", ["BEN", "ben@example.org", " Ben@Example.org "])
def test_a_delegate_is_named_by_username_or_email(as_alice: LoggedInClient, ben: User, name: str):
    assert as_alice.post(DELEGATIONS, {"delegate": name, "role": "read"}).json()["delegate"] == named(ben)


def test_it_holds_from_the_next_request_on(as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient):
    patient = make_patient(alice)
    assert problem(as_ben.get(PATIENTS, headers=acting_for("alice"))) == (403, "not_a_delegate")
    delegation = give(as_alice, "ben", "read")
    assert ids(as_ben.get(PATIENTS, headers=acting_for("alice"))) == [patient.pk]
    assert as_alice.delete(path_of(delegation)).status_code == 204
    assert problem(as_ben.get(PATIENTS, headers=acting_for("alice"))) == (403, "not_a_delegate")


def test_a_manager_gives_for_the_clinic(
    as_alice: LoggedInClient, as_asha: LoggedInClient, as_ben: LoggedInClient, ben: User
):
    sunrise = make_clinic(as_alice)
    give(as_alice, "asha", "manage", sunrise)
    answer = as_asha.post(DELEGATIONS, {"delegate": "ben", "role": "read"}, headers=acting_for("sunrise"))
    assert (answer.status_code, answer.json()["owner"], answer.json()["delegate"]) == (201, named(sunrise), named(ben))
    assert answer["X-Acting-For"] == "sunrise"


@pytest.mark.parametrize("role", ["read", "write"])
@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_below_manage_nobody_gives_changes_or_ends(
    as_alice: LoggedInClient, as_asha: LoggedInClient, as_ben: LoggedInClient, role: str, method: str
):
    sunrise = make_clinic(as_alice)
    give(as_alice, "asha", role, sunrise)
    other = give(as_alice, "ben", "read", sunrise)
    for key in (other, 2**40):  # decided before a delegation is looked up and the body is parsed
        path = DELEGATIONS if method == "post" else path_of(key)
        headers = acting_for("sunrise")
        refused = getattr(as_asha, method)(path, "{", content_type="application/json", headers=headers)
        assert problem(refused) == (403, "role_too_low")
    assert Delegation.objects.living().filter(pk=other, role="read").exists()


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, ("/delegate", "required")),
        ({"delegate": "alice"}, ("/delegate", "invalid")),
        ({"delegate": "nobody"}, ("/delegate", "does_not_exist")),
        ({"delegate": ""}, ("/delegate", "blank")),
        ({"delegate": None}, ("/delegate", "null")),
        ({"delegate": 7}, ("/delegate", "invalid")),
        ({"delegate": "x" * 255}, ("/delegate", "max_length")),
        ({"delegate": "ben", "role": "owner"}, ("/role", "invalid_choice")),
        ({"delegate": "ben", "role": None}, ("/role", "null")),
        ({"delegate": "ben", "note": "x" * 201}, ("/note", "max_length")),
        ({"delegate": "ben", "note": "two\nlines"}, ("/note", "invalid")),
        ({"delegate": "ben", "expires_at": "2001-01-01T00:00:00Z"}, ("/expires_at", "invalid")),
        ({"delegate": "ben", "expires_at": "9000-01-01T00:00:00Z"}, ("/expires_at", "invalid")),
        ({"delegate": "ben", "expires_at": "tomorrow"}, ("/expires_at", "invalid")),
        ({"delegate": "ben", "until": None}, ("/until", "unknown")),
    ],
)
def test_a_bad_value_is_refused(as_alice: LoggedInClient, ben: User, body: dict[str, Any], refused: tuple[str, str]):
    assert refusals(as_alice.post(DELEGATIONS, {"role": "read", **body})) == {refused}
    assert not Delegation.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("post", DELEGATIONS, "role: Write read, write or manage."),
        ("get", f"{DELEGATIONS}?direction=sent", "direction: Write given or received."),
    ],
)
def test_a_choice_that_does_not_exist_is_answered_with_those_that_do(
    as_alice: LoggedInClient, ben: User, method: str, path: str, detail: str
):
    body = {"delegate": "ben", "role": "owner"} if method == "post" else None
    assert getattr(as_alice, method)(path, body).json()["detail"] == detail


def test_a_deactivated_user_reads_like_an_unknown_one(as_alice: LoggedInClient, ben: User):
    User.objects.filter(pk=ben.pk).update(is_active=False)
    sent = [as_alice.post(DELEGATIONS, {"delegate": name, "role": "read"}) for name in ("ben", "nobody")]
    inactive, unknown = ({**answer.json(), "request_id": ""} for answer in sent)
    assert (sent[0].status_code, inactive) == (400, unknown)


def test_a_second_living_one_is_refused(as_alice: LoggedInClient, ben: User):
    give(as_alice, "ben", "read")
    assert refusals(as_alice.post(DELEGATIONS, {"delegate": "ben", "role": "manage"})) == {("/delegate", "unique")}
    assert Delegation.objects.get().role == "read"


def test_after_an_end_or_an_expiry_another_can_be_given(as_alice: LoggedInClient, alice: User, ben: User):
    ended = give(as_alice, "ben", "read")
    as_alice.delete(path_of(ended))
    expired = give(as_alice, "ben", "write")
    expire(expired)
    living = give(as_alice, "ben", "manage")
    assert ids(as_alice.get(DELEGATIONS)) == [living]
    assert ids(as_alice.get(f"{DELEGATIONS}?active=false")) == [expired, ended]
    past = Delegation.objects.get(pk=expired)
    assert past.revoked_at == past.expires_at


def test_a_repeated_request_gives_one(as_alice: LoggedInClient, ben: User):
    sent = {"delegate": "ben", "role": "read"}
    first, second = (as_alice.post(DELEGATIONS, sent, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert (first.content, second["Idempotency-Replayed"]) == (second.content, "true")
    assert Delegation.objects.count() == 1


# Unknown users are reported 20 times an hour.


def test_unknown_users_are_reported_twenty_times_an_hour(as_alice: LoggedInClient, as_bob: LoggedInClient, ben: User):
    def send(client: LoggedInClient, name: str) -> int:
        return int(client.post(DELEGATIONS, {"delegate": name, "role": "read"}).status_code)

    give(as_alice, "bob", "read")  # a known one does not count
    assert [send(as_alice, f"nobody-{number}") for number in range(20)] == [400] * 20
    assert (send(as_alice, "nobody"), send(as_alice, "ben")) == (429, 429)  # which does not tell who exists
    assert send(as_bob, "ben") == 201
    assert not Delegation.objects.filter(delegate=ben, owner__username="alice").exists()


def test_a_refusal_keeps_the_count_and_the_idempotency_key_free(as_alice: LoggedInClient, ben: User):
    key = {"Idempotency-Key": "one"}
    assert as_alice.post(DELEGATIONS, {"delegate": "nobody", "role": "read"}, headers=key).status_code == 400
    assert as_alice.post(DELEGATIONS, {"delegate": "ben", "role": "read"}, headers=key).status_code == 201


# Reading


def test_both_sides_list_it_and_an_outsider_does_not(
    as_alice: LoggedInClient, as_ben: LoggedInClient, as_bob: LoggedInClient
):
    delegation = give(as_alice, "ben")
    listed: dict[str, tuple[list[int], ...]] = {
        "": ([delegation], [delegation], []),
        "?direction=given": ([delegation], [], []),
        "?direction=received": ([], [delegation], []),
        "?active=true": ([delegation], [delegation], []),
        "?active=false": ([], [], []),
    }
    for query, expected in listed.items():
        assert tuple(ids(client.get(DELEGATIONS + query)) for client in (as_alice, as_ben, as_bob)) == expected, query
    assert as_ben.get(path_of(delegation)).json() == as_alice.get(path_of(delegation)).json()
    assert as_bob.get(path_of(delegation)).status_code == 404


@pytest.mark.parametrize(
    ("query", "refused"), [("direction=both", "/direction"), ("active=yes", "/active"), ("owner=1", "/owner")]
)
def test_a_bad_parameter_is_refused(as_alice: LoggedInClient, query: str, refused: str):
    assert {pointer for pointer, _ in refusals(as_alice.get(f"{DELEGATIONS}?{query}"))} == {refused}


def test_acting_for_an_owner_lists_what_that_owner_has_given(
    as_alice: LoggedInClient, as_ben: LoggedInClient, as_bob: LoggedInClient
):
    sunrise = make_clinic(as_alice)
    to_ben = give(as_alice, "ben", "read", sunrise)
    elsewhere = give(as_bob, "ben", "manage")
    headers = acting_for("sunrise")
    founded = Delegation.objects.get(owner=sunrise, delegate__username="alice").pk
    assert ids(as_ben.get(DELEGATIONS, headers=headers)) == [to_ben, founded]
    scope = Delegation.objects.visible_to(User.objects.get(username="ben"), RecordOwner(sunrise.pk, "sunrise", "read"))
    assert list(scope.values_list("pk", flat=True)) == [to_ben, founded]  # without row-level security, too
    assert ids(as_ben.get(f"{DELEGATIONS}?direction=received", headers=headers)) == []
    assert as_ben.get(path_of(elsewhere), headers=headers).status_code == 404
    assert ids(as_ben.get(DELEGATIONS)) == [elsewhere, to_ben]


def test_a_cursor_of_one_owner_shows_no_rows_of_another(
    as_alice: LoggedInClient, as_asha: LoggedInClient, ben: User, bob: User
):
    sunrise, sunset = make_clinic(as_alice), make_clinic(as_alice, "sunset")
    for clinic in (sunrise, sunset):
        for name in ("asha", "ben", "bob"):
            give(as_alice, name, "manage", clinic)
    first = as_asha.get(f"{DELEGATIONS}?limit=2", headers=acting_for("sunset"))
    following = first["Link"].partition(">")[0].removeprefix("<")
    owners = {one["owner"]["username"] for one in as_asha.get(following, headers=acting_for("sunrise")).json()}
    assert owners == {"sunrise"}


@pytest.mark.parametrize("number", [1, 5])
def test_a_list_takes_these_queries(as_alice: LoggedInClient, make_user: Any, number: int):
    for one in range(number):
        make_user(f"delegate-{one}")
        give(as_alice, f"delegate-{one}")
    queries_named = ["SAVEPOINT", "the session and its user", "the delegations with the names", "RELEASE"]
    with CaptureQueriesContext(connection) as queries:
        assert len(ids(as_alice.get(DELEGATIONS))) == number
    assert len(queries) == len(queries_named), queries.captured_queries


# Changing and ending


def test_the_owner_changes_role_expiry_and_note(as_alice: LoggedInClient, as_ben: LoggedInClient):
    delegation = give(as_alice, "ben", "read")
    until = "2099-01-01T00:00:00Z"
    answer = as_alice.patch(path_of(delegation), {"role": "manage", "expires_at": until, "note": "for the summer"})
    changed = {name: answer.json()[name] for name in ("role", "expires_at", "note")}
    assert changed == {"role": "manage", "expires_at": until, "note": "for the summer"}
    assert as_ben.get(path_of(delegation)).json() == answer.json()
    assert as_alice.patch(path_of(delegation), {"expires_at": None}).json()["expires_at"] is None


def test_an_expiry_in_the_past_is_refused(as_alice: LoggedInClient, ben: User):
    path = path_of(give(as_alice, "ben"))
    assert refusals(as_alice.patch(path, {"expires_at": "2001-01-01T00:00:00Z"})) == {("/expires_at", "invalid")}


def test_the_sides_cannot_be_changed(as_alice: LoggedInClient, ben: User, bob: User):
    path = path_of(give(as_alice, "ben"))
    before = as_alice.get(path).json()
    assert as_alice.patch(path, {**before, "delegate": named(bob), "owner": named(bob)}).json() == before


def test_a_delegate_cannot_change_their_own_delegation(as_alice: LoggedInClient, as_ben: LoggedInClient):
    sunrise = make_clinic(as_alice)
    delegation = give(as_alice, "ben", "manage", sunrise)
    for headers in ({}, acting_for("sunrise")):
        assert as_ben.patch(path_of(delegation), {"role": "read"}, headers=headers).status_code == 403
    assert Delegation.objects.get(pk=delegation).role == "manage"


@pytest.mark.parametrize("role", ["read", "write", "manage"])
def test_a_delegate_may_leave(as_alice: LoggedInClient, as_ben: LoggedInClient, role: str):
    delegation = give(as_alice, "ben", role)
    assert as_ben.delete(path_of(delegation)).status_code == 204
    assert as_ben.delete(path_of(delegation)).status_code == 404
    assert ids(as_alice.get(f"{DELEGATIONS}?active=false")) == [delegation]


def test_a_manager_ends_another_managers_delegation(as_alice: LoggedInClient, as_ben: LoggedInClient, ben: User):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "manage", sunrise)
    of_alice = Delegation.objects.get(owner=sunrise, delegate__username="alice").pk
    assert as_ben.delete(path_of(of_alice)).status_code == 404  # ben has neither given nor received it
    assert as_ben.delete(path_of(of_alice), headers=acting_for("sunrise")).status_code == 204


def test_what_has_ended_cannot_be_changed(as_alice: LoggedInClient, ben: User):
    delegation = give(as_alice, "ben")
    expire(delegation)
    assert as_alice.patch(path_of(delegation), {"note": "late"}).status_code == 404
    assert as_alice.delete(path_of(delegation)).status_code == 404
    assert as_alice.get(path_of(delegation)).status_code == 200


def test_an_outsider_changes_and_ends_nothing(as_alice: LoggedInClient, as_bob: LoggedInClient, ben: User):
    path = path_of(give(as_alice, "ben"))
    assert (as_bob.patch(path, {"role": "manage"}).status_code, as_bob.delete(path).status_code) == (404, 404)


def test_writes_obey_if_match(as_alice: LoggedInClient, ben: User):
    path = path_of(give(as_alice, "ben"))
    tag = {"If-Match": as_alice.get(path)["ETag"]}
    assert as_alice.patch(path, {"note": "first"}, headers=tag).status_code == 200
    assert as_alice.patch(path, {"note": "second"}, headers=tag).status_code == 412
    assert as_alice.delete(path, headers=tag).status_code == 412
    assert as_alice.delete(path, headers={"If-Match": as_alice.get(path)["ETag"]}).status_code == 204


def test_every_change_is_in_the_history_with_its_actor(as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient):
    delegation = give(as_alice, "ben", "read")
    as_alice.patch(path_of(delegation), {"role": "write"})
    as_ben.delete(path_of(delegation))
    model: Any = DelegationEvent
    events = model.objects.filter(id=delegation).order_by("pgh_id")
    recorded = [(event.pgh_label, event.role, event.pgh_context["actor"]) for event in events]
    ben = User.objects.get(username="ben")
    assert recorded == [("insert", "read", alice.pk), ("update", "write", alice.pk), ("update", "write", ben.pk)]


def test_the_role_of_the_database_changes_no_delegation(as_alice: LoggedInClient, ben: User):
    give(as_alice, "ben")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg(privilege_type, ',') FROM information_schema.role_table_grants "
            "WHERE grantee = 'healthcare_api' AND table_name = 'accounts_delegation'"
        )
        assert cursor.fetchone() == ("SELECT",)


# Accounts that are deactivated


def test_a_deactivated_owners_or_delegates_delegations_do_not_work(
    as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient, ben: User
):
    give(as_alice, "ben", "manage")
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert problem(as_ben.get(PATIENTS, headers=acting_for("alice"))) == (403, "not_a_delegate")
    assert as_ben.get("/api/auth/me/").json()["acting_for"] == []
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert as_ben.get(PATIENTS, headers=acting_for("alice")).status_code == 200
    User.objects.filter(pk=ben.pk).update(is_active=False)
    assert as_ben.get(PATIENTS, headers=acting_for("alice")).status_code == 401


# Whom one may act for, and who sees a patient


def test_me_names_the_owners_one_may_act_for(as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient):
    sunrise = make_clinic(as_alice)
    give(as_alice, "ben", "read", expires_at="2099-01-01T00:00:00Z")
    give(as_alice, "ben", "manage", sunrise)
    expected = [
        {**named(sunrise), "role": "manage", "expires_at": None},
        {**named(alice), "role": "read", "expires_at": "2099-01-01T00:00:00Z"},
    ]
    read = as_ben.get("/api/auth/me/")
    assert read.json()["acting_for"] == expected
    changed = as_ben.patch("/api/auth/me/", {"name": "Ben O."}, headers={"If-Match": read["ETag"]})
    assert (changed.status_code, changed.json()["acting_for"]) == (200, expected)


def test_me_names_no_delegation_that_has_ended(as_alice: LoggedInClient, as_ben: LoggedInClient, bob: User):
    expire(give(as_alice, "ben"))
    give(as_alice, "bob")
    assert as_ben.get("/api/auth/me/").json()["acting_for"] == []


def test_the_audience_of_a_patient_is_the_owner_and_the_delegates(
    as_alice: LoggedInClient, alice: User, as_ben: LoggedInClient, ben: User, asha: User, bob: User
):
    patient = make_patient(alice)
    path = f"{PATIENTS}{patient.pk}/audience/"
    first = give(as_alice, "ben", "read", expires_at="2099-01-01T00:00:00Z")
    give(as_alice, "asha", "manage")
    as_alice.delete(path_of(give(as_alice, "bob", "write")))
    expected = [
        {**named(alice), "basis": "owner", "role": None, "expires_at": None},
        {**named(ben), "basis": "delegate", "role": "read", "expires_at": "2099-01-01T00:00:00Z"},
        {**named(asha), "basis": "delegate", "role": "manage", "expires_at": None},
    ]
    assert as_alice.get(path).json() == expected
    assert as_ben.get(path, headers=acting_for("alice")).json() == expected
    assert as_ben.get(path).status_code == 404
    User.objects.filter(pk=asha.pk).update(is_active=False)
    expire(first)
    assert as_alice.get(path).json() == expected[:1]
