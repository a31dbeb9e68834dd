"""What becomes of a record does not depend on whether it is in a file or the body of a POST."""

import json
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.models import User
from conftest import LoggedInClient
from healthcare.exports.csv_text import as_cell, csv_lines
from healthcare.tests.hostile_requests import BAD_CHOICES, BAD_DATES, BAD_EMAILS, BAD_NAMES, BAD_NUMBERS, BAD_PHONES
from patients.models import Patient, PatientEvent
from patients.serializers import PatientSerializer

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NOT_NULL = {"name", "gender"}
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda value: st.one_of(st.lists(value, max_size=3), st.dictionaries(TEXT, value, max_size=3)),
    max_leaves=5,
)
PAIR = st.one_of(st.fixed_dictionaries({"system": TEXT, "value": TEXT}), st.dictionaries(TEXT, TEXT, max_size=2))
PAIRS = st.lists(PAIR, max_size=3)
CONTACTS = st.lists(
    st.fixed_dictionaries({"name": TEXT}, optional={"phone": st.sampled_from(["12345", "x"]), "relationship": TEXT}),
    max_size=3,
)
YEARS = st.sampled_from([1980, "1980", 1990, 2300, 0, None])
DATES = st.sampled_from(["1980-02-29", "1990-01-01", "2290-01-01", "", None, *BAD_DATES[:6]])


def field(*usual: Any, bad: list[Any]) -> Any:
    """Mostly a usual value, sometimes a bad one or any other."""
    return st.one_of(*usual, *usual, st.sampled_from(bad), JSON)


FIELDS = {
    "name": field(TEXT, st.sampled_from(["Ana Lima", "=1+1", "'x", "+91 1", "José 李 👩‍⚕️"]), bad=BAD_NAMES),
    "age": field(st.integers(0, 151), bad=BAD_NUMBERS),
    "gender": field(st.sampled_from(["M", "f", "Female", ""]), bad=BAD_CHOICES),
    "birth_date": field(DATES, bad=BAD_DATES),
    "birth_year": field(YEARS, bad=BAD_NUMBERS),
    "deceased": field(st.sampled_from([True, False, "true", None, ""]), bad=BAD_CHOICES),
    "deceased_on": field(DATES, bad=BAD_DATES),
    "identifier": field(TEXT, bad=BAD_NAMES),
    "identifiers": field(PAIRS, bad=BAD_NAMES),
    "phone": field(st.sampled_from(["+91 98 1234", "１２３"]), bad=BAD_PHONES),
    "alternate_phone": field(st.sampled_from(["080 5550"]), bad=BAD_PHONES),
    "email": field(st.sampled_from(["a@example.org"]), bad=BAD_EMAILS),
    "address": field(TEXT, bad=BAD_NAMES),
    "language": field(st.sampled_from(["kn", "pt-BR"]), bad=BAD_CHOICES),
    "contacts": field(CONTACTS, bad=BAD_NAMES),
    "medical_history": field(TEXT, bad=BAD_NAMES),
}
LISTS = {"identifiers", "contacts"}
MADE_BY_SERVER = {"id", "created_at", "updated_at"}
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"name": FIELDS["name"]},
        optional={name: values for name, values in FIELDS.items() if name != "name"} | {"nickname": TEXT},
    ),
    min_size=1,
    max_size=4,
)
SEVERAL = settings(
    max_examples=80,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
QUERY = "?mode=apply&partial=true&match=none&on_likely=create&empty=clear"


def outcomes_of_posts(client: LoggedInClient, bodies: list[Any]) -> list[Any]:
    """Of each body the record that a POST of it adds, or the errors."""
    found = []
    for body in bodies:
        with transaction.atomic():
            answer = client.post("/api/patients/", json.dumps(body), content_type="application/json")
            transaction.set_rollback(True)
        found.append(answer.json()["errors"] if answer.status_code == 400 else stored(answer.json()))
    return found


def outcomes_of_import(client: LoggedInClient, content: str, media_type: str) -> list[Any]:
    with transaction.atomic():
        answer: Any = client.generic("POST", f"/api/patients/import/{QUERY}", content, content_type=media_type)
        assert answer.status_code == 200, answer.content
        results = answer.json()["results"]
        found = []
        for result in results:
            if result["status"] == "failed":
                found.append(result["errors"])
                continue
            patient = Patient.objects.get(pk=result["id"])
            assert PatientEvent.objects.get(id=patient.pk).name == patient.name
            found.append(stored(PatientSerializer(patient).data))
        transaction.set_rollback(True)
    return found


def stored(record: Any) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in MADE_BY_SERVER}


def as_sent(record: dict[str, Any]) -> dict[str, Any]:
    """The body of the POST that a record of a file stands for: its empty values empty the fields, and its age gives way
    to a birth."""
    body = {name: empty_value(name) if value is None or value == "" else value for name, value in record.items()}
    if "age" in body:
        has_birth = bool(body.get("birth_date") or body.get("birth_year"))
        if body["age"] is not None and not has_birth:
            body.pop("birth_year", None)
        elif has_birth or "birth_date" in body or "birth_year" in body:
            del body["age"]
    return body


def empty_value(name: str) -> Any:
    fields = PatientSerializer().fields
    return None if name in LISTS or (name in fields and fields[name].allow_null) else ""


def as_text(name: str, value: Any) -> Any:
    """What a cell with this value stands for in JSON."""
    if value is None:
        return None
    if name in LISTS and isinstance(value, list | dict):
        return value
    text = value if isinstance(value, str) else as_cell(value)
    if not text.strip():
        return None
    return text.lower() if name == "deceased" else text


@SEVERAL
@given(records=RECORDS)
def check_ndjson(client: LoggedInClient, records: list[dict[str, Any]]) -> None:
    expected = outcomes_of_posts(client, [as_sent(record) for record in records])
    assert outcomes_of_import(client, "\n".join(map(json.dumps, records)), "application/x-ndjson") == expected


@SEVERAL
@given(records=RECORDS)
def check_csv(client: LoggedInClient, records: list[dict[str, Any]]) -> None:
    columns = sorted({name for record in records for name in record} - {"nickname"})
    rows = [[as_cell(record.get(name)) for name in columns] for record in records]
    texts = [{name: as_text(name, record.get(name)) for name in columns} for record in records]
    kept = [place for place, text in enumerate(texts) if any(value is not None for value in text.values())]
    expected = outcomes_of_posts(client, [as_sent(texts[place]) for place in kept])
    content = csv_lines([columns, *rows])
    if kept:
        assert outcomes_of_import(client, content, "text/csv") == expected


def test_a_record_in_ndjson_is_treated_as_the_body_of_a_post(as_alice: LoggedInClient, alice: User) -> None:
    check_ndjson(as_alice)


@pytest.mark.slow
def test_a_record_in_csv_is_treated_as_the_body_of_a_post(as_alice: LoggedInClient, alice: User) -> None:
    check_csv(as_alice)
