"""The admin of doctors."""

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, errors_of, main, named_queries
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

LIST, ADD = "/admin/doctors/doctor/", "/admin/doctors/doctor/add/"


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_list_does_not_grow_with_its_rows(admin: AdminClient, alice: User, rows: int):
    for _ in range(rows):
        make_doctor(alice)
    with named_queries() as queries:
        page = admin.page(LIST)
    assert page.count('class="field-name"') == rows
    assert queries == [*LOGGED_IN, "select count doctors_doctor", "select doctors_doctor"]


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_form_does_not_grow_with_the_table(admin: AdminClient, alice: User, rows: int):
    doctor = make_doctor(alice)
    for _ in range(rows):
        make_mapping(make_patient(alice), doctor)
    with named_queries() as queries:
        admin.page(f"{LIST}{doctor.pk}/change/")
    assert queries == [*LOGGED_IN, "select doctors_doctor"]


def test_another_member_of_staff_changes_a_doctor_and_the_owner_stays(admin: AdminClient, alice: User, make_user):
    assert admin.submit(ADD, name="Dr. Meera Rao", created_by=alice.pk).status_code == 302
    doctor = Doctor.objects.get()
    assert (doctor.created_by, doctor.version) == (alice, 1)
    other = AdminClient(make_user("other", is_staff=True, is_superuser=True))
    assert other.submit(f"{LIST}{doctor.pk}/change/", hospital="City").status_code == 302
    doctor.refresh_from_db()
    assert (doctor.created_by, doctor.version, doctor.hospital) == (alice, 2, "City")


def test_the_years_of_experience_have_a_maximum(admin: AdminClient, alice: User):
    reported = errors_of(admin.submit(ADD, name="Dr. Meera Rao", experience_since="1899", created_by=alice.pk))
    assert reported == {"experience_since": ["Enter a year of the last 100 years."]}


def test_deleting_a_doctor_without_patients_hides_it(admin: AdminClient, alice: User, anonymous: LoggedInClient):
    doctor = make_doctor(alice)
    make_mapping(make_patient(alice), doctor)
    Mapping.objects.all().end()
    assert admin.submit(f"{LIST}{doctor.pk}/delete/").status_code == 302
    assert Doctor.objects.get().deleted_at is not None
    assert anonymous.get(f"/api/doctors/{doctor.pk}/").status_code == 404


def test_a_doctor_with_active_assignments_cannot_be_deleted(admin: AdminClient, alice: User):
    doctor = make_doctor(alice)
    make_mapping(make_patient(alice), doctor)
    why = "Dr. Meera Rao treats patients; end those assignments first."
    assert why in main(admin.page(f"{LIST}{doctor.pk}/delete/"))
    assert why in admin.post(f"{LIST}{doctor.pk}/delete/", {"post": "yes"}).content.decode()
    assert Doctor.objects.get().deleted_at is None


def test_assignments_of_deleted_patients_do_not_prevent_a_deletion(admin: AdminClient, alice: User):
    doctor = make_doctor(alice)
    make_mapping(make_patient(alice), doctor)
    Patient.objects.all().end()
    assert admin.submit(f"{LIST}{doctor.pk}/delete/").status_code == 302
    assert Doctor.objects.get().deleted_at is not None


def test_one_doctor_with_assignments_prevents_a_bulk_deletion(admin: AdminClient, alice: User):
    treating, idle = make_doctor(alice, name="<b>Busy</b>"), make_doctor(alice, name="Idle")
    make_mapping(make_patient(alice), treating)
    for fields in ({}, {"post": "yes"}):
        page = admin.act(LIST, "delete_selected", [treating, idle], **fields).content.decode()
        assert "&lt;b&gt;Busy&lt;/b&gt; treats patients; end those assignments first." in page
        assert "Idle treats" not in page
    assert Doctor.objects.active().count() == 2
    assert admin.act(LIST, "delete_selected", [idle], post="yes").status_code == 302
    assert list(Doctor.objects.active()) == [treating]
    assert Doctor.objects.count() == 2


@pytest.mark.parametrize("term", ["Meera", "cardio", "City", "KA-77", "555", "rao@"])
def test_a_doctor_is_found_by(admin: AdminClient, alice: User, term: str):
    known = {"hospital": "City", "license_number": "KA-77", "phone": "555", "email": "rao@example.org"}
    make_doctor(alice, specialization="Cardiology", **known)
    make_doctor(alice, name="Somebody Else")
    page = admin.page(f"{LIST}?q={term}")
    assert "Dr. Meera Rao" in page
    assert "Somebody Else" not in page
