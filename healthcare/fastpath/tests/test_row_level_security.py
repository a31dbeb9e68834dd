"""Row-level security protects by itself: here every scope returns all rows, and the fast path compiles these scopes."""

from typing import Any

import pytest
from django.urls import path

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from fhir.views import PatientFhirViewSet
from healthcare import coverage
from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.views import FastActions
from healthcare.ownership import OwnedQuerySet
from mappings.tests.factories import make_mapping
from mappings.views import DoctorPatientsViewSet, MappingViewSet, PatientDoctorsViewSet
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

LIST, DETAIL = {"get": "list", "post": "create"}, {"get": "retrieve", "patch": "partial_update"}


@pytest.fixture(autouse=True)
def scopes_return_every_row(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    known_parameters()
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, owner: queryset.all())
    monkeypatch.setitem(coverage._members, OwnedQuerySet, coverage.code_of(OwnedQuerySet))  # else a patch is noticed
    settings.ROOT_URLCONF = (  # views that have compiled nothing yet
        path("api/patients/", PatientViewSet.as_view(dict(LIST)), name="patient-list"),
        path("api/patients/<int:pk>/", PatientViewSet.as_view(dict(DETAIL)), name="patient-detail"),
        path("api/patients/<int:pk>/doctors/", PatientDoctorsViewSet.as_view({"get": "list"})),
        path("api/mappings/", MappingViewSet.as_view({"get": "list"})),
        path("fhir/Patient", PatientFhirViewSet.as_view({"get": "list"})),
        path("fhir/Patient/<int:pk>", PatientFhirViewSet.as_view({"get": "retrieve"})),
        path("api/doctors/<int:pk>/patients/", DoctorPatientsViewSet.as_view({"get": "list"})),
    )


def test_an_outsider_reads_and_changes_nothing(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    patient = f"/api/patients/{mapping.patient_id}/"
    for url in (patient, f"{patient}?fields=name", f"{patient}doctors/", f"/fhir/Patient/{mapping.patient_id}"):
        answer = as_alice.get(url)
        assert (answer.status_code, answer.wsgi_request.served_by) == (200, "fast")  # type: ignore[attr-defined]
        assert as_bob.get(url).status_code == 404
    for url in ("/api/patients/", "/api/patients/?gender=M", "/api/patients/?include=doctors", "/api/mappings/",
                f"/api/doctors/{mapping.doctor_id}/patients/"):  # fmt: skip
        assert (len(as_alice.get(url).json()), as_bob.get(url).json()) == (1, [])
    for url in ("/fhir/Patient", "/fhir/Patient?gender=male", "/fhir/Patient?name=smith"):
        answer = as_alice.get(url)
        assert (len(answer.json()["entry"]), answer.wsgi_request.served_by) == (1, "fast")  # type: ignore[attr-defined]
        assert "entry" not in as_bob.get(url).json()
    for headers in ({}, {"If-Match": "*"}, {"If-Match": as_alice.get(patient)["ETag"]}):
        assert as_bob.patch(patient, {"name": "Bob's"}, headers=headers).status_code == 404
    assert [*Patient.objects.values_list("name", "version")] == [("John Smith", 1)]


def test_the_compiled_statements_have_no_scope():
    """Otherwise the test above would prove nothing."""
    for actions in (LIST, DETAIL):
        for action in FastActions(PatientViewSet, actions, {}).by_method.values():
            if action.action == "retrieve":
                compiled = action.compile_record(action.read_selection({}))  # type: ignore[attr-defined]
            elif action.action == "partial_update":
                compiled = action.compile_update(("name",), False)  # type: ignore[attr-defined]
            else:
                continue
            assert '"created_by_id" =' not in compiled.fragment.sql
