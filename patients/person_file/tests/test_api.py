"""POST /api/patients/<id>/file/"""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from accounts.delegations.models import Delegation
from accounts.models import Attempts, User
from audit.models import AccessLog
from conftest import PASSWORD, LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.legal_hold import set_hold
from patients.models import Patient
from patients.person_file.tests.reading import PARTS, ask, open_file, parsed, read_file
from patients.tests.factories import make_patient
from patients.tests.merging import merge

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice, name="Ana <b>Rao</b>", phone="+91 80 5550 0100", medical_history="2019 asthma\n2024 flu")


def without_request_id(answer: Any) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


def test_the_answer_is_an_archive_with_a_fixed_order_and_no_times(as_alice: LoggedInClient, patient: Patient):
    answer = ask(as_alice, patient)
    assert (answer.status_code, answer["Content-Type"], answer["Content-Disposition"], answer["Cache-Control"]) == (
        200, "application/zip", f'attachment; filename="patient-{patient.pk}.zip"', "no-store",
    )  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        entries = archive.infolist()
        assert sorted(archive.namelist()) == PARTS
    assert [entry.filename for entry in entries][-2:] == ["index.html", "manifest.json"]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100600}
    assert {(entry.flag_bits, entry.extra, entry.comment) for entry in entries} == {(0, b"", b"")}


def test_the_file_has_the_record_its_history_the_doctors_and_the_accesses(as_alice: LoggedInClient, patient: Patient):
    make_mapping(patient, make_doctor(patient.created_by, name="Dr. Meera Rao"), role="cardiologist", notes="sees well")
    as_alice.patch(f"/api/patients/{patient.pk}/", {"address": "Mysuru"}, headers={"X-Change-Reason": "has moved"})
    found = read_file(as_alice, patient)
    record = as_alice.get(f"/api/patients/{patient.pk}/").json()
    del record["created_by"]
    assert found["patient"] == {"records": [record | {"fhir": "", "deleted_at": None, "merged_into": None}]}
    changed, created = found["history"]["changes"]
    assert (changed["action"], changed["by"], changed["reason"]) == ("update", "owner", "has moved")
    assert changed["changes"] == {"address": ["", "Mysuru"]}
    assert (created["action"], created["changes"]["phone"]) == ("create", [None, "+91 80 5550 0100"])
    assignment = found["care_team"]["assignments"][0]
    assert (assignment["doctor"]["name"], assignment["role"], assignment["notes"]) == (
        "Dr. Meera Rao", "cardiologist", "sees well",
    )  # fmt: skip
    assert [change["action"] for change in found["care_team"]["changes"]] == ["create"]
    accesses = [
        {name: access[name] for name in ("action", "by", "outcome")} for access in found["accesses"]["accesses"]
    ]
    assert accesses == [{"action": "patient.partial_update", "by": "owner", "outcome": 200}]


def test_the_manifest_has_the_sha_256_of_every_other_part(as_alice: LoggedInClient, patient: Patient):
    answer = ask(as_alice, patient)
    manifest = parsed(answer.content)["manifest"]
    assert [part["name"] for part in manifest["parts"]] == [name for name in PARTS if name != "manifest.json"]
    assert (manifest["format"], manifest["patient"], manifest["records"], manifest["names"]) == (
        "healthcare-person-file-1", patient.pk, [patient.pk], False,
    )  # fmt: skip


def test_the_read_is_in_the_access_log_with_the_merged_records(as_alice: LoggedInClient, patient: Patient):
    duplicate = make_patient(patient.created_by, name="Ana R.")
    assert merge(as_alice, patient, duplicate).status_code == 200
    found = read_file(as_alice, patient)
    assert [record["id"] for record in found["patient"]["records"]] == [patient.pk, duplicate.pk]
    access = AccessLog.objects.latest("id")
    assert (access.action, access.patient_ids, access.basis, access.outcome) == (
        "patient.file", sorted([patient.pk, duplicate.pk]), "owner", 200,
    )  # fmt: skip


def test_a_merged_patient_answers_410_with_the_path_of_the_kept_one(as_alice: LoggedInClient, patient: Patient):
    duplicate = make_patient(patient.created_by)
    merge(as_alice, patient, duplicate)
    answer = ask(as_alice, duplicate)
    assert (answer.status_code, answer["Link"]) == (410, f'</api/patients/{patient.pk}/>; rel="successor-version"')


