"""The admin of patients."""

import datetime
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from accounts.delegations.rules import give_delegation, revoke_delegation
from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, allow, errors_of, main, named_queries
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

LIST, ADD = "/admin/patients/patient/", "/admin/patients/patient/add/"


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def change(patient: Patient) -> str:
    return f"{LIST}{patient.pk}/change/"


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_list_does_not_grow_with_its_rows(admin: AdminClient, alice: User, rows: int):
    for _ in range(rows):
        make_patient(alice)
    with named_queries() as queries:
        page = admin.page(LIST)
    assert page.count('class="field-name"') == rows
    assert queries == [*LOGGED_IN, "select count patients_patient", "select patients_patient"]


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_form_does_not_grow_with_the_table(
    admin: AdminClient, alice: User, bob: User, rows: int
):
    for _ in range(rows):
        make_mapping(make_patient(bob), make_doctor(bob))
    patient = make_patient(alice)
    with named_queries() as queries:
        admin.page(change(patient))
    merged = "select patients_patient"  # the records that were merged into this one, whose merges can be undone
    assert queries == [
        *LOGGED_IN, "select patients_patient", "select mappings_mapping", merged, "select accounts_user",
        "select accounts_delegation", "select audit_legalhold",
    ]  # fmt: skip


def test_the_page_says_who_sees_the_patient_in_the_api_as_the_api_does(
    admin: AdminClient, alice: User, bob: User, make_user: Any, as_alice: LoggedInClient
):
    patient = make_patient(alice)
    give_delegation(alice, bob, "write", None, expires_at=datetime.datetime(2090, 5, 1, 12, tzinfo=datetime.UTC))
    revoke_delegation(give_delegation(alice, make_user("carol"), "read", None), None)
    page = main(admin.page(change(patient)))
    assert "alice, owner<br>bob, delegate: write, until 1 May 2090, 12:00:00 UTC<" in page
    assert "carol" not in page
    members = as_alice.get(f"/api/patients/{patient.pk}/audience/").json()
    assert [member["username"] for member in members] == ["alice", "bob"]
    for number in range(20):
        give_delegation(alice, make_user(f"user{number}"), "read", None)
    assert "user17, delegate: read<br>and 2 more: see Delegations<" in main(admin.page(change(patient)))


def test_a_change_keeps_the_owner_and_increments_the_version(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    patient = make_patient(alice)
    answer = admin.submit(change(patient), phone="+91 80 1234", created_by="1", version="9")
    assert answer.status_code == 302
    now = Patient.objects.get()
    assert (now.created_by, now.phone, now.version) == (alice, "+91 80 1234", 2)
    assert now.updated_at > patient.updated_at
    assert as_alice.get(f"/api/patients/{patient.pk}/").json()["phone"] == "+91 80 1234"


def test_submitting_an_unchanged_form_changes_nothing(admin: AdminClient, alice: User):
    patient = make_patient(alice, birth_date=datetime.date(1990, 5, 1), address="Bengaluru")
    before = Patient.objects.values().get()
    with named_queries() as queries:
        assert admin.submit(change(patient)).status_code == 302
    assert Patient.objects.values().get() == before
    assert "update patients_patient" not in queries


def test_an_address_keeps_its_lines(admin: AdminClient, alice: User):
    """A browser sends a carriage return before each line feed, and drops both from an `<input>`."""
    patient = make_patient(alice, address="Storgatan 12\n111 22 Stockholm")
    assert re.search(
        r'<textarea name="address"[^>]*>\s*Storgatan 12\n111 22 Stockholm</textarea>', admin.page(change(patient))
    )
    sent = "Storgatan 12\r\n111 22 Stockholm"
    assert admin.submit(change(patient), address=sent).status_code == 302
    assert (Patient.objects.get().address, Patient.objects.get().version) == (patient.address, 1)
    assert admin.submit(change(patient), address=f"c/o Berg\r\n{sent}").status_code == 302
    assert Patient.objects.get().address == "c/o Berg\nStorgatan 12\n111 22 Stockholm"


def test_a_form_does_not_overwrite_what_the_api_changed_since_it_was_rendered(
    admin: AdminClient, alice: User, as_alice: LoggedInClient
):
    patient = make_patient(alice, phone="111", address="Bengaluru")
    form = admin.form(change(patient))
    as_alice.patch(f"/api/patients/{patient.pk}/", {"phone": "222", "birth_date": "1990-05-01"})
    assert admin.submit(change(patient), form, address="Mysuru").status_code == 302
    now = Patient.objects.get()
    assert (now.phone, now.address, now.version) == ("222", "Mysuru", 3)
    assert (now.birth_date, now.birth_year) == (datetime.date(1990, 5, 1), 1990)


def test_the_year_of_birth_follows_the_date(admin: AdminClient, alice: User):
    patient = make_patient(alice, birth_date=datetime.date(1990, 5, 1))
    assert admin.submit(change(patient), birth_date="1991-05-01").status_code == 302
    assert Patient.objects.get().birth_year == 1991
    assert admin.submit(change(patient), birth_date="").status_code == 302
    assert (Patient.objects.get().birth_date, Patient.objects.get().birth_year) == (None, 1991)


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"name": ""}, {"name": ["This field is required."]}),
        ({"name": "\u200b"}, {"name": ["This field cannot be blank."]}),
        ({"name": "\u0301"}, {"name": ["Enter one line of visible text."]}),
        (
            {"birth_date": "1990-05-01", "birth_year": "1991"},
            {"birth_year": ["This contradicts the date or the year of birth."]},
        ),
        ({"birth_date": "yesterday"}, {"birth_date": ["Enter a valid date."]}),
        ({"birth_date": "1700-01-01"}, {"birth_date": ["Enter a day of the last 150 years."]}),
        ({"birth_year": "3000"}, {"birth_year": ["Enter a year of the last 150 years."]}),
        ({"birth_year": "99999999999999999999"}, {"birth_year": None}),
        ({"gender": "X"}, {"gender": ["Select a valid choice. X is not one of the available choices."]}),
        ({"phone": "none"}, {"phone": None}),
        ({"address": "a\0b"}, {"address": ["Null characters are not allowed."]}),
    ],
)
def test_invalid_input_is_reported_on_the_form(
    admin: AdminClient, alice: User, changes: dict[str, str], errors: dict[str, Any]
):
    sent = {"name": "Ada", "gender": "F", "created_by": alice.pk}
    reported = errors_of(admin.submit(ADD, admin.form(ADD), **{**sent, **changes}))
    assert reported.keys() == errors.keys()
    assert all(messages is None or reported[field] == messages for field, messages in errors.items())
    assert not Patient.objects.exists()


