"""POST /api/mappings/import/: assignments by ids, by numbers, and by the ids of another server."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.delegations.models import Delegation
from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.imports.models import Import
from healthcare.imports.tests.factories import make_import
from mappings.imports import MappingImporter
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db
PATH = "/api/mappings/import/"
OTHER_SERVER = "5f0c7d3e-0000-4000-8000-000000000000"


def send(client: LoggedInClient, rows: list[dict[str, Any]], query: str = "?mode=apply") -> Any:
    body: Any = "\n".join(json.dumps(row) for row in rows).encode()
    return client.generic("POST", f"{PATH}{query}", body, content_type="application/x-ndjson")


def results(answer: Any) -> list[tuple[Any, ...]]:
    return [(row["status"], row["id"], row["likely"]) for row in answer.json()["results"]]


def errors(answer: Any) -> list[dict[str, str]]:
    return [error for row in answer.json()["results"] for error in row["errors"]]


def test_assignments_are_created_by_ids(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctors = make_patient(alice), [make_doctor(alice) for _ in range(3)]
    rows = [
        {"patient": patient.pk, "doctor": doctors[0].pk, "role": "GP", "is_primary": True},
        {"patient": patient.pk, "doctor": doctors[1].pk, "started_at": "2020-01-01T10:00:00.123456Z"},
        {
            "patient": patient.pk, "doctor": doctors[2].pk, "started_at": "2020-01-01T10:00:00Z",
            "ended_at": "2021-01-01T10:00:00Z",
        },
    ]  # fmt: skip
    answer = send(as_alice, rows)
    created = [*Mapping.objects.order_by("pk")]
    assert results(answer) == [("created", mapping.pk, []) for mapping in created]
    assert [(mapping.doctor, mapping.role, mapping.is_primary, bool(mapping.ended_at)) for mapping in created] == [
        (doctors[0], "GP", True, False), (doctors[1], "", False, False), (doctors[2], "", False, True),
    ]  # fmt: skip
    assert [event.pgh_label for event in MappingEvent.objects.all()] == ["insert"] * 3
    assert {mapping.created_by for mapping in created} == {alice}
    log = AccessLog.objects.get()
    assert (log.action, log.patient_ids, log.outcome) == ("mapping.import", [patient.pk], 200)
    assert Import.objects.get().kind == "mappings"


def test_csv_with_the_servers_columns_is_imported_once(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctor = make_patient(alice), make_doctor(alice)
    lines = [
        "id,patient,doctor,role,is_primary,started_at,ended_at,version,created_by",
        f"7,{patient.pk},{doctor.pk},GP,true,2020-01-01T10:00:00Z,,3,9",
        f"8,{patient.pk},{doctor.pk},,false,2019-01-01T10:00:00Z,2019-06-01T10:00:00Z,1,9",
    ]
    body: Any = "\r\n".join(lines).encode()
    answers = [
        as_alice.generic("POST", f"{PATH}?mode=apply&on_likely=create", body, content_type="text/csv") for _ in range(2)
    ]
    keys = [*Mapping.objects.order_by("pk").values_list("pk", flat=True)]
    assert results(answers[0]) == [("created", keys[0], []), ("created", keys[1], [])]
    assert results(answers[1]) == [("skipped", keys[0], []), ("skipped", keys[1], [])]


def test_ends_are_named_by_numbers(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    patient = make_patient(alice, identifier="P-1")
    make_patient(bob, identifier="P-1")
    doctor = make_doctor(alice, license_number="L-1")
    [row] = results(send(as_alice, [{"patient_identifier": "P-1", "doctor_license": "l-1"}]))
    mapping = Mapping.objects.get()
    assert (row, mapping.patient, mapping.doctor) == (("created", mapping.pk, []), patient, doctor)


def test_what_nobody_sees_in_a_number_does_not_count(as_alice: LoggedInClient, alice: User) -> None:
    patient, doctor = make_patient(alice, identifier="P-1"), make_doctor(alice, license_number="L-1")
    send(as_alice, [{"patient_identifier": " P-1\u200b", "doctor_license": "\ufeffL-1"}])
    mapping = Mapping.objects.get()
    assert (mapping.patient, mapping.doctor) == (patient, doctor)


def test_unknown_ambiguous_and_foreign_numbers_are_refused(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    for _ in range(2):
        make_patient(alice, identifier="twice")
    patient, doctor = make_patient(alice), make_doctor(alice)
    foreign, gone = make_patient(bob, identifier="bobs"), make_patient(alice, identifier="gone")
    Patient.objects.filter(pk=gone.pk).end()
    rows: list[dict[str, Any]] = [
        *({"patient_identifier": number, "doctor": doctor.pk} for number in ("none", "bobs", "gone", "twice", 7)),
        {"patient": patient.pk, "doctor_license": "none"},
        {"patient": patient.pk, "patient_identifier": "twice", "doctor": doctor.pk},
        *({"patient": key, "doctor": doctor.pk} for key in (foreign.pk, 2**40, gone.pk)),
        {"doctor": doctor.pk},
        {"patient_identifier": ["N-1"], "doctor": doctor.pk},
    ]
    answer = send(as_alice, rows, "?mode=check")
    assert [(error["pointer"], error["code"]) for error in errors(answer)] == [
        ("/patient_identifier", "does_not_exist"), ("/patient_identifier", "does_not_exist"),
        ("/patient_identifier", "does_not_exist"), ("/patient_identifier", "ambiguous"),
        ("/patient_identifier", "invalid"), ("/doctor_license", "does_not_exist"), ("/patient_identifier", "invalid"),
        ("/patient", "does_not_exist"), ("/patient", "does_not_exist"), ("/patient", "does_not_exist"),
        ("/patient", "required"), ("/patient_identifier", "invalid"),
    ]  # fmt: skip
    assert len({error["detail"] for error in errors(answer) if error["code"] == "does_not_exist"}) == 1


def test_ids_of_another_server_are_those_that_were_imported_from_there(
    as_alice: LoggedInClient, alice: User, bob: User
) -> None:
    patient, doctor, others = make_patient(alice), make_doctor(alice), make_patient(bob)
    kept, merged = make_patient(alice), make_patient(alice)
    origin = {"server": OTHER_SERVER, "version": 1}
    make_import(
        alice,
        "patients",
        {"record_id": patient.pk, "old_id": 1} | origin,
        {"record_id": merged.pk, "old_id": 2} | origin,
    )
    make_import(alice, "doctors", {"record_id": doctor.pk, "old_id": 1} | origin)
    make_import(bob, "patients", {"record_id": others.pk, "old_id": 3} | origin)
    merge(kept, merged)
    rows = [
        {"id": 9, "patient": old, "doctor": 1, "server": server}
        for old, server in ((1, OTHER_SERVER), ("2", OTHER_SERVER), (3, OTHER_SERVER), (1, "another"))
    ]
    answer = send(as_alice, rows, "?mode=apply&partial=true")
    assert [row["status"] for row in answer.json()["results"]] == ["created", "created", "failed", "failed"]
    assert [*Mapping.objects.order_by("pk").values_list("patient", "doctor")] == [
        (patient.pk, doctor.pk), (kept.pk, doctor.pk),
    ]  # fmt: skip
    assert {(error["pointer"], error["code"]) for error in errors(answer)} == {
        ("/patient", "does_not_exist"), ("/doctor", "does_not_exist"),
    }  # fmt: skip
    assert [*Import.objects.get(kind="mappings").lines.order_by("line").values_list("old_id", "server")][:1] == [
        (9, OTHER_SERVER)
    ]


def test_a_delegate_finds_the_doctors_of_own_imports_and_of_the_owners(
    as_bob: LoggedInClient, alice: User, bob: User, staff: User
) -> None:
    Delegation.objects.create(owner=alice, delegate=bob, role="manage")
    patient, *doctors = make_patient(alice), make_doctor(bob), make_doctor(alice), make_doctor(staff)
    origin = {"server": OTHER_SERVER, "version": 1}
    make_import(alice, "patients", {"record_id": patient.pk, "old_id": 1} | origin)
    make_import(bob, "patients", {"record_id": make_patient(bob).pk, "old_id": 2} | origin)
    for old_id, (importing, doctor) in enumerate(zip((bob, alice, staff), doctors, strict=True), start=1):
        make_import(importing, "doctors", {"record_id": doctor.pk, "old_id": old_id} | origin)
    rows = [{"patient": 1, "doctor": old_id, "server": OTHER_SERVER} for old_id in (1, 2, 3)]
    rows.append({"patient": 2, "doctor": 1, "server": OTHER_SERVER})
    as_bob.defaults["HTTP_X_ACTING_FOR"] = "alice"
    answer = send(as_bob, rows, "?mode=apply&partial=true")
    assert [row["status"] for row in answer.json()["results"]] == ["created", "created", "failed", "failed"]
    assert [(error["pointer"], error["code"]) for error in errors(answer)] == [
        ("/doctor", "does_not_exist"), ("/patient", "does_not_exist"),
    ]  # fmt: skip
    assert [*Mapping.objects.order_by("pk").values_list("created_by", "patient", "doctor")] == [
        (alice.pk, patient.pk, doctors[0].pk), (alice.pk, patient.pk, doctors[1].pk),
    ]  # fmt: skip


def test_the_active_assignment_of_both_matches(as_alice: LoggedInClient, alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice), role="GP")
    row = {"patient": mapping.patient_id, "doctor": mapping.doctor_id, "role": "surgeon"}
    assert results(send(as_alice, [row])) == [("skipped", mapping.pk, [])]
    assert errors(send(as_alice, [row], "?on_match=refuse"))[0]["code"] == "unique"
    assert results(send(as_alice, [row], "?match=none")) == [("likely", None, [{"id": mapping.pk}])]
    assert errors(send(as_alice, [row], "?match=none&on_likely=create"))[0]["code"] == "unique"
    assert results(send(as_alice, [row], "?mode=apply&on_match=update")) == [("updated", mapping.pk, [])]
    assert results(send(as_alice, [row], "?mode=apply&on_match=update")) == [("unchanged", mapping.pk, [])]
    mapping.refresh_from_db()
    assert (mapping.role, mapping.version) == ("surgeon", 2)


def test_an_update_ends_an_assignment_and_reopens_none(as_alice: LoggedInClient, alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    row = {"patient": mapping.patient_id, "doctor": mapping.doctor_id, "started_at": mapping.started_at.isoformat()}
    ended = row | {"ended_at": mapping.started_at.isoformat()}
    assert results(send(as_alice, [ended], "?mode=apply&on_match=update")) == [("updated", mapping.pk, [])]
    mapping.refresh_from_db()
    assert mapping.ended_at == mapping.started_at
    assert results(send(as_alice, [row | {"role": "GP"}], "?mode=apply&on_match=update")) == [
        ("updated", mapping.pk, [])
    ]
    assert not Mapping.objects.active().exists()


def test_a_second_row_of_the_same_assignment_is_held(as_alice: LoggedInClient, alice: User) -> None:
    row = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    for query in ("?mode=check", "?mode=check&match=none"):
        assert results(send(as_alice, [row, row], query)) == [("created", None, []), ("likely", None, [{"line": 1}])]


def test_a_second_primary_doctor_is_refused_as_by_a_post(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    rows = [{"patient": patient.pk, "doctor": make_doctor(alice).pk, "is_primary": True} for _ in range(2)]
    single = [as_alice.post("/api/mappings/", row, format="json") for row in rows][1].json()["errors"]
    Mapping.objects.all().delete()
    answer = send(as_alice, rows, "?mode=apply&partial=true")
    assert [row["status"] for row in answer.json()["results"]] == ["created", "failed"]
    assert errors(answer) == single


def test_another_doctor_becomes_primary_where_an_update_makes_room(as_alice: LoggedInClient, alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice), is_primary=True)
    other = make_doctor(alice)
    rows = [
        {"patient": mapping.patient_id, "doctor": mapping.doctor_id, "is_primary": False},
        {"patient": mapping.patient_id, "doctor": other.pk, "is_primary": True},
    ]
    answer = send(as_alice, rows, "?mode=apply&on_match=update")
    assert [row["status"] for row in answer.json()["results"]] == ["updated", "created"]
    assert Mapping.objects.get(is_primary=True).doctor == other


def test_the_number_of_statements_does_not_grow_with_the_rows(as_alice: LoggedInClient, alice: User) -> None:
    numbers = []
    for rows in (2, 12):
        body = [{"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk} for _ in range(rows)]
        with CaptureQueriesContext(connection) as queries:
            assert results(send(as_alice, body))
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]


def test_a_patient_who_is_deleted_during_the_import_stops_it(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    after_write = MappingImporter.after_write

    def delete(self: MappingImporter, rows: Any) -> None:
        after_write(self, rows)
        Patient.objects.end()

    monkeypatch.setattr(MappingImporter, "after_write", delete)
    assert send(as_alice, [row]).status_code == 409
    assert (Mapping.objects.count(), Patient.objects.active().count()) == (0, 1)
