"""The admin of mappings."""

from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, Page, allow, errors_of, main, named_queries
from mappings import admin_forms
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

LIST, ADD = "/admin/mappings/mapping/", "/admin/mappings/mapping/add/"


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def change(mapping: Mapping) -> str:
    return f"{LIST}{mapping.pk}/change/"


def choices(admin: AdminClient, field: str, term: str = "") -> list[str]:
    query = {"app_label": "mappings", "model_name": "mapping", "field_name": field, "term": term}
    return [row["text"] for row in admin.get(f"/admin/autocomplete/?{urlencode(query)}").json()["results"]]


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_list_does_not_grow_with_its_rows(admin: AdminClient, alice: User, rows: int):
    for _ in range(rows):
        make_mapping(make_patient(alice), make_doctor(alice))
    with named_queries() as queries:
        page = admin.page(LIST)
    assert page.count('class="field-doctor') == rows
    assert queries == [*LOGGED_IN, "select count mappings_mapping", "select mappings_mapping"]


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_forms_does_not_grow_with_the_table(admin: AdminClient, alice: User, rows: int):
    for _ in range(rows):
        mapping = make_mapping(make_patient(alice), make_doctor(alice))
    with named_queries() as adding:
        page = admin.page(ADD)
    with named_queries() as changing:
        admin.page(change(mapping))
    assert adding == LOGGED_IN
    assert changing == [*LOGGED_IN, "select mappings_mapping"]
    assert Page(page).selects == {"patient": 0, "doctor": 0}  # nothing is listed before it is searched for


def test_an_assignment_belongs_to_the_owner_of_its_patient(
    admin: AdminClient, alice: User, bob: User, as_alice: LoggedInClient, as_staff: LoggedInClient
):
    patient, doctor = make_patient(alice), make_doctor(bob)
    assert admin.submit(ADD, patient=patient.pk, doctor=doctor.pk, role="surgeon").status_code == 302
    assert Mapping.objects.get().created_by == alice
    assert [row["role"] for row in as_alice.get("/api/mappings/").json()] == ["surgeon"]
    assert [row["id"] for row in as_alice.get(f"/api/mappings/{patient.pk}/").json()] == [doctor.pk]
    assert as_staff.get("/api/mappings/").json() == []


