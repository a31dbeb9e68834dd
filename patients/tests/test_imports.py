"""POST /api/patients/import/: alice owns patients, bob is an outsider."""

import gzip
import json
import re
from contextlib import closing
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connections

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from healthcare.exports.csv_text import csv_lines
from healthcare.imports.models import Import, ImportedLine
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

PATH = "/api/patients/import/"
CSV = "text/csv"
NDJSON = "application/x-ndjson"


def send(client: Any, body: str | bytes, query: str = "", media_type: str = CSV, **headers: Any) -> Any:
    content = body.encode() if isinstance(body, str) else body
    return client.generic("POST", f"{PATH}{query}", content, content_type=media_type, **headers)


def summary(**counts: int) -> dict[str, int]:
    return dict.fromkeys(["created", "updated", "unchanged", "skipped", "likely", "failed"], 0) | counts


def result(line: int, status: str, **more: Any) -> dict[str, Any]:
    return {"line": line, "status": status, "id": None, "errors": [], "likely": []} | more


def test_a_check_writes_nothing_and_says_what_an_import_would_do(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "name,age\nAna,34\nBen,x\n")
    assert answer.status_code == 200
    assert answer.json() == {
        "import": None,
        "results": [
            result(2, "created"),
            result(
                3, "failed", errors=[{"pointer": "/age", "code": "invalid", "detail": "A valid integer is required."}]
            ),
        ],
        "summary": summary(created=1, failed=1),
    }
    assert (Patient.objects.count(), Import.objects.count(), ImportedLine.objects.count()) == (0, 0, 0)


def test_an_import_creates_the_patients_of_a_file(as_alice: LoggedInClient, alice: User) -> None:
    answer = send(as_alice, "name,age,identifier\nAna,34,N-1\nBen,,N-2\n", "?mode=apply")
    ana, ben = Patient.objects.order_by("id")
    record = Import.objects.get()
    assert answer.status_code == 200
    assert answer.json() == {
        "import": record.pk,
        "results": [result(2, "created", id=ana.pk), result(3, "created", id=ben.pk)],
        "summary": summary(created=2),
    }
    assert (ana.name, ana.age, ana.identifier, ana.created_by, ana.version) == ("Ana", 34, "N-1", alice, 1)
    assert (ben.name, ben.age, ben.identifier) == ("Ben", None, "N-2")
    assert (record.created_by, record.caller, record.kind) == (alice, alice.pk, "patients")
    assert record.summary == summary(created=2)
    assert [*record.lines.values_list("line", "status", "record_id", "version")] == [
        (2, "created", ana.pk, 1),
        (3, "created", ben.pk, 1),
    ]
    assert PatientEvent.objects.filter(id__in=[ana.pk, ben.pk]).count() == 2
    assert [one["name"] for one in as_alice.get("/api/patients/?search=ana").json()] == ["Ana"]


def test_one_bad_record_stops_all(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "name,gender\nAna,F\nBen,X\n", "?mode=apply")
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Nothing was written: correct the records that failed, or send `partial=true` to write the others.",
        "request_id": answer["X-Request-Id"],
        "results": [
            result(2, "created"),
            result(
                3,
                "failed",
                errors=[{"pointer": "/gender", "code": "invalid_choice", "detail": "Send one of the allowed values."}],
            ),
        ],
        "summary": summary(created=1, failed=1),
    }
    assert (Patient.objects.count(), Import.objects.count()) == (0, 0)


@pytest.mark.parametrize("row", ["Ana Smith,1980-01-01,asthma attack", "Ana,1980-01-01,asthma"])
def test_a_file_without_a_header_is_refused_without_its_values(as_alice: LoggedInClient, row: str) -> None:
    answer = send(as_alice, f"{row}\nBen Jones,1990-01-01,\n", "?mode=check")
    assert answer.status_code == 400
    assert [(error["pointer"], error["detail"]) for error in answer.json()["errors"]] == [
        ("", f"Unknown column {number}; remove it, or name its field with `map`.") for number in (1, 2, 3)
    ]
    assert not {"Ana", "1980", "asthma"} & {*re.findall(r"\w+", answer.content.decode())}


def test_unknown_columns_of_a_header_are_named(as_alice: LoggedInClient) -> None:
    pointers = {
        header: [error["pointer"] for error in send(as_alice, f"{header}\nA,B\n").json()["errors"]]
        for header in ("name,ward", "nam,ward")
    }
    assert pointers == {"name,ward": ["/ward"], "nam,ward": ["/nam", ""]}


def test_one_check_of_a_caller_runs_at_a_time(as_alice: LoggedInClient, alice: User) -> None:
    with closing(connections.create_connection(DEFAULT_DB_ALIAS)) as another, another.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('imports.check', %s))", [alice.pk])
        answer = send(as_alice, "name\nAna\n")
    assert (answer.status_code, answer.json()["code"]) == (409, "import_running")
    assert send(as_alice, "name\nAna\n").status_code == 200


