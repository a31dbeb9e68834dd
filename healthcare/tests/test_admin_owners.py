"""The owner of a record that staff add: chosen by username, and fixed afterwards."""

import re
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import pre_save

from accounts.models import User
from conftest import logged_in
from doctors.models import Doctor
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, allow, errors_of, named_queries
from patients.models import Patient
from patients.tests.factories import make_patient

PATIENTS, DOCTORS = "/admin/patients/patient/", "/admin/doctors/doctor/"
REFUSED = {"created_by": ["Choose the username of an active user who is not staff."]}


@pytest.fixture
def clerk(make_user: Any) -> AdminClient:
    """A member of staff who may add records and view no user."""
    return AdminClient(allow(make_user("clerk", is_staff=True), "add_patient", "add_doctor"))


def suggested(client: AdminClient, term: str, path: str = PATIENTS) -> list[str]:
    return [row["text"] for row in client.get(f"{path}owners/", {"term": term}).json()["results"]]


@pytest.mark.parametrize(("path", "model"), [(PATIENTS, Patient), (DOCTORS, Doctor)])
def test_a_record_belongs_to_the_owner_whom_staff_choose(clerk: AdminClient, alice: User, path: str, model: Any):
    assert clerk.submit(f"{path}add/", name="Ada", created_by=alice.pk).status_code == 302
    record = model.objects.get()
    assert (record.created_by, record.version) == (alice, 1)
    assert [row["name"] for row in logged_in(alice).get(f"/api/{model._meta.model_name}s/").json()] == ["Ada"]


def test_the_owner_can_be_typed_where_there_is_no_script(clerk: AdminClient, alice: User):
    page = clerk.page(f"{PATIENTS}add/")
    assert re.search(r'<noscript><input type="text" name="created_by_username"[^>]* aria-label="', page)
    typed = clerk.submit(f"{PATIENTS}add/", name="Ada", created_by_username=" ALICE ")
    assert (typed.status_code, Patient.objects.get().created_by) == (302, alice)
    wrong = clerk.submit(f"{PATIENTS}add/", name="Ada", created_by_username=str(alice.pk))
    assert errors_of(wrong) == REFUSED
    assert f'name="created_by_username" value="{alice.pk}"' in wrong.content.decode()


@pytest.mark.parametrize("kind", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_only_active_users_without_rights_of_staff_can_be_chosen(clerk: AdminClient, make_user: Any, kind: Any):
    other = make_user("alina", **kind)
    make_user("alex")
    assert suggested(clerk, "al") == ["alex"]
    for owner in ({"created_by": other.pk}, {"created_by_username": "alina"}):
        answer = clerk.submit(f"{PATIENTS}add/", name="Ada", **owner)
        assert errors_of(answer) == REFUSED
        assert "alina" not in answer.content.decode().replace('value="alina"', "")
    assert not Patient.objects.exists()


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["", "x", "0", "-1", "9" * 30, "\0", "1e3", "username:", "username:\0", "é"])
def test_no_owner_or_an_impossible_one_is_refused_beside_the_field(clerk: AdminClient, owner: str):
    assert errors_of(clerk.submit(f"{PATIENTS}add/", name="Ada", created_by=owner)).keys() == {"created_by"}
    assert errors_of(clerk.submit(f"{DOCTORS}add/", name="Ada", created_by=owner)).keys() == {"created_by"}
    assert clerk.get(f"{PATIENTS}add/", {"created_by": owner}).status_code == 200


def test_the_suggestions_are_found_by_the_beginning_of_the_username_and_tell_nothing_else(
    clerk: AdminClient, make_user: Any
):
    for name in ("Alice", "alan", "b_l", "bal", "malala"):
        make_user(name, name="Alfred Secret", email=f"al.{name}@example.org")
    answer = clerk.get(f"{PATIENTS}owners/", {"term": "AL"})
    ids = {user.username: str(user.pk) for user in User.objects.all()}
    results = [{"id": ids[name], "text": name} for name in ("alan", "Alice")]
    assert answer.json() == {"results": results, "pagination": {"more": False}}
    assert (suggested(clerk, "b_"), suggested(clerk, "%"), suggested(clerk, "\0")[:1]) == (["b_l"], [], ["alan"])


@pytest.mark.parametrize("users", [10, 60])
def test_the_suggestions_are_bounded_and_take_one_query(clerk: AdminClient, make_user: Any, users: int):
    for number in range(users):
        make_user(f"user{number}")
    clerk.page(f"{PATIENTS}add/")  # reads the permissions' content types
    with named_queries() as queries:
        assert len(suggested(clerk, "user")) == min(users, 20)
    assert queries[:2] == LOGGED_IN
    assert queries[-1] == "select accounts_user"
    assert queries.count("select accounts_user") == 2


def test_the_suggestions_need_the_permission_to_add_records_of_the_model(make_user: Any):
    viewer = allow(make_user("viewer", is_staff=True), "view_patient", "change_patient", "view_user", "add_doctor")
    client = AdminClient(viewer)
    assert client.get(f"{PATIENTS}owners/").status_code == 403
    assert client.get(f"{DOCTORS}owners/").status_code == 200
    assert client.get("/admin/mappings/mapping/owners/").status_code in {302, 403}  # its owner is the patient's


def test_the_owner_is_displayed_and_not_editable_once_the_record_exists(
    staff: User, alice: User, bob: User, clerk: AdminClient
):
    admin, patient = AdminClient(staff), make_patient(alice)
    change = f"{PATIENTS}{patient.pk}/change/"
    page = admin.page(change)
    assert re.search(r"<label>Owner:</label>\s*<div class=\"readonly\"><a [^>]*>alice</a>", page)
    assert 'name="created_by' not in page
    assert admin.submit(change, phone="555", created_by=bob.pk, created_by_username="bob").status_code == 302
    assert Patient.objects.values_list("created_by", "phone").get() == (alice.pk, "555")


def test_the_owner_stays_locked_until_the_record_is_saved(clerk: AdminClient, alice: User):
    """So a deactivation of the owner waits for the record, or comes first and the form is refused."""
    locks: list[bool] = []

    def look(sender: Any, **_: Any) -> None:
        if sender is Patient:
            with connection.cursor() as cursor:
                cursor.execute("SELECT xmax <> 0 FROM accounts_user WHERE id = %s", [alice.pk])
                locks.append(cursor.fetchone()[0])

    pre_save.connect(look)
    try:
        assert clerk.submit(f"{PATIENTS}add/", name="Ada", created_by=alice.pk).status_code == 302
    finally:
        pre_save.disconnect(look)
    assert locks == [True]


@pytest.mark.parametrize(("path", "kind"), [(PATIENTS, "patient"), (DOCTORS, "doctor")])
def test_while_nobody_can_be_the_owner_the_page_says_what_to_do(
    clerk: AdminClient, make_user: Any, path: str, kind: str
):
    hint = f"Nobody can own a {kind} yet."
    make_user("former", is_active=False)
    page = clerk.page(f"{path}add/")
    assert hint in page
    assert "Nobody can own it yet: see the top of the page." in page
    assert "Ask a superuser to add one first" in page
    assert "/admin/accounts/user/add/" not in page
    allow(User.objects.get(username="clerk"), "add_user")
    assert '<a href="/admin/accounts/user/add/">Add one</a> first' in clerk.page(f"{path}add/")
    refused = clerk.submit(f"{path}add/", name="Ada")
    assert hint in refused.content.decode()
    make_user("owner")
    assert hint not in clerk.page(f"{path}add/")
