"""How patients become R4 Patients, and back: docs/fhir.md."""

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fhir.elements import expression_of
from fhir.exceptions import Invalid
from fhir.json import decode, encode
from fhir.patient import keep_patient, read_patient, write_patient
from fhir.structure import check_structure
from fhir.tests.mapped import AT, LINES, SEVERAL, TEXTS, accepted_row, columns_of, row_of
from patients.models import Patient
from patients.serializers import PatientSerializer

SET_BY_SERVER = {"id": "7", "meta": {"versionId": "3", "lastUpdated": "2026-11-22T09:30:00.120000Z"}}
NOT_IN_FHIR = {"medical_history"}
SYSTEMS = st.one_of(LINES, st.sampled_from(["https://uidai.gov.in", "urn:oid:1.2.3", "Passport: India", "old", "x:é"]))
PHONES = st.sampled_from(["", "+91 80 5550 0100", "１２３", "tel:+1-202-555-0100", "(0) 12/34 ext. 5", "7" * 40])
DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2020, 12, 31)).map(str)
BODIES = st.fixed_dictionaries(
    {"name": LINES},
    optional={
        "gender": st.sampled_from("MFOU"),
        "birth_date": st.one_of(st.none(), DAYS),
        "birth_year": st.integers(1900, 2020),
        "deceased": st.sampled_from([None, False, True]),
        "deceased_on": st.one_of(st.none(), DAYS),
        "identifier": LINES,
        "identifiers": st.lists(st.fixed_dictionaries({"system": SYSTEMS, "value": LINES}), max_size=4),
        "phone": PHONES,
        "alternate_phone": PHONES,
        "email": st.sampled_from(["", "a@example.org", "ü@exämple.org"]),
        "address": LINES.map("MG Road\nBengaluru {}".format),
        "language": st.sampled_from(["", "kn", "pt-BR", "x-klingon"]),
        "contacts": st.lists(
            st.fixed_dictionaries({"name": LINES}, optional={"relationship": LINES, "phone": PHONES}), max_size=3
        ),
        "medical_history": TEXTS,
    },
)


def patient(**fields: Any) -> Patient:
    return Patient(**{"id": 7, "version": 3, "updated_at": AT, "name": "Asha Rao", **fields})


def resource(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "name": [{"text": "Asha Rao"}], **elements}


def stored(sent: dict[str, Any], **others: Any) -> Patient:
    """The row of a resource that was sent."""
    assert check_structure("Patient", sent) == []
    row = row_of(PatientSerializer, read_patient(sent).values)
    assert row is not None
    row.fhir = keep_patient(sent, row, **others)
    return row  # type: ignore[no-any-return]


def read(**elements: Any) -> dict[str, Any]:
    return read_patient(resource(**elements)).values


def written(row: Any, **others: Any) -> dict[str, Any]:
    """The elements of a row beside those that every one has."""
    found = write_patient(row, **others)
    assert check_structure("Patient", found) == []
    return {name: value for name, value in found.items() if name not in {"resourceType", "id", "meta", "active"}}


@SEVERAL
@given(BODIES)
def test_every_row_is_a_valid_patient_that_reads_as_the_same_row(body: Any):
    row = accepted_row(PatientSerializer, body)
    assume(row is not None)  # what contradicts each other is refused
    sent = write_patient(row)
    assert check_structure("Patient", sent) == []
    again = row_of(PatientSerializer, read_patient(sent).values)
    assert again is not None
    again.medical_history = row.medical_history
    assert columns_of(again) == columns_of(row)
    assert keep_patient(sent, again) == ""
    assert decode(encode(sent)) == sent


def test_a_row_with_every_field_is_written_in_the_order_of_r4():
    row = patient(
        gender="F", birth_date=datetime.date(1992, 3, 3), birth_year=1992, deceased=True,
        deceased_on=datetime.date(2020, 5, 1), identifier="A-17", phone="+91 80 5550 0100", alternate_phone="112",
        identifiers=[{"system": "https://uidai.gov.in", "value": "2345"}, {"system": "passport", "value": "P1"}],
        email="asha@example.org", address="MG Road\nBengaluru", language="kn", medical_history="2019 asthma",
        contacts=[
            {"name": "Mary", "relationship": "wife", "phone": "112"}, {"name": "Ben", "relationship": "", "phone": ""},
        ],
    )  # fmt: skip
    assert encode(write_patient(row, practitioner=(4, "Dr. Rao")), indent=True) == encode(
        {
            "resourceType": "Patient",
            **SET_BY_SERVER,
            "identifier": [
                {"use": "usual", "value": "A-17"},
                {"system": "https://uidai.gov.in", "value": "2345"},
                {"type": {"text": "passport"}, "value": "P1"},
            ],
            "active": True,
            "name": [{"text": "Asha Rao"}],
            "telecom": [
                {"system": "phone", "value": "+91 80 5550 0100"},
                {"system": "phone", "value": "112"},
                {"system": "email", "value": "asha@example.org"},
            ],
            "gender": "female",
            "birthDate": "1992-03-03",
            "deceasedDateTime": "2020-05-01",
            "address": [{"text": "MG Road\nBengaluru"}],
            "contact": [
                {
                    "relationship": [{"text": "wife"}],
                    "name": {"text": "Mary"},
                    "telecom": [{"system": "phone", "value": "112"}],
                },
                {"name": {"text": "Ben"}},
            ],
            "communication": [
                {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "kn"}]}, "preferred": True}
            ],
            "generalPractitioner": [{"reference": "Practitioner/4", "display": "Dr. Rao"}],
        },
        indent=True,
    )