def test_a_birth_day_in_the_future_is_refused(admin: AdminClient, alice: User):
    day = timezone.localdate() + datetime.timedelta(days=2)  # somewhere it is already tomorrow
    form: dict[str, Any] = {"name": "Ada", "gender": "F", "created_by": alice.pk, "birth_date": day.isoformat()}
    reported = errors_of(admin.submit(ADD, **form))
    assert reported == {"birth_date": ["Enter a day of the last 150 years."]}


def test_deleting_a_patient_hides_it(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    patient = make_patient(alice)
    mapping = make_mapping(patient, make_doctor(alice))
    page = admin.page(f"{LIST}{patient.pk}/delete/")
    assert "stays in the database" in page
    assert "/admin/mappings/mapping/" not in main(page)
    assert admin.submit(f"{LIST}{patient.pk}/delete/").status_code == 302
    now = Patient.objects.get()
    assert now.deleted_at is not None
    assert (now.version, Mapping.objects.get()) == (2, mapping)
    assert as_alice.get(f"/api/patients/{patient.pk}/").status_code == 404


def test_deleting_several_patients_hides_them(admin: AdminClient, alice: User):
    gone, remaining = [make_patient(alice, name=name) for name in ("Ann", "Ben")], make_patient(alice)
    make_mapping(gone[0], make_doctor(alice))
    confirmation = admin.act(LIST, "delete_selected", gone).content.decode()
    assert "stay in the database" in confirmation
    assert "/admin/mappings/mapping/" not in main(confirmation)
    with named_queries() as queries:
        assert admin.act(LIST, "delete_selected", gone, post="yes").status_code == 302
    assert "delete patients_patient" not in queries
    assert list(Patient.objects.active()) == [remaining]
    assert (Patient.objects.count(), Mapping.objects.count()) == (3, 1)
    assert LogEntry.objects.count() == 2


def test_the_state_filter_lists_deleted_patients(admin: AdminClient, alice: User):
    make_patient(alice, name="Ann")
    make_patient(alice, name="Ben", deleted_at=timezone.now())
    listed = {
        query: [name for name in ("Ann", "Ben") if name in admin.page(f"{LIST}{query}")]
        for query in ("", "?state=deleted", "?state=all")
    }
    assert listed == {"": ["Ann"], "?state=deleted": ["Ben"], "?state=all": ["Ann", "Ben"]}


def test_a_deleted_patient_can_be_viewed_and_not_changed(admin: AdminClient, alice: User):
    patient = make_patient(alice, deleted_at=timezone.now())
    page = admin.page(change(patient))
    assert 'name="phone"' not in page
    assert "deletelink" not in page
    assert admin.post(change(patient), {"name": "Eve", "gender": "F"}).status_code == 409
    assert admin.post(f"{LIST}{patient.pk}/delete/", {"post": "yes"}).status_code == 403
    again = admin.act(f"{LIST}?state=all", "delete_selected", [patient], post="yes").content.decode()
    assert "John Smith is already deleted." in again
    assert Patient.objects.values("name", "version").get() == {"name": "John Smith", "version": 1}


@pytest.mark.parametrize("term", ["Smi", "A-17", "555", "john@", "alice"])
def test_a_patient_is_found_by(admin: AdminClient, alice: User, bob: User, term: str):
    make_patient(alice, identifier="A-17", phone="555", email="john@example.org")
    make_patient(bob, name="Other")
    page = admin.page(f"{LIST}?q={term}")
    assert "John Smith" in page
    assert "Other" not in page.replace("Others", "")


def test_the_view_permission_alone_allows_no_add_change_or_delete(make_user: Any, alice: User):
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_patient"))
    patient = make_patient(alice)
    assert "John Smith" in viewer.page(LIST)
    assert 'name="name"' not in viewer.page(change(patient))
    assert viewer.get(ADD).status_code == 403
    assert viewer.post(change(patient), {"name": "Eve"}).status_code == 403
    assert viewer.get(f"{LIST}{patient.pk}/delete/").status_code == 403
    assert viewer.act(LIST, "delete_selected", [patient], post="yes").status_code == 403
    assert Patient.objects.active().count() == 1
