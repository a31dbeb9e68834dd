"""GET /api/patients/export/, /api/doctors/export/ and /api/mappings/export/: what is in the file."""

import csv
import datetime
import io
import json
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.exports.csv_text import unescape_formula
from healthcare.exports.models import ServerId
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

PATIENTS, DOCTORS, MAPPINGS = "/api/patients/", "/api/doctors/", "/api/mappings/"


def content(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content)


def rows_of(answer: Any) -> list[dict[str, str]]:
    text = content(answer).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def objects_of(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(answer).splitlines()]


def names_of(answer: Any) -> list[str]:
    return [row["name"] for row in rows_of(answer)]


def export(client: Any, path: str, query: str = "", **headers: Any) -> Any:
    return client.get(f"{path}export/{query}", **headers)


def make_full_patient(owner: User) -> Patient:
    return make_patient(
        owner,
        name='=1+"Zoë", 李',
        phone="+91 80 5550 0100",
        birth_date=datetime.date(1990, 7, 1),
        deceased=False,
        medical_history="2019 asthma\n2024 fracture",
        identifiers=[{"system": "old; older", "value": "A-1"}],
    )


def test_ndjson_is_the_list_with_the_server(as_alice: Any, alice: User):
    make_full_patient(alice)
    make_patient(alice, name="Ben")
    listed = as_alice.get(PATIENTS).json()
    answer = export(as_alice, PATIENTS, "?format=ndjson")
    assert answer["Content-Type"] == "application/x-ndjson"
    assert objects_of(answer) == [{**record, "fhir": "", "server": ServerId.objects.own()} for record in listed]


def test_csv_has_a_header_and_the_same_values(as_alice: Any, alice: User):
    make_full_patient(alice)
    [record] = as_alice.get(PATIENTS).json()
    answer = export(as_alice, PATIENTS)
    assert answer["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer["Content-Disposition"] == 'attachment; filename="patients.csv"'
    assert answer["Cache-Control"] == "no-store"
    assert not {"ETag", "Content-Encoding", "Link", "Content-Length"} & answer.headers.keys()
    assert content(answer).startswith(",".join([*record, "fhir", "server"]).encode() + b"\r\n")
    [row] = rows_of(export(as_alice, PATIENTS))
    assert (row["name"], row["phone"]) == ('\'=1+"Zoë", 李', "'+91 80 5550 0100")
    assert json.loads(row.pop("identifiers")) == record.pop("identifiers")
    assert json.loads(row.pop("contacts")) == record.pop("contacts") == []
    expected = {name: "" if value is None else str(value) for name, value in record.items()}
    assert {name: unescape_formula(cell) for name, cell in row.items()} == expected | {
        "deceased": "false",
        "fhir": "",
        "server": ServerId.objects.own(),
    }


def test_an_empty_list_is_a_header(as_alice: Any):
    assert content(export(as_alice, DOCTORS, "?fields=id,name,server")) == b"id,name,server\r\n"
    assert content(export(as_alice, PATIENTS, "?format=ndjson")) == b""


def test_doctors_need_no_token_and_mappings_name_both_ends(anonymous: Any, as_alice: Any, alice: User):
    doctor, patient = make_doctor(alice, name="Dr. Rao"), make_patient(alice)
    mapping = make_mapping(patient, doctor)
    make_past_mapping(patient, make_doctor(alice))
    assert names_of(export(anonymous, DOCTORS))[1:] == ["Dr. Rao"]
    [row] = rows_of(export(as_alice, MAPPINGS))
    assert (row["id"], row["patient"], row["doctor"]) == (str(mapping.pk), str(patient.pk), str(doctor.pk))
    assert [row["id"] for row in rows_of(export(as_alice, MAPPINGS, "?active=false"))] != [str(mapping.pk)]
    assert export(anonymous, PATIENTS).status_code == 401
    assert export(anonymous, DOCTORS, "?deleted=true").status_code == 401


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["Cyd", "Ben Rao", "Ann Rao"]),
        ("?ordering=name", ["Ann Rao", "Ben Rao", "Cyd"]),
        ("?search=rao", ["Ben Rao", "Ann Rao"]),
        ("?gender=F", ["Ann Rao"]),
        ("?deleted=true", ["Gone"]),
    ],
)
def test_the_parameters_of_the_list_apply(as_alice: Any, alice: User, bob: User, query: str, names: list[str]):
    make_patient(alice, name="Ann Rao", gender="F")
    make_patient(alice, name="Ben Rao")
    make_patient(alice, name="Cyd")
    make_patient(alice, name="Gone", deleted_at=timezone.now())
    make_patient(bob, name="Dan Rao")
    assert names_of(export(as_alice, PATIENTS, query)) == names


