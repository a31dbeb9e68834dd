"""How doctors become R4 Practitioners, and back: docs/fhir.md."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from fhir.elements import expression_of
from fhir.exceptions import Invalid
from fhir.json import encode
from fhir.practitioner import keep_practitioner, read_practitioner, write_practitioner
from fhir.structure import check_structure
from fhir.tests.mapped import AT, LINES, SEVERAL, accepted_row, columns_of, row_of

BODIES = st.fixed_dictionaries(
    {"name": LINES},
    optional={
        "specialization": LINES,
        "license_number": LINES,
        "phone": st.sampled_from(["", "+91 80 5550 0100"]),
        "email": st.sampled_from(["", "a@example.org"]),
        "hospital": LINES,
        "experience_years": st.integers(0, 50),
    },
)
LICENSE_TYPE = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v2-0203",
            "code": "MD",
            "display": "Medical License number",
        }
    ]
}

X = {"text": "x"}


def resource(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Practitioner", "name": [{"text": "Dr. Rao"}], **elements}


@SEVERAL
@given(BODIES)
def test_every_row_is_a_valid_practitioner_that_reads_as_the_same_row(body: Any):
    row = accepted_row(DoctorSerializer, body)
    sent = write_practitioner(row)
    assert check_structure("Practitioner", sent) == []
    again = row_of(DoctorSerializer, read_practitioner(sent).values)
    assert again is not None
    again.hospital, again.experience_since = row.hospital, row.experience_since
    assert columns_of(again) == columns_of(row)
    assert keep_practitioner(sent, again) == ""


def test_a_row_with_every_field_is_written_in_the_order_of_r4():
    row = Doctor(
        id=4, version=3, updated_at=AT, name="Dr. Rao", specialization="Cardiology", license_number="KMC 1",
        phone="112", email="rao@example.org", hospital="City Hospital", experience_since=2001,
    )  # fmt: skip
    assert encode(write_practitioner(row), indent=True) == encode(
        {
            "resourceType": "Practitioner",
            "id": "4",
            "meta": {"versionId": "3", "lastUpdated": "2026-11-22T09:30:00.120000Z"},
            "identifier": [{"type": LICENSE_TYPE, "value": "KMC 1"}],
            "active": True,
            "name": [{"text": "Dr. Rao"}],
            "telecom": [{"system": "phone", "value": "112"}, {"system": "email", "value": "rao@example.org"}],
            "qualification": [{"code": {"text": "Cardiology"}}],
        },
        indent=True,
    )


@pytest.mark.parametrize(
    ("elements", "expected", "source"),
    [
        ({"identifier": [{"system": "urn:x:npi", "value": "1"}]}, "1", "identifier[0].value"),
        (
            {"identifier": [{"value": "1"}], "qualification": [{"code": X, "identifier": [{"value": "2"}]}]},
            "2",
            "qualification[0].identifier[0].value",
        ),
        (
            {
                "identifier": [{"value": "1"}, {"type": LICENSE_TYPE, "value": "3"}],
                "qualification": [{"code": X, "identifier": [{"value": "2"}]}],
            },
            "3",
            "identifier[1].value",
        ),
        ({"identifier": [{"value": "1", "use": "old"}, {"value": "x" * 101}]}, "", ""),
    ],
)  # fmt: skip
def test_the_license_number_is_the_best_identifier(elements: Any, expected: str, source: str):
    incoming = read_practitioner(resource(**elements))
    assert incoming.values["license_number"] == expected
    assert expression_of(incoming, "/license_number") == "Practitioner" + (f".{source}" if source else "")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([{"text": "Cardiology", "coding": [{"display": "x"}]}], "Cardiology"),
        ([{"coding": [{"code": "394579002"}, {"display": "Cardiology"}]}], "Cardiology"),
        ([{"coding": [{"code": "1"}]}, {"text": "Surgery"}], "Surgery"),
        ([{"text": "x" * 201}], ""),
    ],
)
def test_the_specialization_is_the_first_qualification_in_words(codes: Any, expected: str):
    found = read_practitioner(resource(qualification=[{"code": code} for code in codes]))
    assert found.values["specialization"] == expected


def test_what_fhir_cannot_say_is_no_value_of_a_practitioner():
    assert read_practitioner(resource()).values == {
        "name": "Dr. Rao", "specialization": "", "license_number": "", "phone": "", "email": "",
    }  # fmt: skip


def test_what_was_sent_is_given_back_until_the_record_changes():
    sent = resource(
        identifier=[{"system": "urn:x:npi", "value": "1"}, {"system": "urn:x:other", "value": "2"}],
        qualification=[
            {"code": {"text": "Cardiology"}, "issuer": {"display": "KMC"}}, {"code": {"text": "Surgery"}},
        ],
        gender="female",
    )  # fmt: skip
    row = row_of(DoctorSerializer, read_practitioner(sent).values)
    row.fhir = keep_practitioner(sent, row)
    assert {name: write_practitioner(row)[name] for name in sent} == sent
    row.hospital = "City Hospital"
    assert {name: write_practitioner(row)[name] for name in sent} == sent
    row.specialization = "Oncology"
    found = write_practitioner(row)
    assert found["identifier"] == [{"type": LICENSE_TYPE, "value": "1"}, sent["identifier"][1]]
    assert found["qualification"] == [{"code": {"text": "Oncology"}}, sent["qualification"][1]]
    assert found["gender"] == "female"


def test_a_practitioner_without_a_name_is_refused():
    with pytest.raises(Invalid) as refused:
        read_practitioner({"resourceType": "Practitioner"})
    assert [issue.expression for issue in refused.value.issues] == ["Practitioner.name"]