def test_a_row_with_a_name_alone_has_nothing_else():
    assert write_patient(patient()) == {
        "resourceType": "Patient",
        **SET_BY_SERVER,
        "active": True,
        "name": [{"text": "Asha Rao"}],
    }


@pytest.mark.parametrize(
    ("names", "expected", "source"),
    [
        ([{"text": "Asha Rao", "family": "R"}], "Asha Rao", "Patient.name[0].text"),
        (
            [{"prefix": ["Dr."], "given": ["Asha", "K."], "family": "Rao", "suffix": ["MD"]}],
            "Dr. Asha K. Rao MD",
            "Patient.name[0]",
        ),
        ([{"text": "Old", "use": "old"}, {"text": "Plain"}], "Plain", "Patient.name[1].text"),
        ([{"text": "Plain"}, {"text": "Usual", "use": "usual"}], "Usual", "Patient.name[1].text"),
        (
            [{"text": "Usual", "use": "usual"}, {"family": "Official", "use": "official"}],
            "Official",
            "Patient.name[1]",
        ),
        ([{"text": "Maiden", "use": "maiden"}], "Maiden", "Patient.name[0].text"),
        ([{"text": " Asha\r\n Rao\t"}], "Asha Rao", "Patient.name[0].text"),
        ([{"text": "\u200b", "family": "Rao"}], "Rao", "Patient.name[0]"),
    ],
)
def test_the_name_of_a_record_is_the_official_one(names: Any, expected: str, source: str):
    incoming = read_patient(resource(name=names))
    assert (incoming.values["name"], expression_of(incoming, "/name")) == (expected, source)


@pytest.mark.parametrize("names", [[], [{"use": "official"}], [{"text": "\u200b"}]])
def test_a_patient_without_a_name_is_refused(names: Any):
    with pytest.raises(Invalid) as refused:
        read_patient(resource(name=names))
    assert [(issue.code, issue.expression) for issue in refused.value.issues] == [("required", "Patient.name")]
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("elements", "values"),
    [
        ({"gender": "male"}, {"gender": "male"}),
        ({}, {"gender": "unknown", "birth_date": None, "birth_year": None, "deceased": None, "deceased_on": None}),
        ({"birthDate": "1992"}, {"birth_date": None, "birth_year": 1992}),
        ({"birthDate": "1992-03"}, {"birth_date": None, "birth_year": 1992}),
        ({"birthDate": "1992-03-03"}, {"birth_date": "1992-03-03", "birth_year": 1992}),
        ({"deceasedBoolean": False}, {"deceased": False, "deceased_on": None}),
        ({"deceasedBoolean": True}, {"deceased": True, "deceased_on": None}),
        ({"deceasedDateTime": "2020"}, {"deceased": True, "deceased_on": None}),
        ({"deceasedDateTime": "2020-05-01"}, {"deceased": True, "deceased_on": "2020-05-01"}),
        # The date as it was written, which was the 30th of April in UTC.
        ({"deceasedDateTime": "2020-05-01T01:00:00+05:30"}, {"deceased": True, "deceased_on": "2020-05-01"}),
    ],
)
def test_gender_birth_and_death_are_read(elements: Any, values: Any):
    found = read(**elements)
    assert {name: found[name] for name in values} == values


def test_numbers_with_a_system_are_those_of_others():
    found = read(
        identifier=[
            {"value": " 1 ", "use": "old"},
            {"system": "urn:oid:1.2", "value": "2"},
            {"type": {"text": "Passport"}, "value": "3"},
            {"type": {"coding": [{"code": "MR"}]}, "value": "4"},
            {"value": "5"},
            {"system": "urn:oid:1.2", "value": "2", "use": "official"},
            {"system": "a|b", "value": "6"},
            {"system": "urn:oid:1.2"},
        ]
    )
    assert found["identifier"] == "4"
    assert found["identifiers"] == [{"system": "urn:oid:1.2", "value": "2"}, {"system": "Passport", "value": "3"}]


