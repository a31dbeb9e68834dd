"""What a clinic records beside the patient: the next of kin, the language, a second phone and the medical history."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from accounts.models import User
from conftest import LoggedInClient
from healthcare.tests.admin_pages import AdminClient, errors_of
from healthcare.tests.openapi import by_name
from healthcare.tests.openapi import resolved as resolve
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient
from patients.tests.merging import merge, read, unmerge

MARY = {"name": "Mary Smith", "relationship": "wife", "phone": "+91 80 5550 0100"}
FIELDS: dict[str, Any] = {
    "contacts": [MARY, {"name": "Ben", "relationship": "", "phone": ""}],
    "language": "pt-BR",
    "alternate_phone": "+91 98450 12345",
    "medical_history": '2019 asthma\n\n\t2024 "fracture" \\ é \U0001f600',
}
EMPTY: dict[str, Any] = {"contacts": [], "language": "", "alternate_phone": "", "medical_history": ""}


def post(client: LoggedInClient, **fields: Any) -> Any:
    return client.post("/api/patients/", {"name": "Ana", **fields})


@pytest.mark.parametrize("mode", ["on", "off"])
def test_the_fields_are_stored_changed_and_answered(as_alice: LoggedInClient, settings: Any, mode: str) -> None:
    settings.FAST_PATH = mode
    assert EMPTY.items() <= post(as_alice).json().items()
    created = post(as_alice, **FIELDS)
    assert created.status_code == 201, created.content
    assert FIELDS.items() <= created.json().items()
    path = f"/api/patients/{created.json()['id']}/"
    assert as_alice.get(path).json() == as_alice.get("/api/patients/").json()[0] == created.json()
    assert as_alice.get(f"{path}?fields={','.join(FIELDS)}").json() == FIELDS
    for name, value in FIELDS.items():
        assert as_alice.patch(path, {name: EMPTY[name]}).json()[name] == EMPTY[name]
        assert as_alice.patch(path, {name: value}).json()[name] == value
        change = as_alice.get(f"{path}history/").json()[0]["changes"]
        assert change == {name: [EMPTY[name], value]}
    whole = as_alice.get(path).json()
    assert as_alice.put(path, whole).json() == whole
    assert as_alice.get(path, {"as_of": as_alice.get(f"{path}history/").json()[-1]["at"]}).json() == created.json()


def test_the_fast_path_serves_the_plain_calls(
    as_alice: LoggedInClient, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.FAST_PATH = "on"
    with caplog.at_level("INFO", "healthcare.access"):
        body = {**FIELDS, "identifiers": [{"system": "a", "value": "1"}], "deceased_on": "2020-05-01", "age": 70}
        path = f"/api/patients/{post(as_alice, **body).json()['id']}/"
        for name, value in FIELDS.items():
            as_alice.patch(path, {name: value})
        as_alice.patch(path, {"identifiers": []})
        as_alice.patch(path, {"deceased_on": None})
        as_alice.get(path)
        as_alice.get("/api/patients/?identifier=a%7C1")
        as_alice.get(f"{path}history/")
    lines = [record.getMessage() for record in caplog.records if record.name == "healthcare.access"]
    assert [line.rpartition("path=")[2] for line in lines] == ["fast"] * 10, lines


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ("Mary", [("/contacts", "not_a_list")]),
        (MARY, [("/contacts", "not_a_list")]),
        (["Mary"], [("/contacts/0", "invalid")]),
        ([[MARY]], [("/contacts/0", "invalid")]),
        ([{}], [("/contacts/0/name", "required")]),
        ([MARY, {"phone": "1"}], [("/contacts/1/name", "required")]),
        ([{"name": ""}], [("/contacts/0/name", "blank")]),
        ([{"name": "\u200b"}], [("/contacts/0/name", "blank")]),
        ([{"name": "x" * 201}], [("/contacts/0/name", "max_length")]),
        ([{"name": 1}], [("/contacts/0/name", "invalid")]),
        ([{"name": "M", "phone": "call me"}], [("/contacts/0/phone", "invalid")]),
        ([{"name": "M", "phone": "1" * 41}], [("/contacts/0/phone", "max_length")]),
        ([{"name": "M", "relationship": "x" * 101}], [("/contacts/0/relationship", "max_length")]),
        ([{"name": "M", "relationship": "a\nb"}], [("/contacts/0/relationship", "invalid")]),
        ([{"name": "M", "email": "m@example.org"}], [("/contacts/0/email", "unknown")]),
        ([{"name": str(number)} for number in range(11)], [("/contacts", "max_length")]),
    ],
)
def test_what_is_no_list_of_contacts_is_refused(
    as_alice: LoggedInClient, alice: User, value: Any, errors: list[tuple[str, str]]
) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"
    for refused in (post(as_alice, contacts=value), as_alice.patch(path, {"contacts": value})):
        assert refused.status_code == 400, refused.content
        assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == errors
    assert Patient.objects.get().contacts == []


def test_a_contact_needs_only_a_name(as_alice: LoggedInClient) -> None:
    created = post(as_alice, contacts=[{"name": " Ben "}])
    assert created.json()["contacts"] == [{"name": "Ben", "relationship": "", "phone": ""}]
    path = f"/api/patients/{created.json()['id']}/"
    changed = as_alice.patch(path, {"contacts": [{"phone": "2", "name": "Ben"}] * 10})
    assert changed.json()["contacts"] == [{"name": "Ben", "relationship": "", "phone": "2"}] * 10


@pytest.mark.parametrize(
    "tag",
    ["hi", "HI", "eng", "pt-BR", "zh-Hans-CN", "sr-Latn", "es-419", "de-CH-1996", "sl-rozaj-biske", "en-x-clinic",
            "zh-yue", "en-u-ca-buddhist", "x-home"],
)  # fmt: skip
def test_a_language_is_a_tag(as_alice: LoggedInClient, tag: str) -> None:
    assert post(as_alice, language=tag).json()["language"] == tag


@pytest.mark.parametrize(
    "text", ["english", "e", "en_US", "en-", "-en", "en--US", "en US", "12", "हि", "en-USA-", "en-\n", "x", "en-u",
             "a" * 51, "ｅｎ"],
)  # fmt: skip
def test_any_other_language_is_refused(as_alice: LoggedInClient, text: str) -> None:
    refused = post(as_alice, language=text)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/language")


@pytest.mark.parametrize("bad", ["x" * 20_001, "a\x07", "a\x1bb", "a\x85b", 17, ["x"], {"a": "b"}, True])
def test_a_medical_history_is_plain_text(as_alice: LoggedInClient, bad: Any) -> None:
    refused = post(as_alice, medical_history=bad)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/medical_history")


def test_line_breaks_are_line_feeds_and_count_as_one_character(as_alice: LoggedInClient) -> None:
    assert post(as_alice, medical_history="a\r\nb\rc\n").json()["medical_history"] == "a\nb\nc"
    longest = "x\r\n" * 9_999 + "yz"
    assert len(post(as_alice, medical_history=longest).json()["medical_history"]) == 20_000
    assert post(as_alice, medical_history="é" * 20_000).status_code == 201


def test_search_finds_the_second_phone_and_neither_contacts_nor_the_history(
    as_alice: LoggedInClient, alice: User
) -> None:
    patient = make_patient(alice, name="Ana", **FIELDS)

    def hits(text: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = as_alice.get("/api/patients/", {"search": text}).json()
        return rows

    assert hits("098450 12345") == hits("Ana") == [read(as_alice, patient)]
    for text in ("Mary", "080 5550 0100", "asthma", "pt-BR", "wife"):
        assert hits(text) == []
    as_alice.patch(f"/api/patients/{patient.pk}/", {"alternate_phone": "", "phone": "+91 98450 12345"})
    assert len(hits("9845012345")) == 1
    as_alice.patch(f"/api/patients/{patient.pk}/", {"phone": ""})
    assert hits("9845012345") == []


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ({"phone": "98450 12345"}, {"alternate_phone": "+91 98450 12345"}, True),
        ({"alternate_phone": "98450 12345"}, {"alternate_phone": "9845012345"}, True),
        ({"contacts": [MARY]}, {"contacts": [MARY]}, False),
        ({"contacts": [MARY]}, {"phone": MARY["phone"]}, False),
    ],
)
def test_a_second_phone_counts_in_duplicates_and_contacts_do_not(
    as_alice: LoggedInClient, alice: User, one: dict[str, Any], other: dict[str, Any], agree: bool
) -> None:
    pair = make_patient(alice, name="Asha Nair", **one), make_patient(alice, name="Aasha Nair", **other)
    for patient in pair:
        rows = as_alice.get(f"/api/patients/{patient.pk}/duplicates/").json()
        assert [row["agrees_on"] for row in rows] == ([["name", "gender", "phone"]] if agree else [])


def test_a_merge_fills_what_the_survivor_lacks_and_unmerging_takes_it_back(
    as_alice: LoggedInClient, alice: User
) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice, **FIELDS)
    assert FIELDS.items() <= merge(as_alice, survivor, duplicate).json().items()
    assert EMPTY.items() <= unmerge(as_alice, survivor, duplicate).json().items()
    assert FIELDS.items() <= read(as_alice, duplicate).items()
    own: dict[str, Any] = {
        "contacts": [MARY | {"name": "X"}], "language": "kn", "alternate_phone": "1", "medical_history": "none",
    }  # fmt: skip
    Patient.objects.filter(pk=survivor.pk).update(**own)
    assert own.items() <= merge(as_alice, survivor, duplicate).json().items()


@pytest.mark.parametrize(
    "value", ["{}", "[1]", '[{"name": "", "relationship": "", "phone": ""}]', '[{"name": "x"}]',
              '[{"name": "x", "relationship": "", "phone": "", "email": ""}]', "null"],
)  # fmt: skip
def test_the_database_refuses_malformed_contacts_of_every_writer(alice: User, value: str) -> None:
    patient = make_patient(alice)
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE patients_patient SET contacts = %s WHERE id = %s", [value, patient.pk])


def test_staff_edit_the_fields_in_the_admin(staff: User, alice: User) -> None:
    client, patient = AdminClient(staff), make_patient(alice, **FIELDS)
    path = f"/admin/patients/patient/{patient.pk}/change/"
    form = client.form(path)
    form |= {name: form[name].replace("\n", "\r\n") for name in ("medical_history", "initial-medical_history")}
    assert client.submit(path, form).status_code == 302  # as a browser sends it
    patient.refresh_from_db()
    assert (patient.version, patient.medical_history) == (1, FIELDS["medical_history"])
    ben: dict[str, Any] = {
        "contacts-TOTAL_FORMS": "1",
        "contacts-0-name": "Ben",
        "contacts-0-relationship": "",
        "contacts-0-phone": "",
    }
    assert client.submit(path, medical_history="a\r\nb", language="kn", **ben).status_code == 302
    patient.refresh_from_db()
    assert (patient.medical_history, patient.language, patient.version) == ("a\nb", "kn", 2)
    assert patient.contacts == [{"name": "Ben", "relationship": "", "phone": ""}]
    bad: list[tuple[str, Any]] = [
        ("contacts-1-phone", "555"), ("contacts-0-phone", "call"), ("language", "english"), ("alternate_phone", "call"),
        ("medical_history", "x" * 20_001), ("medical_history", "a\x07"),
    ]  # fmt: skip
    for field, value in bad:
        assert list(errors_of(client.submit(path, None, **{field: value}))) == [field.partition("-")[0]]


def test_an_erasure_removes_the_fields_from_the_history_too(alice: User) -> None:
    patient = make_patient(alice, **FIELDS)
    call_command("erase_patient", str(patient.pk), "--reason", "asked", "--yes")
    assert not PatientEvent.objects.filter(medical_history=FIELDS["medical_history"]).exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM patients_patientterm")
        assert cursor.fetchone() == (0,)


def test_the_description_names_the_fields() -> None:
    operation = by_name()["patients_create"]
    sent = resolve(operation["requestBody"]["content"]["application/json"]["schema"])["properties"]
    assert sent["contacts"]["maxItems"] == 10
    assert resolve(sent["contacts"]["items"])["required"] == ["name"]
    assert sent["medical_history"] == {"type": ["string", "null"], "maxLength": 20_000}
    answer = resolve(operation["responses"]["201"]["content"]["application/json"]["schema"])
    assert set(FIELDS) <= set(answer["required"])
    assert resolve(answer["properties"]["contacts"]["items"])["required"] == ["name", "phone", "relationship"]