def test_a_deleted_patient_and_one_under_a_legal_hold_have_a_file(as_alice: LoggedInClient, patient: Patient):
    as_alice.delete(f"/api/patients/{patient.pk}/")
    set_hold(patient.pk, reason="Case 2026-7")
    answer = ask(as_alice, patient)
    assert b"Case" not in answer.content
    found = parsed(answer.content)
    assert found["patient"]["records"][0]["deleted_at"] is not None
    assert [hold["released_at"] for hold in found["history"]["holds"]] == [None]
    assert "Case 2026-7" not in json.dumps(found)


def test_anothers_patient_reads_like_a_missing_one_and_is_recorded(as_bob: LoggedInClient, bob: User, patient: Patient):
    foreign, missing = ask(as_bob, patient), ask(as_bob, 999_999)
    assert (foreign.status_code, without_request_id(foreign)) == (404, without_request_id(missing))
    refused = AccessLog.objects.filter(actor=bob.pk, action="patient.file", outcome=404)
    assert sorted(access.patient_ids[0] for access in refused) == sorted([patient.pk, 999_999])


def test_a_wrong_password_is_counted_and_nothing_is_answered(as_alice: LoggedInClient, patient: Patient):
    answer = ask(as_alice, patient, "WrongPass123")
    assert (answer.status_code, answer.json()["errors"]) == (
        400,
        [{"pointer": "/current_password", "code": "invalid", "detail": "This is not the current password."}],
    )
    assert Attempts.objects.filter(kind="session").exists()
    assert not AccessLog.objects.filter(action="patient.file").exists()
    statuses = [ask(as_alice, patient, "WrongPass123").status_code for _ in range(10)]
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("/current_password", "required")]),
        ({"current_password": ""}, [("/current_password", "blank")]),
        ({"current_password": None}, [("/current_password", "null")]),
        ({"current_password": PASSWORD, "names": True}, [("/names", "unknown")]),
    ],
    ids=["nothing", "empty", "null", "another field"],
)
def test_the_body_is_checked(as_alice: LoggedInClient, patient: Patient, body: Any, errors: list[tuple[str, str]]):
    answer = as_alice.post(f"/api/patients/{patient.pk}/file/", body)
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == errors


def test_an_idempotency_key_and_an_unknown_parameter_are_refused(as_alice: LoggedInClient, patient: Patient):
    assert ask(as_alice, patient, headers={"Idempotency-Key": "1"}).status_code == 400
    answer = as_alice.post(f"/api/patients/{patient.pk}/file/?names=true", {"current_password": PASSWORD})
    assert answer.status_code == 400


def test_only_a_delegate_who_manages_gets_the_file(
    as_bob: LoggedInClient, alice: User, bob: User, patient: Patient, django_user_model: Any
):
    delegation = Delegation.objects.create(owner=alice, delegate=bob, role="write")
    answer = ask(as_bob, patient, headers={"X-Acting-For": "alice"})
    assert (answer.status_code, answer.json()["code"]) == (403, "role_too_low")
    Delegation.objects.filter(pk=delegation.pk).update(role="manage")
    answer = ask(as_bob, patient, headers={"X-Acting-For": "alice"})
    assert (answer.status_code, answer["X-Acting-For"]) == (200, "alice")
    access = AccessLog.objects.latest("id")
    assert (access.actor, access.basis) == (bob.pk, "delegate")


def test_a_file_above_32_mib_is_refused_with_the_command_that_writes_it(
    as_alice: LoggedInClient, patient: Patient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("patients.person_file.views.LARGEST_PERSON_FILE", 1_000)
    answer = ask(as_alice, patient)
    assert (answer.status_code, answer.json()["code"]) == (409, "file_too_large")
    assert f"`manage.py export_patient {patient.pk} --to FILE`" in answer.json()["detail"]
    assert not AccessLog.objects.filter(action="patient.file", outcome=200).exists()


def test_the_page_escapes_what_it_shows_and_has_no_script(as_alice: LoggedInClient, patient: Patient):
    page = open_file(ask(as_alice, patient).content)["index.html"]
    assert "Ana &lt;b&gt;Rao&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert '<html lang="en">' in page
    assert page.count("<table>") == page.count("<caption>") == 2


def test_the_file_reads_as_many_statements_for_many_rows_as_for_few(
    as_alice: LoggedInClient, patient: Patient, django_assert_max_num_queries: Callable[..., Any]
):
    read_file(as_alice, patient)
    for number in range(5):
        as_alice.patch(f"/api/patients/{patient.pk}/", {"address": f"Street {number}"})
        make_mapping(patient, make_doctor(patient.created_by))
    with django_assert_max_num_queries(60):
        read_file(as_alice, patient)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('role')")
        assert cursor.fetchone() == ("none",)
