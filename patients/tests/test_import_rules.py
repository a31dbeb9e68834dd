"""What an import does with records that others have merged, deleted or changed, and with rows that break a rule."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient
from healthcare.imports.models import ImportedLine
from patients.imports import PatientImporter
from patients.merges import merge
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient
from patients.tests.test_imports import NDJSON, result, send, summary

UPDATE = "?mode=apply&partial=true&on_match=update"


def test_a_row_that_breaks_a_rule_of_the_table_fails_alone(as_alice: LoggedInClient, monkeypatch: Any) -> None:
    usual = PatientImporter.new_record

    def with_a_bad_one(self: PatientImporter, validated: dict[str, Any]) -> Any:
        record: Any = usual(self, validated)
        record.gender = "X" if record.name in {"Bad 3", "Bad 4"} else record.gender
        return record

    monkeypatch.setattr(PatientImporter, "new_record", with_a_bad_one)
    names = ["Ana", "Bad 3", "Bad 4", "Dan", "Eva"]
    answer = send(as_alice, "\n".join(["name", *names]), "?mode=apply&partial=true")
    assert answer.json()["summary"] == summary(created=3, failed=2)
    error = {"pointer": "/gender", "code": "invalid", "detail": "This value violates a constraint of the record."}
    assert [one["errors"] for one in answer.json()["results"]] == [[], [error], [error], [], []]
    ids = [one["id"] for one in answer.json()["results"] if one["id"]]
    assert [Patient.objects.get(pk=key).name for key in ids] == ["Ana", "Dan", "Eva"]


def test_an_update_that_contradicts_what_is_stored_fails_alone(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1", birth_year=1990)
    ben = make_patient(alice, name="Ben", identifier="N-2", birth_year=1990)
    answer = send(as_alice, "identifier,deceased_on\nN-1,1980-01-01\nN-2,2020-01-01\n", UPDATE)
    assert [(one["status"], one["id"]) for one in answer.json()["results"]] == [("failed", None), ("updated", ben.pk)]
    assert [one["code"] for one in answer.json()["results"][0]["errors"]] == ["contradiction"]
    ana.refresh_from_db()
    assert ana.deceased_on is None


def test_a_row_that_contradicts_itself_fails_as_a_post_does(as_alice: LoggedInClient) -> None:
    body = {"name": "Ana", "birth_year": 1990, "deceased_on": "1980-01-01"}
    posted = as_alice.post("/api/patients/", body, content_type="application/json").json()["errors"]
    answer = send(as_alice, json.dumps(body), "?mode=apply&partial=true", NDJSON)
    assert answer.json()["results"] == [result(1, "failed", errors=posted)]
    assert [one["code"] for one in posted] == ["contradiction"]


def test_a_match_that_is_deleted_before_its_lock_is_a_conflict(
    as_alice: LoggedInClient, alice: User, monkeypatch: Any
) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1")
    usual = PatientImporter.match

    def then_delete(self: PatientImporter, rows: Any) -> None:
        usual(self, rows)
        Patient.objects.filter(pk=ana.pk).end()

    monkeypatch.setattr(PatientImporter, "match", then_delete)
    answer = send(as_alice, "identifier,name\nN-1,Anna\n", UPDATE)
    assert [one["code"] for one in answer.json()["results"][0]["errors"]] == ["conflict"]
    ana.refresh_from_db()
    assert ana.name == "Ana"


def test_an_update_locks_its_records_in_the_order_of_their_ids(as_alice: LoggedInClient, alice: User) -> None:
    for number in (1, 2):
        make_patient(alice, name=f"Ana{number}", identifier=f"N-{number}")
    with CaptureQueriesContext(connection) as queries:
        send(as_alice, "identifier,name\nN-2,Anna\nN-1,Anne\n", UPDATE)
    [locking] = [one["sql"] for one in queries if 'FROM "patients_patient"' in one["sql"] and " FOR " in one["sql"]]
    assert 'ORDER BY "patients_patient"."id" ASC FOR ' in locking


def test_an_update_writes_history_with_the_caller(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1")
    answer = send(as_alice, "identifier,name\nN-1,Anna\n", UPDATE)
    assert answer.json()["results"] == [result(2, "updated", id=ana.pk)]
    event = PatientEvent.objects.filter(id=ana.pk).latest("pgh_id")
    assert (event.name, event.pgh_context["actor"], event.pgh_context["request_id"]) == (
        "Anna",
        alice.pk,
        answer["X-Request-Id"],
    )
    assert [one["name"] for one in as_alice.get("/api/patients/?search=anna").json()] == ["Anna"]


def test_a_merged_patient_is_found_by_the_old_number_as_the_one_that_was_kept(
    as_alice: LoggedInClient, alice: User
) -> None:
    kept, merged = (make_patient(alice, name="Ana", identifier=number) for number in ("N-1", "N-2"))
    merge(kept, merged)
    answer = send(as_alice, "name,identifier\nAna,N-2\n")
    assert answer.json()["results"] == [result(2, "skipped", id=kept.pk)]


def test_a_deleted_patient_is_not_found(as_alice: LoggedInClient, alice: User) -> None:
    Patient.objects.filter(pk=make_patient(alice, name="Ana", identifier="N-1").pk).end()
    answer = send(as_alice, "name,identifier\nAna,N-1\n")
    assert answer.json()["results"] == [result(2, "created")]


@pytest.mark.parametrize(
    ("columns", "cells", "stored"),
    [("age,birth_year", "30,1980", 1980), ("age,birth_date", "30,1980-05-01", 1980), ("age,birth_year", ",1990", 1990)],
)
def test_an_age_gives_way_to_a_birth(as_alice: LoggedInClient, columns: str, cells: str, stored: int) -> None:
    answer = send(as_alice, f"name,{columns}\nAna,{cells}\n", "?mode=apply")
    assert answer.json()["summary"] == summary(created=1)
    assert Patient.objects.get().birth_year == stored


def test_an_age_fills_an_emptied_birth_year(as_alice: LoggedInClient, alice: User) -> None:
    ana = make_patient(alice, name="Ana", identifier="N-1", birth_year=1950)
    body = "identifier,name,age,birth_year\nN-1,Ana,30,\nN-2,Ben,40,\n"
    assert send(as_alice, body, f"{UPDATE}&empty=clear").json()["summary"] == summary(created=1, updated=1)
    ana.refresh_from_db()
    assert (ana.age, Patient.objects.get(identifier="N-2").age) == (30, 40)


def test_dates_of_another_form_are_read_and_those_of_iso_refused(as_alice: LoggedInClient) -> None:
    query = "?mode=apply&partial=true&date_format=%25d.%25m.%25Y"
    answer = send(as_alice, "name;birth_date\nAna;17.05.1980\nBen;1980-05-17\n", query)
    error = {"pointer": "/birth_date", "code": "invalid", "detail": "Write a day as `%d.%m.%Y`."}
    assert [one["errors"] for one in answer.json()["results"]] == [[], [error]]
    assert str(Patient.objects.get().birth_date) == "1980-05-17"


def test_a_file_names_its_server_and_old_ids(as_alice: LoggedInClient) -> None:
    send(as_alice, "id,version,name,server\n41,3,Ana,abc\n", "?mode=apply")
    lines = ImportedLine.objects.values_list("record_id", "server", "old_id")
    assert [*lines] == [(Patient.objects.get().pk, "abc", 41)]


@pytest.mark.parametrize(
    "body",
    ['{"name": "Ana", "identifiers": [{"system": {"a": 1}, "value": "x"}]}', '{"name": ["Ana"], "age": {}}',
     '{"name": "Ana", "identifier": [1]}', '{"name": "Ana", "contacts": "[", "id": [1], "server": {}}', '{}'],
)  # fmt: skip
def test_values_of_other_types_fail_the_row_alone(as_alice: LoggedInClient, body: str) -> None:
    answer = send(as_alice, f'{body}\n{{"name": "Ben"}}\n', "?mode=apply&partial=true", NDJSON)
    assert [one["status"] for one in answer.json()["results"]] == ["failed", "created"]


def test_more_rows_than_a_batch_are_imported_in_order(as_alice: LoggedInClient, alice: User) -> None:
    rows = [f"Person {number},N-{number % 1001}" for number in range(1005)]
    answer = send(as_alice, "\n".join(["name,identifier", *rows]), "?mode=apply")
    results = answer.json()["results"]
    assert answer.json()["summary"] == summary(created=1001, likely=4)
    assert [one["likely"] for one in results[1001:]] == [[{"line": line}] for line in (2, 3, 4, 5)]
    ids = [one["id"] for one in results[:1001]]
    names = dict(Patient.objects.values_list("pk", "name"))
    assert [names[key] for key in ids] == [f"Person {number}" for number in range(1001)]