def test_more_identifiers_than_a_row_has_are_kept():
    sent = resource(identifier=[{"system": "urn:oid:1.2", "value": f"{number}"} for number in range(25)])
    row = stored(sent)
    assert len(row.identifiers) == 20
    assert written(row)["identifier"] == sent["identifier"]
    row.identifiers = [{"system": "urn:oid:1.2", "value": "new"}]
    assert [one["value"] for one in written(row)["identifier"]] == ["new", "20", "21", "22", "23", "24"]


@pytest.mark.parametrize(
    ("telecom", "expected"),
    [
        ([("phone", "1"), ("phone", "2"), ("phone", "3"), ("email", "a@b.co"), ("email", "c@b.co")], "1 2 a@b.co"),
        ([("phone", "call me"), ("phone", "2"), ("fax", "3"), ("sms", "4")], "2 - -"),
        ([("phone", "1", {"use": "old"}), ("phone", "2", {"rank": 2}), ("phone", "3", {"rank": 1})], "3 2 -"),
        ([("phone", "2", {"rank": 2})], "- 2 -"),
        ([("email", "no e-mail"), ("email", "a@b.co")], "- - a@b.co"),
        ([("email", "a@b.co", {"use": "old"})], "- - -"),
    ],
)
def test_phones_and_an_e_mail_are_read_by_their_rank(telecom: Any, expected: str):
    points = [{"system": system, "value": value, **dict(*more)} for system, value, *more in telecom]
    found = read(telecom=points)
    assert " ".join(found[name] or "-" for name in ("phone", "alternate_phone", "email")) == expected


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([{"text": "MG Road\nBengaluru", "city": "x"}], "MG Road\nBengaluru"),
        (
            [{"country": "I", "line": ["1 MG Road", "Flat 2"], "city": "B", "district": "D", "postalCode": "5"}],
            "1 MG Road, Flat 2, B, D, 5, I",
        ),
        ([{"text": "old", "use": "old"}, {"use": "home"}, {"city": "Mysuru"}, {"text": "x"}], "Mysuru"),
    ],
)  # fmt: skip
def test_the_first_address_in_use_is_read(addresses: Any, expected: str):
    assert read(address=addresses)["address"] == expected


def test_contacts_with_a_name_are_read():
    incoming = read_patient(
        resource(
            contact=[
                {"organization": {"display": "Clinic"}},
                {
                    "relationship": [{"coding": [{"code": "N"}, {"display": "next of kin"}]}, {"text": "wife"}],
                    "name": {"given": ["Mary"], "family": "Smith"},
                    "telecom": [{"system": "email", "value": "a@b.co"}, {"system": "phone", "value": "112"}],
                },
                {"name": {"text": "Ben"}, "relationship": [{"text": "x" * 101}]},
            ]
        )
    )
    assert incoming.values["contacts"] == [
        {"name": "Mary Smith", "relationship": "next of kin", "phone": "112"},
        {"name": "Ben", "relationship": "", "phone": ""},
    ]
    assert [expression_of(incoming, f"/contacts/{end}") for end in ("0", "0/name", "0/phone", "1/name", "1/phone")] == [
        "Patient.contact[1]", "Patient.contact[1].name", "Patient.contact[1].telecom[1].value",
        "Patient.contact[2].name.text", "Patient.contact[2]",
    ]  # fmt: skip


def language(code: str, *, system: str = "urn:ietf:bcp:47", **more: Any) -> dict[str, Any]:
    return {"language": {"coding": [{"system": system, "code": code}]}, **more}


@pytest.mark.parametrize(
    ("communication", "expected"),
    [
        ([language("kn"), language("en", preferred=True)], "en"),
        ([language("english"), language("en")], "en"),
        ([language("xx", system="http://example.org/languages")], ""),
        ([{"language": {"text": "Kannada"}}], ""),
        ([{"language": {"coding": [{"code": "kn"}]}}], "kn"),
    ],
)
def test_the_preferred_language_is_read(communication: Any, expected: str):
    assert read(communication=communication)["language"] == expected


def test_an_error_of_the_serializer_is_about_the_element_that_was_sent():
    sent = resource(
        name=[{"use": "old", "text": "A"}, {"text": "x" * 201}],
        address=[{"use": "old", "text": "y"}, {"line": ["x" * 501]}],
        birthDate="2999-01-01",
        deceasedDateTime="1990-01-01",
    )
    incoming = read_patient(sent)
    serializer = PatientSerializer(data=incoming.values)
    assert not serializer.is_valid()
    assert {expression_of(incoming, f"/{name}") for name in serializer.errors} == {
        "Patient.name[1].text", "Patient.address[1]", "Patient.birthDate",
    }  # fmt: skip
    assert expression_of(incoming, "/deceased_on") == "Patient.deceased"
    assert expression_of(incoming, "") == expression_of(incoming, "/nothing") == "Patient"


