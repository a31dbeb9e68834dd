"""What was sent is given back exactly, with what the server adds, for generated resources of R4."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from doctors.serializers import DoctorSerializer
from fhir.json import decode, encode
from fhir.patient import keep_patient, read_patient, write_patient
from fhir.practitioner import keep_practitioner, read_practitioner, write_practitioner
from fhir.structure import check_structure
from fhir.tests.mapped import SEVERAL, columns_of, row_of
from fhir.tests.resources import patients, practitioners
from healthcare.imports.fhir_column import READERS
from patients.serializers import PatientSerializer

MAPPINGS: dict[str, Any] = {
    "Patient": (patients, PatientSerializer, read_patient, keep_patient, write_patient),
    "Practitioner": (practitioners, DoctorSerializer, read_practitioner, keep_practitioner, write_practitioner),
}
NOT_IN_FHIR: dict[str, Any] = {
    "Patient": {"medical_history": ""},
    "Practitioner": {"hospital": "", "experience_since": None},
}
SET_BY_SERVER = {"versionId": "3", "lastUpdated": "2026-11-22T09:30:00.120000Z"}


def with_name(resource: dict[str, Any]) -> dict[str, Any]:
    return {**resource, "name": [*resource.get("name", []), {"text": "Asha Rao"}]}


@pytest.mark.slow
@pytest.mark.parametrize("resource_type", MAPPINGS)
def test_a_resource_is_given_back_as_it_was_sent(resource_type: str):
    resources, serializer_class, read, keep, write = MAPPINGS[resource_type]

    @settings(SEVERAL, max_examples=100)
    @given(resources().map(with_name), st.sampled_from(["", "Asha Iyer"]))
    def check(sent: dict[str, Any], new_name: str) -> None:
        row = row_of(serializer_class, read(sent).values)
        assume(row is not None)  # a death before the birth is refused
        row.fhir = keep(sent, row)
        for server in (None, "11111111-2222-3333-4444-555555555555"):  # of the file that is imported
            assert READERS[type(row)](row.fhir, server) == row.fhir if row.fhir else True
        found = write(row)
        kept_meta = {
            name: value for name, value in sent.get("meta", {}).items() if name.strip("_") not in SET_BY_SERVER
        }
        assert found == {"active": True, **sent, "id": "7", "meta": kept_meta | SET_BY_SERVER}
        assert encode(decode(encode(found))) == encode(found)
        again = row_of(serializer_class, read(found).values)
        assert columns_of(again) == columns_of(row) | NOT_IN_FHIR[resource_type]
        if new_name:
            row.name = new_name
            changed = write(row)
            assert check_structure(resource_type, changed) == []
            assert read(changed).values["name"] == new_name
            assert {**changed, "name": None, "text": None} == {**found, "name": None, "text": None}

    check()
