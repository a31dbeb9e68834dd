"""Delegations, notices and clinics in the admin: asha works for alice, and for the clinic sunrise."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.delegations.models import Delegation, Notice
from accounts.delegations.rules import found_clinic, give_delegation, revoke_delegation
from accounts.models import User
from conftest import PASSWORD, LoggedInClient, logged_in
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, errors_of, in_role, main, named_queries
from patients.tests.factories import make_patient

DELEGATIONS, NOTICES, USERS = "/admin/accounts/delegation/", "/admin/accounts/notice/", "/admin/accounts/user/"
ADD, ADD_CLINIC = f"{DELEGATIONS}add/", f"{USERS}add/?clinic=1"
LAST_MANAGER = "A clinic needs a manager. First give another user the role manage, without an end."


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


@pytest.fixture
def records(make_user: Any) -> AdminClient:
    return AdminClient(in_role(make_user("rita", is_staff=True), "Records"))


@pytest.fixture
def asha(make_user: Callable[..., User]) -> User:
    return make_user("asha")


@pytest.fixture
def clinic(asha: User) -> User:
    return found_clinic("Sunrise Clinic", "sunrise", asha)


def change(record: Any) -> str:
    return f"/admin/accounts/{record._meta.model_name}/{record.pk}/change/"


def listed(client: AdminClient, path: str) -> list[int]:
    return [row.pk for row in client.get(path).context["cl"].result_list]


def patients_of(owner: User, delegate: User) -> Any:
    return logged_in(delegate).get("/api/patients/", HTTP_X_ACTING_FOR=owner.username)


def test_what_records_adds_changes_and_revokes_holds_from_the_next_request(
    records: AdminClient, alice: User, asha: User
):
    make_patient(alice, name="Ada")
    assert patients_of(alice, asha).status_code == 403
    assert records.submit(ADD, owner=alice.pk, delegate=asha.pk, role="read", note="holiday").status_code == 302
    delegation = Delegation.objects.get()
    assert [row["name"] for row in patients_of(alice, asha).json()] == ["Ada"]
    assert records.submit(change(delegation), role="write").status_code == 302
    created = logged_in(asha).post("/api/patients/", {"name": "Eve"}, HTTP_X_ACTING_FOR="alice")
    assert created.status_code == 201
    preview = records.act(DELEGATIONS, "revoke", [delegation])
    assert "the delegate can no longer act for the owner" in main(preview.content.decode())
    assert records.confirm(preview).status_code == 302
    assert patients_of(alice, asha).status_code == 403
    assert patients_of(alice, asha).json()["code"] == "not_a_delegate"
    kinds = Notice.objects.filter(user=asha).order_by("pk").values_list("kind", flat=True)
    assert [*kinds] == ["delegation_given", "delegation_changed", "delegation_ended"]
    history = records.page(f"{DELEGATIONS}{delegation.pk}/history/")
    assert "rita" in history
    assert "read: see everything, change nothing" in history


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"owner": ""}, {"owner": ["Choose the owner, whose records the delegate works on."]}),
        ({"delegate": ""}, {"delegate": ["Choose the delegate, who works on the owner's records."]}),
        ({"delegate": "alice"}, {"delegate": ["Name another user: nobody needs a delegation for their own records."]}),
        (
            {"delegate": "sunrise"},
            {"delegate": ["Choose the username of an active user who is not a clinic."]},
        ),
        ({"delegate": "bob"}, {"delegate": ["This user is a delegate already; change that delegation."]}),
        ({"role": ""}, {"role": ["This field is required."]}),
        (
            {"expires_at_0": "2020-01-01", "expires_at_1": "10:00"},
            {"expires_at": ["Choose a time in the future; to end the delegation now, revoke it."]},
        ),
    ],
)
def test_what_the_api_would_refuse_is_reported_beside_the_field(
    records: AdminClient, alice: User, bob: User, asha: User, clinic: User, changes: dict[str, Any], errors: Any
):
    give_delegation(alice, bob, "read", None)
    ids = {user.username: user.pk for user in User.objects.all()}
    sent: dict[str, Any] = {"owner": alice.pk, "delegate": asha.pk, "role": "read"} | {
        k: ids.get(v, v) for k, v in changes.items()
    }
    assert errors_of(records.submit(ADD, **sent)) == errors
    assert Delegation.objects.count() == 2


def test_one_that_has_expired_makes_room_for_another(records: AdminClient, alice: User, asha: User):
    past = timezone.now() - timedelta(days=1)
    expired = Delegation.objects.create(owner=alice, delegate=asha, role="read", expires_at=past)
    assert "expired" in records.page(f"{DELEGATIONS}?state=past")
    assert records.submit(ADD, owner=alice.pk, delegate=asha.pk, role="write").status_code == 302
    expired.refresh_from_db()
    assert expired.revoked_at == past
    assert Delegation.objects.living().get().role == "write"


def test_owner_and_delegate_stay_and_a_past_one_can_only_be_viewed(
    records: AdminClient, alice: User, bob: User, asha: User
):
    delegation = give_delegation(alice, asha, "read", None)
    form = records.form(change(delegation))
    assert not {"owner", "delegate", "revoked_at"} & form.keys()
    assert records.submit(change(delegation), owner=bob.pk, delegate=bob.pk, note="x").status_code == 302
    delegation.refresh_from_db()
    assert (delegation.owner, delegation.delegate, delegation.note) == (alice, asha, "x")
    revoke_delegation(delegation, None)
    answer = records.post(change(delegation), form | {"role": "manage"})
    assert answer.status_code == 409
    assert "This delegation has ended. Add another one instead." in answer.content.decode()
    assert 'name="_save"' not in records.page(change(delegation))
    assert Delegation.objects.get().role == "read"
    assert "has already ended" in records.act(DELEGATIONS, "revoke", [delegation]).content.decode()


def test_the_list_shows_living_ones_and_finds_by_owner_delegate_and_role(
    records: AdminClient, alice: User, bob: User, asha: User
):
    first, second = give_delegation(alice, asha, "read", None), give_delegation(bob, asha, "write", None)
    ended = give_delegation(bob, alice, "read", None)
    revoke_delegation(ended, None)
    found = {
        "": [second, first],
        "?state=past": [ended],
        "?state=all": [ended, second, first],
        "?owner=ALICE": [first],
        "?owner=nobody": [],
        "?delegate=asha": [second, first],
        "?state=all&delegate=alice": [ended],
        "?role=write": [second],
        "?q=alice@example.org": [first],
        "?q=nobody": [],
    }
    for query, delegations in found.items():
        assert listed(records, f"{DELEGATIONS}{query}") == [one.pk for one in delegations], query
    assert records.get(f"{DELEGATIONS}?state=x").status_code == 400
    User.objects.filter(pk=asha.pk).update(is_active=False)
    assert records.page(DELEGATIONS).count("does not work: user inactive") == 2


@pytest.mark.parametrize("rows", [3, 30])
def test_the_lists_take_the_same_queries_however_long_they_are(
    admin: AdminClient, make_user: Any, alice: User, rows: int
):
    for number in range(rows):
        give_delegation(alice, make_user(f"user{number}"), "read", None)
    for path, table in ((DELEGATIONS, "accounts_delegation"), (NOTICES, "accounts_notice")):
        with named_queries() as queries:
            assert admin.page(path).count('class="field-id') >= rows
        assert queries == [*LOGGED_IN, f"select count {table}", f"select {table}"]


def test_the_suggestions_offer_who_can_be_chosen(records: AdminClient, make_user: Any, clinic: User, staff: User):
    make_user("stan", is_active=False)
    make_user("steve")

    def suggested(part: str) -> list[str]:
        return [row["text"] for row in records.get(f"{DELEGATIONS}{part}/", {"term": "s"}).json()["results"]]

    assert suggested("owners") == ["steve", "sunrise"]
    assert suggested("delegates") == ["staff", "steve"]


def test_unread_notices_of_a_user_are_found(admin: AdminClient, alice: User, asha: User):
    give_delegation(alice, asha, "read", None)
    read = Notice.objects.create(user=asha, kind="delegation_given", about={}, read_at=timezone.now())
    unread = Notice.objects.get(user=asha, read_at=None)
    assert listed(admin, f"{NOTICES}?user=asha") == [unread.pk]
    assert {read.pk, unread.pk} <= {*listed(admin, NOTICES)}
    assert "delegation_given" in admin.page(change(unread))


def test_a_clinic_is_added_with_its_first_manager(records: AdminClient, make_user: Any, alice: User, asha: User):
    support = AdminClient(in_role(make_user("sam", is_staff=True), "Support"))
    assert '<a href="add/?clinic=1"' in support.page(USERS)
    page = support.page(ADD_CLINIC)
    assert "<h1>Add clinic</h1>" in page
    assert "created a user" not in page
    assert "created a user" in support.page(f"{USERS}add/")
    form = support.form(ADD_CLINIC)
    assert {*form} & {"email", "password1", "usable_password", "is_staff", "groups"} == set()
    sent: dict[str, Any] = {"name": "Sunrise Clinic", "username": "sunrise"}
    missing = support.submit(ADD_CLINIC, **sent)
    assert errors_of(missing) == {"manager": ["Choose the first manager: nobody logs in to a clinic itself."]}
    taken = support.submit(ADD_CLINIC, **sent | {"username": "Alice"}, manager=asha.pk)
    assert errors_of(taken) == {"username": ["A user with this username already exists."]}
    for username, place in (("self", "username"), ("2024", "username"), ("clinic@example.org", "__all__")):
        refused = support.submit(ADD_CLINIC, **sent | {"username": username}, manager=asha.pk)
        assert errors_of(refused).keys() == {place}
    assert not User.objects.filter(is_clinic=True).exists()
    assert support.submit(ADD_CLINIC, **sent, manager=asha.pk).status_code == 302
    clinic = User.objects.get(username="sunrise")
    assert (clinic.is_clinic, clinic.email, clinic.has_usable_password()) == (True, None, False)
    assert [(one.delegate, one.role) for one in Delegation.objects.filter(owner=clinic)] == [(asha, "manage")]
    assert patients_of(clinic, asha).json() == []
    assert records.get(ADD_CLINIC).status_code == 403


def test_the_form_of_a_clinic_has_no_login_and_no_rights(admin: AdminClient, clinic: User, alice: User):
    assert {*admin.form(change(clinic))} & {"email", "password", "is_staff", "is_superuser", "groups"} == set()
    page = main(admin.page(change(clinic)))
    assert "password" not in page
    assert "Unticking ends the access of all delegates at once." in page
    taken: dict[str, Any] = {"email": "x@example.org", "is_staff": "on", "is_superuser": "on"}
    assert admin.submit(change(clinic), name="Sunset Clinic", **taken).status_code == 302
    clinic.refresh_from_db()
    assert (clinic.name, clinic.email, clinic.is_staff, clinic.is_superuser) == ("Sunset Clinic", None, False, False)
    password = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert admin.get(f"{USERS}{clinic.pk}/password/").status_code == 403
    assert admin.post(f"{USERS}{clinic.pk}/password/", password).status_code == 403
    assert listed(admin, f"{USERS}?is_clinic=yes") == [clinic.pk]
    assert alice.pk in listed(admin, f"{USERS}?is_clinic=no")


@pytest.mark.parametrize("attempt", ["role", "expiry", "revoke", "deactivate", "untick active"])
def test_what_would_leave_a_clinic_without_a_manager_is_refused_with_the_reason(
    admin: AdminClient, clinic: User, asha: User, bob: User, attempt: str
):
    delegation = Delegation.objects.get(owner=clinic)

    def respond() -> Any:
        if attempt == "role":
            return admin.submit(change(delegation), role="write")
        if attempt == "expiry":
            return admin.submit(change(delegation), expires_at_0="2090-01-01", expires_at_1="10:00")
        if attempt == "untick active":
            return admin.submit(change(asha), is_active=None)
        preview = admin.act(
            *((DELEGATIONS, "revoke", [delegation]) if attempt == "revoke" else (USERS, attempt, [asha]))
        )
        return admin.confirm(preview) if 'name="post"' in preview.content.decode() else preview

    refused = respond()
    if attempt == "deactivate":
        assert "is the last manager of a clinic; first make another user its manager" in refused.content.decode()
    elif attempt == "revoke":
        assert "gives a clinic its last manager; first make another user its manager" in refused.content.decode()
    else:
        assert errors_of(refused) == {"__all__": [LAST_MANAGER]}
    delegation.refresh_from_db()
    asha.refresh_from_db()
    assert (delegation.role, delegation.expires_at, delegation.revoked_at, asha.is_active) == (
        "manage", None, None, True,
    )  # fmt: skip
    give_delegation(clinic, bob, "manage", None)
    assert respond().status_code == 302
    assert not Delegation.objects.permanent_managers().filter(delegate=asha).exists()


def test_a_user_with_delegations_cannot_be_deleted(admin: AdminClient, alice: User, asha: User):
    give_delegation(alice, asha, "read", None)
    for user in (alice, asha):
        pages = [admin.page(f"{USERS}{user.pk}/delete/"), admin.act(USERS, "delete_selected", [user]).content.decode()]
        assert all("1 delegation" in main(page) and "Deactivate them instead" in main(page) for page in pages)
        admin.post(f"{USERS}{user.pk}/delete/", {"post": "yes"})
    assert Delegation.objects.count() == 1


def test_a_record_can_belong_to_a_clinic(admin: AdminClient, clinic: User, asha: User, as_alice: LoggedInClient):
    found = admin.get("/admin/patients/patient/owners/", {"term": "sun"}).json()["results"]
    assert found == [{"id": str(clinic.pk), "text": "sunrise"}]
    assert admin.submit("/admin/patients/patient/add/", name="Ada", created_by=clinic.pk).status_code == 302
    assert [row["name"] for row in patients_of(clinic, asha).json()] == ["Ada"]
    assert as_alice.get("/api/patients/").json() == []


def test_the_managers_of_a_clinic_are_not_revoked_together(admin: AdminClient, clinic: User, bob: User):
    give_delegation(clinic, bob, "manage", None)
    both = [*Delegation.objects.filter(owner=clinic)]
    assert 'name="post"' not in admin.act(DELEGATIONS, "revoke", both).content.decode()
    assert admin.confirm(admin.act(DELEGATIONS, "revoke", both[:1])).status_code == 302
    assert [*Delegation.objects.living().filter(owner=clinic)] == both[1:]
    assert "manage: also delete, restore" in admin.page(f"{DELEGATIONS}{both[0].pk}/history/")