SENT = resource(
    id="other",
    meta={"versionId": "9", "lastUpdated": "2020-01-01T00:00:00Z", "profile": ["http://example.org/p"]},
    text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Asha</div>'},
    extension=[{"url": "http://example.org/weight", "valueDecimal": Decimal("72.50")}],
    name=[{"use": "official", "family": "Rao", "given": ["Asha"]}, {"use": "maiden", "family": "Iyer"}, {"text": "A"}],
    telecom=[{"system": "fax", "value": "1"}, *({"system": "phone", "value": f"{number}"} for number in (2, 3, 4))],
    gender="unknown",
    birthDate="1992-03",
    _birthDate={"extension": [{"url": "http://example.org/source", "valueString": "passport"}]},
    deceasedDateTime="2020-05-01T10:00:00+05:30",
    maritalStatus={"text": "married"},
    active=False,
    generalPractitioner=[{"reference": "https://elsewhere.example/Practitioner/1"}],
    link=[{"other": {"reference": "https://elsewhere.example/Patient/1"}, "type": "seealso"}],
)


def test_what_was_sent_is_given_back_until_the_record_changes():
    row = stored(SENT)
    found = write_patient(row)
    assert found == {**SENT, "id": "7", "meta": {**SET_BY_SERVER["meta"], "profile": ["http://example.org/p"]}}  # type: ignore[dict-item]
    assert '"valueDecimal":72.50' in encode(found)
    row.name, row.phone, row.birth_year, row.deceased, row.deceased_on = "Asha Iyer", "5", 1993, False, None
    assert written(row) == {
        "extension": SENT["extension"],
        "name": [{"text": "Asha Iyer"}, {"use": "maiden", "family": "Iyer"}],
        "telecom": [
            {"system": "phone", "value": "5"}, {"system": "phone", "value": "3"}, {"system": "fax", "value": "1"},
            {"system": "phone", "value": "4"},
        ],
        "gender": "unknown",
        "birthDate": "1993",
        "deceasedBoolean": False,
        "maritalStatus": SENT["maritalStatus"],
        "generalPractitioner": SENT["generalPractitioner"],
        "link": SENT["link"],
    }  # fmt: skip
    row.gender = "F"
    assert written(row)["gender"] == "female"


def test_a_narrative_with_more_than_the_elements_say_outlives_a_change():
    text = SENT["text"] | {"status": "additional"}
    row = stored(resource(text=text))
    row.name = "Asha Iyer"
    assert written(row) == {"text": text, "name": [{"text": "Asha Iyer"}]}


def test_nothing_is_kept_of_what_the_row_gives_back_itself():
    sent = resource(gender="female", birthDate="1992", active=True, telecom=[{"value": "1", "system": "phone"}])
    assert stored(sent).fhir == ""
    del sent["active"]
    assert stored(sent).fhir == ""


def test_what_is_sent_as_inactive_is_given_back_as_inactive():
    row = stored(resource(active=False))
    assert write_patient(row)["active"] is False


def test_a_merged_patient_is_inactive_and_links_to_the_other_one():
    row = stored(resource(active=False, link=SENT["link"]))
    row.merged_into_id = 8
    found = write_patient(row, survivor=8)
    assert found["active"] is False
    assert found["link"] == [*SENT["link"], {"other": {"reference": "Patient/8"}, "type": "replaced-by"}]


def test_the_general_practitioner_is_the_present_one_and_others_are_kept():
    sent = resource(generalPractitioner=[*SENT["generalPractitioner"], {"reference": "Practitioner/4"}])
    row = stored(sent, practitioner=(4, "Dr. Rao"))
    assert written(row, practitioner=(4, "Dr. Rao"))["generalPractitioner"] == sent["generalPractitioner"]
    assert written(row, practitioner=(5, "Dr. Li"))["generalPractitioner"] == [
        {"reference": "Practitioner/5", "display": "Dr. Li"}, *SENT["generalPractitioner"],
    ]  # fmt: skip
    assert written(row)["generalPractitioner"] == SENT["generalPractitioner"]


def test_what_is_too_large_to_keep_is_refused():
    with pytest.raises(Invalid) as refused:
        stored(resource(maritalStatus={"text": "é" * 32 * 1024}))
    assert [(issue.code, issue.expression) for issue in refused.value.issues] == [("too-long", "Patient")]
    assert stored(resource(maritalStatus={"text": "é" * 32_000})).fhir
