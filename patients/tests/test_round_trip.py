"""What is exported, erased and imported again is the same, whatever Unicode its texts have."""

import csv
import io
import json
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from conftest import LoggedInClient
from patients.erasure import erase
from patients.models import Patient
from patients.tests.test_import_property import SEVERAL

pytestmark = pytest.mark.slow

# Any character that PostgreSQL stores, most of them what CSV and its formulas are about.
CHARACTERS = st.one_of(
    st.sampled_from("'\"=+-@; ,[{\\＝éA1"), st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"])
)
LINE = st.text(CHARACTERS, max_size=20)
LINES = st.text(st.one_of(CHARACTERS, st.sampled_from("\t\r\n\u200b\u200f\u3000")), max_size=20)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"name": LINE.map(lambda text: f"A{text}")},
        optional={
            "identifier": LINE,
            "address": LINES,
            "medical_history": LINES,
            "gender": st.sampled_from(["M", "F", "O", "U"]),
            "birth_date": st.dates().map(str),
            "birth_year": st.integers(1900, 2020),
            "deceased": st.booleans(),
            "phone": st.sampled_from(["+91 80 5550 0100", "080-5550 x7"]),
            "language": st.sampled_from(["hi", "pt-BR"]),
            "identifiers": st.lists(st.fixed_dictionaries({"system": LINE, "value": LINE}), max_size=2),
            "contacts": st.lists(st.fixed_dictionaries({"name": LINE, "relationship": LINE}), max_size=2),
            "fhir": LINE.map(
                lambda text: json.dumps({"elements": {"maritalStatus": {"text": f"A{text}"}}, "basis": {}})
            ),
        },
    ).map(lambda record: {name: record[name] for name in record if name != "birth_year" or "birth_date" not in record}),
    min_size=1,
    max_size=4,
)
MADE_BY_SERVER = {"id", "version", "created_by", "created_at", "updated_at", "server"}
MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}


def export(client: LoggedInClient, form: str) -> str:
    answer: Any = client.get(f"/api/patients/export/?format={form}&ordering=created_at")
    return b"".join(answer.streaming_content).decode()


def import_all(client: LoggedInClient, content: str, form: str, partial: str) -> dict[str, int]:
    query = f"mode=apply&match=none&on_likely=create&partial={partial}"
    answer: Any = client.generic("POST", f"/api/patients/import/?{query}", content, content_type=MEDIA_TYPES[form])
    assert answer.status_code == 200, answer.content
    summary: dict[str, int] = answer.json()["summary"]
    return summary


def contents(exported: str, form: str) -> list[str]:
    """What the records say, without what a server makes."""
    lines: Any = (
        csv.DictReader(io.StringIO(exported, newline="")) if form == "csv" else exported.rstrip("\n").split("\n")
    )
    rows = [line if form == "csv" else json.loads(line) for line in lines if line]
    return sorted(json.dumps({name: row[name] for name in row if name not in MADE_BY_SERVER}) for row in rows)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_records_survive_an_export_an_erasure_and_an_import(as_alice: LoggedInClient, alice: User, form: str) -> None:
    kept = 0

    @SEVERAL
    @given(RECORDS)
    def check(records: list[dict[str, Any]]) -> None:
        nonlocal kept
        with transaction.atomic():
            import_all(as_alice, "\n".join(map(json.dumps, records)), "ndjson", "true")
            before = export(as_alice, form)
            for patient in Patient.objects.filter(created_by=alice):
                erase(patient.pk, reason="Moved.", account="tests")
            assert not Patient.objects.filter(created_by=alice).exists()
            number = len(contents(before, form))
            kept += number
            if number:
                assert import_all(as_alice, before, form, "false")["created"] == number
            assert contents(export(as_alice, form), form) == contents(before, form)
            transaction.set_rollback(True)

    check()
    assert kept > 80  # the others are not valid
