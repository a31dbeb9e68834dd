"""The database's wall holds alone: every scope of the code answers all rows, and is compiled so."""

from collections.abc import Iterator

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.fastpath import compiled
from healthcare.ownership import OwnedQuerySet
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.views import PatientViewSet


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
    for compilation in (compiled.compile_read, compiled.compile_change):
        compilation.cache_clear()
    yield
    for compilation in (compiled.compile_read, compiled.compile_change):
        compilation.cache_clear()


def test_bob_reads_and_changes_nothing_of_alices(as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    patient = f"/api/patients/{mapping.patient_id}/"
    for path in (patient, f"{patient}doctors/", f"/api/mappings/{mapping.patient_id}/"):
        assert (as_alice.get(path).status_code, as_bob.get(path).status_code) == (200, 404)
    for path in ("/api/patients/", "/api/mappings/", f"/api/doctors/{mapping.doctor_id}/patients/"):
        assert (len(as_alice.get(path).json()), as_bob.get(path).json()) == (1, [])
    assert as_bob.patch(patient, {"name": "Bob's"}).status_code == 404
    assert [*Patient.objects.values_list("name", "version")] == [("John Smith", 1)]


def test_the_scope_is_not_in_what_was_compiled():
    """Else the test above would prove nothing."""
    actions = (("get", "retrieve"), ("patch", "partial_update"))
    read = compiled.compile_read(PatientViewSet, PatientViewSet.get_queryset, actions, "=", False)
    change = compiled.compile_change(PatientViewSet, PatientViewSet.get_queryset, actions, "PATCH", ("name",))
    for one in (read, change):
        assert one is not None
        assert '"created_by_id" = %s' not in one.sql