def test_the_good_records_are_written_where_that_is_asked_for(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "name,gender\nAna,F\nBen,X\n", "?mode=apply&partial=true")
    ana = Patient.objects.get()
    assert answer.status_code == 200
    assert [(one["line"], one["status"], one["id"]) for one in answer.json()["results"]] == [
        (2, "created", ana.pk),
        (3, "failed", None),
    ]
    assert answer.json()["summary"] == summary(created=1, failed=1) == Import.objects.get().summary


def test_ndjson_has_json_values(as_alice: LoggedInClient) -> None:
    pairs = [{"system": "S", "value": "1"}]
    lines = [{"name": "Ana", "deceased": False, "identifiers": pairs}, {"name": "Ben", "age": None, "phone": ""}]
    answer = send(as_alice, "\n".join(map(json.dumps, lines)), "?mode=apply", NDJSON)
    assert answer.json()["summary"] == summary(created=2)
    ana, ben = Patient.objects.order_by("id")
    assert (ana.deceased, ana.identifiers, ben.deceased) == (False, pairs, None)


def test_a_packed_file_is_unpacked(as_alice: LoggedInClient) -> None:
    body = gzip.compress(b"name\nAna\n", mtime=0)
    answer = send(as_alice, body, "?mode=apply", HTTP_CONTENT_ENCODING="gzip")
    assert answer.json()["summary"] == summary(created=1)


