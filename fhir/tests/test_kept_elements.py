"""The column `fhir` has the policies, the history, the file and the erasure of its row; records of /api/ lack it."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import DoctorEvent
from doctors.tests.factories import make_doctor
from fhir.tests.test_interactions import send
from healthcare.tests.admin_pages import AdminClient
from patients.merges import merge, unmerge
from patients.models import Patient, PatientEvent
from patients.person_file.tests.reading import read_file
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db
WORD = "quokka"  # found where the column leaks
ASHA = {"resourceType": "Patient", "name": [{"family": "Rao", "given": ["Asha"]}], "maritalStatus": {"text": WORD}}


def create(client: LoggedInClient, **elements: Any) -> Patient:
    answer = send(client, "POST", "/Patient", {**ASHA, **elements})
    assert answer.status_code == 201
    return Patient.objects.get(pk=answer.resource["id"])


def test_decimals_are_given_back_with_their_digits(as_alice: LoggedInClient) -> None:
    weight = '{"url":"http://example.org/weight","valueDecimal":72.50}'
    body = f'{{"resourceType":"Patient","name":[{{"text":"Asha Rao"}}],"extension":[{weight}]}}'
    created: Any = as_alice.generic("POST", "/fhir/Patient", body, content_type="application/fhir+json")
    assert created.status_code == 201
    for path in ("", "/_history/1", "/_history"):
        read: Any = as_alice.get(f"/fhir/Patient/{Patient.objects.get().pk}{path}")
        assert weight in read.content.decode()


def test_no_record_of_the_api_has_it(as_alice: LoggedInClient) -> None:
    patient = create(as_alice)
    assert WORD in patient.fhir
    for path in (
        "", f"{patient.pk}/", "?search=asha", "?search=quokka", f"{patient.pk}/duplicates/",
    ):  # fmt: skip
        answer: Any = as_alice.get(f"/api/patients/{path}")
        text = answer.content.decode()
        assert (answer.status_code, WORD in text, "fhir" in text) == (200, False, False)
    refused = as_alice.patch(f"/api/patients/{patient.pk}/", {"fhir": ""})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "unknown")


def test_a_change_by_the_api_replaces_what_was_sent_of_it_alone(as_alice: LoggedInClient) -> None:
    patient = create(as_alice)
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"phone": "112"}).status_code == 200
    found = send(as_alice, "GET", f"/Patient/{patient.pk}").resource
    assert (found["name"], found["telecom"]) == (ASHA["name"], [{"system": "phone", "value": "112"}])
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "Asha Iyer"}).status_code == 200
    found = send(as_alice, "GET", f"/Patient/{patient.pk}").resource
    assert (found["name"], found["maritalStatus"]) == ([{"text": "Asha Iyer"}], ASHA["maritalStatus"])
    assert send(as_alice, "GET", f"/Patient/{patient.pk}/_history/1").resource["name"] == ASHA["name"]


def test_what_fhir_cannot_say_is_left_alone(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, medical_history="2019 asthma", phone="112")
    assert send(as_alice, "PUT", f"/Patient/{patient.pk}", {**ASHA, "id": str(patient.pk)}).status_code == 200
    patient.refresh_from_db()
    assert (patient.medical_history, patient.phone, patient.name) == ("2019 asthma", "", "Asha Rao")
    doctor = make_doctor(alice, name="Dr. Rao", hospital="City Hospital", experience_since=2001)
    body = {"resourceType": "Practitioner", "id": str(doctor.pk), "name": [{"text": "Dr. Li"}], "gender": "female"}
    assert send(as_alice, "PUT", f"/Practitioner/{doctor.pk}", body).status_code == 200
    doctor.refresh_from_db()
    assert (doctor.name, doctor.hospital, doctor.experience_since) == ("Dr. Li", "City Hospital", 2001)
    assert '"gender":"female"' in DoctorEvent.objects.get(id=doctor.pk, version=2).fhir


def test_its_changes_are_history_and_in_the_file_of_the_person(as_alice: LoggedInClient) -> None:
    patient = create(as_alice)
    body = {**ASHA, "id": str(patient.pk), "maritalStatus": {"text": "numbat"}}
    assert send(as_alice, "PUT", f"/Patient/{patient.pk}", body).status_code == 200
    changes = as_alice.get(f"/api/patients/{patient.pk}/history/").json()[0]["changes"]
    assert [*changes] == ["fhir"]
    assert [WORD in changes["fhir"][0], "numbat" in changes["fhir"][1]] == [True, True]
    patient.refresh_from_db()
    found = read_file(as_alice, patient)
    assert found["patient"]["records"][0]["fhir"] == patient.fhir
    assert found["history"]["changes"][0]["changes"] == changes


def test_the_admin_does_not_let_staff_edit_it(staff: User, as_alice: LoggedInClient) -> None:
    patient = create(as_alice)
    client, path = AdminClient(staff), f"/admin/patients/patient/{patient.pk}/change/"
    assert WORD not in client.page(path)
    assert client.submit(path, phone="112").status_code == 302
    before = patient.fhir
    patient.refresh_from_db()
    assert (patient.phone, patient.fhir) == ("112", before)


def test_a_merge_leaves_it_to_each_record(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice), create(as_alice)
    merge(survivor, duplicate)
    assert [*Patient.objects.order_by("pk").values_list("fhir", flat=True)] == ["", duplicate.fhir]
    unmerge(Patient.objects.get(pk=survivor.pk), Patient.objects.get(pk=duplicate.pk))
    assert [*Patient.objects.order_by("pk").values_list("fhir", flat=True)] == ["", duplicate.fhir]


def test_an_erasure_removes_it_from_the_history_too(as_alice: LoggedInClient) -> None:
    patient = create(as_alice)
    assert PatientEvent.objects.filter(fhir__contains=WORD).exists()
    call_command("erase_patient", str(patient.pk), "--reason", "asked", "--yes")
    assert not Patient.objects.filter(fhir__contains=WORD).exists()
    assert not PatientEvent.objects.filter(fhir__contains=WORD).exists()


def test_the_database_refuses_more_than_64_kib(alice: User) -> None:
    for record in (make_patient(alice), make_doctor(alice)):
        rows = type(record)._default_manager.filter(pk=record.pk)
        assert rows.update(fhir="é" * 32 * 1024) == 1
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(fhir="é" * 32 * 1024 + "x")


def test_a_resource_that_is_too_large_is_refused(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "POST", "/Patient", {**ASHA, "maritalStatus": {"text": "x" * 65_536}})
    assert (answer.status_code, answer.resource["issue"][0]["code"]) == (400, "too-long")
    assert not Patient.objects.exists()


def test_an_error_names_the_element_that_was_sent(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "POST", "/Patient", {**ASHA, "birthDate": "2999-01-01", "address": [{"text": "x" * 501}]})
    assert answer.status_code == 400
    assert {issue["expression"][0] for issue in answer.resource["issue"]} == {
        "Patient.birthDate", "Patient.address[0].text",
    }  # fmt: skip