def test_the_past_is_exported_as_it_was(as_alice: Any, alice: User):
    patient = make_patient(alice, name="Before")
    at = timezone.now()
    Patient.objects.filter(pk=patient.pk).update(name="After")
    make_patient(alice, name="Later")
    query = f"?as_of={at.isoformat().replace('+00:00', 'Z')}"
    assert names_of(export(as_alice, PATIENTS, query)) == ["Before"]
    assert rows_of(export(as_alice, MAPPINGS, query)) == []


def test_fields_choose_columns_in_the_order_of_the_record(as_alice: Any, alice: User):
    patient = make_patient(alice, name="Ann")
    answer = content(export(as_alice, PATIENTS, "?fields=name,id"))
    assert answer == f"id,name\r\n{patient.pk},Ann\r\n".encode()
    answer = content(export(as_alice, PATIENTS, "?fields=server,name&format=ndjson"))
    assert json.loads(answer) == {"name": "Ann", "server": ServerId.objects.own()}


def test_a_byte_order_mark_on_request(as_alice: Any):
    assert content(export(as_alice, PATIENTS, "?bom=true&fields=id")) == b"\xef\xbb\xbfid\r\n"
    assert export(as_alice, PATIENTS, "?bom=true&format=ndjson").json()["errors"][0]["pointer"] == "/bom"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "text/csv"),
        ("text/csv", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/html, */*;q=0.8", "text/csv"),
    ],
)
def test_the_accept_header_chooses_the_format(as_alice: Any, accept: str, media_type: str):
    answer = export(as_alice, PATIENTS, HTTP_ACCEPT=accept)
    assert answer["Content-Type"].partition(";")[0] == media_type
    assert "Accept" in answer["Vary"]


def test_other_types_are_not_acceptable(as_alice: Any):
    answer = export(as_alice, PATIENTS, HTTP_ACCEPT="application/json")
    assert (answer.status_code, answer["Content-Type"]) == (406, "application/problem+json")
    assert export(as_alice, PATIENTS, "?format=csv", HTTP_ACCEPT="application/json").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "limit=5", "cursor=x", "count=true", "include=doctors", "format=xlsx", "format=", "fields=nothing", "fields=",
        "fields=name,name", "unknown=1", "bom=perhaps", "ordering=address", "search=a&ordering=name",
        "format=csv&format=csv",
    ],
)  # fmt: skip
def test_what_an_export_does_not_take_is_refused(as_alice: Any, query: str):
    answer = export(as_alice, PATIENTS, f"?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in {error["pointer"].lstrip("/") for error in answer.json()["errors"]} | {"search"}


def test_head_answers_without_a_body_and_options_name_the_methods(as_alice: Any, alice: User):
    make_patient(alice)
    answer = as_alice.head(f"{PATIENTS}export/")
    assert (answer.status_code, b"".join(answer.streaming_content)) == (200, b"")
    assert answer["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert as_alice.options(f"{PATIENTS}export/")["Allow"] == "GET, HEAD, OPTIONS"
    assert as_alice.post(f"{PATIENTS}export/").status_code == 405


def test_preconditions_do_not_apply(as_alice: Any):
    assert export(as_alice, PATIENTS, HTTP_IF_NONE_MATCH="*").status_code == 200
