"""The doctors of a patient on the patient's form in the admin."""

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient, Page, allow, named_queries
from mappings.models import Mapping
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

ASSIGNED = "This doctor is already assigned to this patient."
PRIMARY = "This patient already has a primary doctor."


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def change(patient: Patient) -> str:
    return f"/admin/patients/patient/{patient.pk}/change/"


def row(doctor: Doctor | None, number: int = 0, **cells: Any) -> dict[str, Any]:
    """The inputs of a new assignment."""
    sent = {"doctor": doctor.pk if doctor else "x", "role": "", "reason": "", **cells}
    started = {f"mappings-{number}-started_at_0": "2026-01-01", f"mappings-{number}-started_at_1": "10:00"}
    total = {"mappings-TOTAL_FORMS": str(number + 1), "mappings-INITIAL_FORMS": "0"}
    return total | started | {f"mappings-{number}-{name}": value for name, value in sent.items()}


def row_errors(answer: Any) -> list[dict[str, list[str]]]:
    assert answer.status_code == 200
    [formset] = answer.context["inline_admin_formsets"]
    return [dict(errors) for errors in formset.formset.errors]


def test_active_and_past_assignments_are_listed_with_links(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    past = make_past_mapping(patient, make_doctor(alice, name="Dr. Past"), role="surgeon")
    active = make_mapping(patient, make_doctor(alice, specialization="Cardiology"), is_primary=True)
    make_mapping(make_patient(alice), make_doctor(alice, name="Dr. Other"))
    page = admin.page(change(patient))
    for text in ("Dr. Meera Rao, Cardiology", "Dr. Past", "surgeon", ">Active<", ">Ended<", ">Yes<", ">No<"):
        assert text in page, text
    assert "Dr. Other" not in page
    assert f'href="/admin/mappings/mapping/end/?id={active.pk}"' in page
    assert f"/admin/mappings/mapping/end/?id={past.pk}" not in page
    assert f'href="/admin/mappings/mapping/{past.pk}/change/"' in page
    assert f'href="/admin/mappings/mapping/?patient={patient.pk}&amp;state=all"' in page
    assert admin.get(f"/admin/mappings/mapping/?patient={patient.pk}&state=all").status_code == 200


@pytest.mark.parametrize("assignments", [2, 30])
def test_the_list_of_the_form_is_bounded_and_its_queries_do_not_grow(admin: AdminClient, alice: User, assignments: int):
    patient = make_patient(alice)
    for number in range(assignments):
        make_past_mapping(patient, make_doctor(alice, name=f"Dr. {number:03}"))
    with named_queries() as queries:
        page = admin.page(change(patient))
    assert page.count('class="listed-link">View') == min(assignments, 20)
    assert ("The latest 20 are shown." in page) == (assignments > 20)
    assert (f"Dr. {assignments - 1:03}" in page, "Dr. 000" in page) == (True, assignments <= 20)
    assert queries.count("select mappings_mapping") == 1
    assert "select doctors_doctor" not in queries


def test_a_doctor_is_assigned_on_the_form_of_the_patient(admin: AdminClient, alice: User, bob: User):
    patient, doctor = make_patient(alice), make_doctor(bob)
    answer = admin.submit(change(patient), None, **row(doctor, role="surgeon", is_primary="on"), phone="555")
    assert answer.status_code == 302
    mapping = Mapping.objects.get()
    assert (mapping.patient, mapping.doctor, mapping.created_by) == (patient, doctor, alice)
    assert (mapping.role, mapping.is_primary, Patient.objects.get().phone) == ("surgeon", True, "555")
    log = admin.page(f"/admin/patients/patient/{patient.pk}/history/")
    assert "Dr. Meera Rao" not in log


def test_a_doctor_is_assigned_while_the_patient_is_added(admin: AdminClient, alice: User):
    sent = row(make_doctor(alice)) | {"name": "Ada", "created_by": alice.pk}
    assert admin.submit("/admin/patients/patient/add/", None, **sent).status_code == 302
    assert Mapping.objects.get().created_by == Patient.objects.get().created_by == alice


def test_an_untouched_row_assigns_nobody(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    assert admin.submit(change(patient), phone="555").status_code == 302
    assert not Mapping.objects.exists()


def test_errors_stand_beside_the_fields_of_the_row_and_nothing_is_saved(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    mapping = make_mapping(patient, make_doctor(alice), is_primary=True)
    other, gone = make_doctor(alice), make_doctor(alice, deleted_at=timezone.now())
    path = change(patient)
    refused: list[tuple[dict[str, Any], dict[str, list[str]]]] = [
        (row(mapping.doctor), {"doctor": [ASSIGNED]}),
        (row(other, is_primary="on"), {"is_primary": [PRIMARY]}),
        (row(other, started_at_0="2999-01-01"), {"started_at": ["Write a time that is not in the future."]}),
        (row(other, started_at_0="0001-01-01"), {"started_at": ["Write a time that is not before 1850."]}),
    ]
    for sent, errors in refused:
        answer = admin.submit(path, None, **{"mappings-0-role": "x", **sent, "phone": "555"})
        assert row_errors(answer) == [errors]
        assert errors.popitem()[1][0] in answer.content.decode()
    assert row_errors(admin.submit(path, None, **row(gone)))[0].keys() == {"doctor"}
    assert row_errors(admin.submit(path, None, **row(None)))[0].keys() == {"doctor"}
    assert (Mapping.objects.get(), Patient.objects.get().phone) == (mapping, "")


def test_a_doctor_or_a_primary_doctor_twice_in_one_request_is_refused(admin: AdminClient, alice: User):
    patient, one, two = make_patient(alice), make_doctor(alice), make_doctor(alice)
    same = admin.submit(change(patient), None, **row(one) | row(one, 1))
    assert row_errors(same) == [{}, {"doctor": [ASSIGNED]}]
    primaries = {"mappings-0-is_primary": "on", "mappings-1-is_primary": "on"}
    assert row_errors(admin.submit(change(patient), None, **row(one) | row(two, 1) | primaries)) == [
        {}, {"is_primary": [PRIMARY]},
    ]  # fmt: skip
    assert not Mapping.objects.exists()
    assert admin.submit(change(patient), None, **row(one) | row(two, 1)).status_code == 302
    assert Mapping.objects.count() == 2


def test_at_most_twenty_doctors_are_assigned_in_one_request(admin: AdminClient, alice: User):
    """Each form costs time, also an empty one, and their number comes from the request."""
    patient = make_patient(alice)
    answer = admin.submit(change(patient), None, **{"mappings-TOTAL_FORMS": "1000000000", "phone": "555"})
    [formset] = answer.context["inline_admin_formsets"]
    assert len(formset.formset.forms) == 20
    assert "Please submit at most 20 forms." in answer.content.decode()
    assert Patient.objects.get(pk=patient.pk).phone != "555"
    assert admin.submit(change(patient), None, **{"mappings-TOTAL_FORMS": "20"}).status_code == 302


@pytest.mark.parametrize("broken", [{"mappings-TOTAL_FORMS": "x"}, {"mappings-TOTAL_FORMS": "99999999"}])
def test_a_broken_form_is_no_error_of_the_server(admin: AdminClient, alice: User, broken: dict[str, Any]):
    assert admin.submit(change(make_patient(alice)), None, **broken).status_code == 200


def test_assigning_ending_and_viewing_take_the_permissions_of_assignments(make_user: Any, alice: User):
    patient, other = make_patient(alice), make_doctor(alice)
    mapping = make_mapping(patient, make_doctor(alice, name="Dr. Seen"))
    path = change(patient)
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), "view_patient", "change_patient", "view_doctor"))
    assert "Dr. Seen" not in clerk.page(path)
    assert clerk.submit(path, None, **row(other)).status_code == 302
    assert Mapping.objects.count() == 1
    viewer = allow(make_user("viewer", is_staff=True), "view_patient", "change_patient", "view_doctor", "view_mapping")
    page = AdminClient(viewer).page(path)
    assert ("Dr. Seen" in page, f"/end/?id={mapping.pk}" in page, "mappings-0-doctor" in page) == (True, False, False)
    adder = AdminClient(allow(viewer, "add_mapping", "end_mapping"))
    page = adder.page(path)
    assert (f"/end/?id={mapping.pk}" in page, "mappings-0-doctor" in page) == (True, True)
    assert adder.submit(path, None, **row(other)).status_code == 302
    assert Mapping.objects.count() == 2
    blind = AdminClient(allow(make_user("blind", is_staff=True), "view_patient", "change_patient", "add_mapping"))
    assert row_errors(blind.submit(path, None, **row(make_doctor(alice))))[0].keys() == {"doctor"}


def test_a_page_with_the_doctors_is_recorded_as_a_read_of_the_patient_alone(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    make_mapping(patient, make_doctor(alice))
    admin.page(change(patient))
    assert AccessLog.objects.latest("id").patient_ids == [patient.pk]
    assert Page(admin.page(change(patient))).blocked == []