def test_a_record_with_a_known_number_is_skipped(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1")
    make_patient(bob, name="Ben", identifier="N-2")
    answer = send(as_alice, "name,identifier\nAnna,N-1\nBen,N-2\n", "?mode=apply")
    ben = Patient.objects.get(created_by=alice, name="Ben")
    assert answer.json()["results"] == [result(2, "skipped", id=ana.pk), result(3, "created", id=ben.pk)]
    ana.refresh_from_db()
    assert (ana.name, ana.version) == ("Ana", 1)


def test_a_known_patient_is_updated_where_that_is_asked_for(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1", phone="123456")
    same = make_patient(alice, name="Same", identifier="N-2")
    answer = send(as_alice, "name,identifier,phone\nAnna,N-1,\nSame,N-2,\n", "?mode=apply&on_match=update")
    assert answer.json()["results"] == [result(2, "updated", id=ana.pk), result(3, "unchanged", id=same.pk)]
    ana.refresh_from_db()
    assert (ana.name, ana.phone, ana.version) == ("Anna", "123456", 2)
    assert [*ImportedLine.objects.values_list("line", "version")] == [(2, 2), (3, 1)]


def test_a_blank_cell_is_an_empty_one(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1", phone="123456")
    send(as_alice, "name,identifier,phone,age\nAnna,N-1, \t,  \n", "?mode=apply&on_match=update")
    ana.refresh_from_db()
    assert (ana.name, ana.phone) == ("Anna", "123456")


def test_a_list_in_a_cell_is_json(as_alice: LoggedInClient) -> None:
    cells = ['[{"system": "S", "value": "1"}]', " []", "S", "[,", '[{"system": "S", "value": NaN}]', "[" * 50_000]
    rows = [["Ana", cell] for cell in cells]
    answer = send(as_alice, csv_lines([["name", "identifiers"], *rows]), "?mode=apply&partial=true&on_likely=create")
    assert [[error["code"] for error in one["errors"]] for one in answer.json()["results"]] == [
        [], [], ["not_a_list"], ["invalid"], ["invalid"], ["invalid"],
    ]  # fmt: skip
    assert [*Patient.objects.order_by("pk").values_list("identifiers", flat=True)] == [
        [{"system": "S", "value": "1"}], [],
    ]  # fmt: skip


@pytest.mark.parametrize(("prefer", "status"), [("handling=lenient", "created"), ("handling=strict", "failed")])
def test_an_unknown_member_of_a_list_is_ignored_where_that_is_asked_for(
    as_alice: LoggedInClient, prefer: str, status: str
) -> None:
    line = json.dumps({"name": "Ana", "identifiers": [{"system": "S", "value": "1", "use": "old"}]})
    answer = send(as_alice, line, "", NDJSON, HTTP_PREFER=prefer)
    assert [one["status"] for one in answer.json()["results"]] == [status]


def test_an_empty_cell_empties_the_field_where_that_is_asked_for(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1", phone="123456", email="a@example.org", gender="F")
    send(as_alice, "name,identifier,phone,gender\nAna,N-1,,\n", "?mode=apply&on_match=update&empty=clear")
    ana.refresh_from_db()
    assert (ana.phone, ana.email, ana.gender) == ("", "a@example.org", "U")


def test_a_known_patient_is_refused_where_that_is_asked_for(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1")
    answer = send(as_alice, "name,identifier\nAnna,N-1\n", "?on_match=refuse")
    error = {"pointer": "", "code": "unique", "detail": "A record with this number exists already."}
    assert answer.json()["results"] == [result(2, "failed", errors=[error], likely=[{"id": ana.pk}])]


def test_a_likely_duplicate_is_held_back(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana Lima", birth_year=1990)
    answer = send(as_alice, "name,birth_year\nAna Lima,1990\nBen Okri,1980\n", "?mode=apply")
    ben = Patient.objects.get(name="Ben Okri")
    assert answer.json()["results"] == [result(2, "likely", likely=[{"id": ana.pk}]), result(3, "created", id=ben.pk)]


def test_a_number_twice_in_a_file_is_held_back(as_alice: LoggedInClient, alice: User) -> None:
    answer = send(as_alice, "name,identifier\nAna,N-1\nBen,N-1\n", "?mode=apply")
    ana = Patient.objects.get()
    assert answer.json()["results"] == [result(2, "created", id=ana.pk), result(3, "likely", likely=[{"line": 2}])]


@pytest.mark.parametrize(
    ("on_match", "statuses"),
    [("skip", ["created", "skipped"]), ("update", ["created", "updated"]), ("refuse", ["created", "failed"])],
)
def test_a_number_twice_in_a_file_is_a_match_where_nothing_is_held_back(
    as_alice: LoggedInClient, on_match: str, statuses: list[str]
) -> None:
    query = f"?mode=apply&partial=true&on_likely=create&on_match={on_match}"
    answer = send(as_alice, "name,identifier\nAna,N-1\nBen,N-1\n", query)
    assert [one["status"] for one in answer.json()["results"]] == statuses
    assert Patient.objects.get().name == ("Ben" if on_match == "update" else "Ana")


def test_a_check_shows_no_id_of_a_record_that_it_would_create(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "name,identifier\nAna,N-1\nBen,N-1\n", "?on_likely=create")
    assert answer.json()["results"] == [result(2, "created"), result(3, "skipped")]


def test_numbers_of_two_patients_are_ambiguous(as_alice: LoggedInClient, alice: User) -> None:
    one, other = (make_patient(alice, identifier=number) for number in ("N-1", "N-2"))
    pairs = json.dumps([{"system": "old", "value": "N-2"}])
    answer = send(
        as_alice, json.dumps({"name": "Ana", "identifier": "N-1", "identifiers": json.loads(pairs)}), "", NDJSON
    )
    assert answer.json()["results"][0]["errors"][0]["code"] == "ambiguous"
    assert answer.json()["results"][0]["likely"] == [{"id": one.pk}, {"id": other.pk}]


def test_the_access_log_names_the_patients_of_the_answer(as_alice: LoggedInClient, alice: User) -> None:
    known = make_patient(alice, name="Ana Lima", birth_year=1990)
    for query, body in [("", "name,birth_year\nAna Lima,1990\nBen,\n"), ("?mode=apply", "name\nZoe\n")]:
        assert send(as_alice, body, query).status_code == 200
    zoe = Patient.objects.get(name="Zoe")
    assert [*AccessLog.objects.order_by("id").values_list("actor", "action", "patient_ids", "outcome")] == [
        (alice.pk, "patient.import", [known.pk], 200),
        (alice.pk, "patient.import", [zoe.pk], 200),
    ]


def test_a_repeated_import_with_the_same_key_is_answered_from_its_lines(as_alice: LoggedInClient) -> None:
    body, query, key = "name,gender\nAna,F\nBen,X\n", "?mode=apply&partial=true", {"HTTP_IDEMPOTENCY_KEY": "k1"}
    first = send(as_alice, body, query, **key)
    again = send(as_alice, body, query, **key)
    assert (again.status_code, again["Idempotency-Replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert Patient.objects.count() == 1
    assert send(as_alice, body + "Zoe,F\n", query, **key).status_code == 422


@pytest.mark.parametrize("body", ["nam\n", "nam", "nam\n\n", "nam,address\nAna\n"])
def test_unknown_columns_refuse_a_file_without_a_good_row(as_alice: LoggedInClient, body: str) -> None:
    answer = send(as_alice, body, "?mode=apply&partial=true")
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"pointer": "/nam", "code": "unknown", "detail": "Unknown column; did you mean `name`?"}
    ]
    assert not Import.objects.exists()


def test_a_file_in_another_encoding_that_has_no_lines_there_is_refused(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "name\nAna\n".encode("utf-16le"), "?mode=apply&encoding=utf-16be")
    assert answer.status_code == 400
    assert not Import.objects.exists()


def test_a_file_with_a_header_alone_has_no_records(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "name,age\n", "?mode=apply")
    assert (answer.status_code, answer.json()["results"]) == (200, [])


def test_unknown_columns_refuse_the_file(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "nam,age\nAna,34\n", "?mode=apply")
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"pointer": "/nam", "code": "unknown", "detail": "Unknown column; did you mean `name`?"}
    ]


def test_another_type_than_csv_and_ndjson_is_refused(as_alice: LoggedInClient) -> None:
    answer = send(as_alice, "{}", media_type="application/json")
    assert (answer.status_code, answer.json()["detail"]) == (415, "Send the file as text/csv or application/x-ndjson.")