def test_a_change_keeps_patient_doctor_and_owner(admin: AdminClient, alice: User, bob: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    others = {"patient": make_patient(bob).pk, "doctor": make_doctor(bob).pk, "created_by": bob.pk}
    assert admin.submit(change(mapping), admin.form(change(mapping)), role="nurse", **others).status_code == 302
    now = Mapping.objects.get()
    before = (mapping.patient, mapping.doctor, mapping.created_by, mapping.started_at)
    assert (now.patient, now.doctor, now.created_by, now.started_at) == before
    assert (now.role, now.version) == ("nurse", 2)


def test_a_second_assignment_of_the_same_doctor_is_reported_on_the_form(admin: AdminClient, alice: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    reported = errors_of(admin.submit(ADD, patient=mapping.patient_id, doctor=mapping.doctor_id))
    assert reported == {"doctor": ["This doctor is already assigned to this patient."]}
    assert Mapping.objects.get() == mapping


def test_a_second_primary_doctor_is_reported_on_the_form(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    make_mapping(patient, make_doctor(alice), is_primary=True)
    mapping = make_mapping(patient, make_doctor(alice))
    expected = {"is_primary": ["This patient already has a primary doctor."]}
    assert errors_of(admin.submit(change(mapping), is_primary="on")) == expected
    assert errors_of(admin.submit(ADD, patient=patient.pk, doctor=make_doctor(alice).pk, is_primary="on")) == expected
    assert Mapping.objects.filter(is_primary=True).count() == 1


def test_a_deleted_patient_or_doctor_cannot_be_chosen(admin: AdminClient, alice: User):
    gone = timezone.now()
    patient, doctor = make_patient(alice, deleted_at=gone), make_doctor(alice, deleted_at=gone)
    assert errors_of(admin.submit(ADD, patient=patient.pk, doctor=doctor.pk)).keys() == {"patient", "doctor"}
    assert (choices(admin, "patient"), choices(admin, "doctor")) == ([], [])


@pytest.mark.parametrize("name", ["patient", "doctor"])
def test_who_is_deleted_while_the_form_is_checked_is_reported_beside_the_field(
    admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch, name: str
):
    chosen = {"patient": make_patient(alice), "doctor": make_doctor(alice)}

    def delete(moment: Any) -> None:  # after the choices were found to be active
        type(chosen[name])._default_manager.filter(pk=chosen[name].pk).end()  # type: ignore[attr-defined]

    monkeypatch.setattr(admin_forms, "validate_time_of_care", delete)
    answer = admin.submit(ADD, **{key: record.pk for key, record in chosen.items()})
    assert errors_of(answer) == {name: ["This record has just been deleted."]}
    assert not Mapping.objects.exists()


def test_an_invalid_id_is_reported_on_the_form(admin: AdminClient):
    assert errors_of(admin.submit(ADD, patient="1e9", doctor="9" * 30)).keys() == {"patient", "doctor"}


def test_the_choices_distinguish_people_of_the_same_name(admin: AdminClient, alice: User):
    for identifier in ("A-1", "A-2"):
        make_patient(alice, identifier=identifier, birth_year=1990)
    make_doctor(alice, specialization="Cardiology")
    assert choices(admin, "patient", "smith") == ["John Smith, 1990, A-2", "John Smith, 1990, A-1"]
    assert choices(admin, "patient", "A-1") == ["John Smith, 1990, A-1"]
    assert choices(admin, "doctor", "rao") == ["Dr. Meera Rao, Cardiology"]


@pytest.mark.parametrize("rows", [10, 60])
def test_the_query_count_of_the_choices_does_not_grow_with_their_number(admin: AdminClient, alice: User, rows: int):
    for _ in range(rows):
        make_patient(alice)
    with named_queries() as queries:
        assert len(choices(admin, "patient", "smith")) == min(rows, 20)
    assert queries == [*LOGGED_IN, "select patients_patient"]


def test_deleting_ends_the_assignment(admin: AdminClient, alice: User, as_alice: LoggedInClient):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    assert "John Smith – Dr. Meera Rao" in main(admin.page(f"{LIST}{mapping.pk}/delete/"))
    assert admin.submit(f"{LIST}{mapping.pk}/delete/").status_code == 302
    now = Mapping.objects.get()
    assert (now.ended_at is None, now.version) == (False, 2)
    assert as_alice.get("/api/mappings/").json() == []
    assert (Patient.objects.active().count(), Doctor.objects.active().count()) == (1, 1)


def test_deleting_several_assignments_ends_them_and_the_state_filter_lists_them(admin: AdminClient, alice: User):
    ended, remaining = [make_mapping(make_patient(alice, name=name), make_doctor(alice)) for name in ("Ann", "Ben")]
    assert admin.act(LIST, "delete_selected", [ended], post="yes").status_code == 302
    assert list(Mapping.objects.active()) == [remaining]
    assert Mapping.objects.count() == 2
    listed = {
        query: [name for name in ("Ann", "Ben") if f">{name}<" in main(admin.page(f"{LIST}{query}"))]
        for query in ("", "?state=ended", "?state=all")
    }
    assert listed == {"": ["Ben"], "?state=ended": ["Ann"], "?state=all": ["Ann", "Ben"]}
    assert admin.post(change(ended), {"role": "nurse"}).status_code == 409


def test_the_choices_require_the_view_permission(make_user, alice: User):
    make_patient(alice)
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), "add_mapping", "view_doctor"))
    query = {"app_label": "mappings", "model_name": "mapping", "field_name": "patient"}
    assert clerk.get(f"/admin/autocomplete/?{urlencode(query)}").status_code == 403
    assert choices(clerk, "doctor") == []
