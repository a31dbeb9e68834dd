"""`manage.py erase_patient` removes a person permanently and writes a receipt."""

import io
import os
import pwd
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.models import IdempotencyRecord
from healthcare.tests.admin_pages import AdminClient
from healthcare.tests.live import Answer, LiveServer
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping
from patients.models import ErasureReceipt, Patient, PatientEvent
from patients.tests.factories import make_patient

CANARY = "Kanarienvogel"


def tables_that_say(word: str) -> set[str]:
    """Every table of the database with the word in any column of any row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        every = " UNION ALL ".join(
            f"SELECT '{table}' FROM {table} t WHERE t::text LIKE %(word)s"  # noqa: S608  (names from the catalogue)
            for table in tables
        )
        cursor.execute(every, {"word": f"%{word}%"})
        return {name for (name,) in cursor.fetchall()}


def erase(patient_id: int, *options: str) -> str:
    """Run the command without asking; what it printed."""
    printed = io.StringIO()
    call_command("erase_patient", str(patient_id), "--reason", "Request 17", "--yes", *options, stdout=printed)
    return printed.getvalue()


def log(user: User, record: Any, text: str) -> None:
    """An entry of the admin's log, which names the record."""
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(record),
        object_id=str(record.pk),
        object_repr=text,
        action_flag=CHANGE,
    )


@pytest.fixture
def canary(alice: User, staff: User) -> Patient:
    """A patient whose name is in every table that can hold a name."""
    fields = ("name", "identifier", "address", "phone")
    patient = make_patient(alice, **dict.fromkeys(fields, CANARY), email=f"{CANARY}@example.org")
    make_mapping(patient, make_doctor(alice), reason=CANARY)
    Mapping.objects.end()
    mapping = make_mapping(patient, make_doctor(alice), role=CANARY)
    log(staff, patient, CANARY)
    log(staff, mapping, CANARY)
    return patient


def test_an_erasure_leaves_no_trace_of_the_person_in_the_database(
    canary: Patient, alice: User, staff: User, as_alice: LoggedInClient
) -> None:
    kept = make_mapping(make_patient(alice, name="Kept"), make_doctor(alice))
    log(staff, kept.patient, "Kept")
    assert as_alice.patch(f"/api/patients/{canary.pk}/", {"address": f"{CANARY}gasse"}).status_code == 200
    assert {"patients_patient", "mappings_mapping", "django_admin_log"} <= tables_that_say(CANARY)
    before = as_alice.get("/api/mappings/").json()[:1]
    erase(canary.pk)
    assert tables_that_say(CANARY) == set()
    assert as_alice.get(f"/api/patients/{canary.pk}/").status_code == 404
    assert as_alice.post(f"/api/patients/{canary.pk}/restore/").status_code == 404
    assert as_alice.get("/api/mappings/").json() == before
    assert [row["name"] for row in as_alice.get("/api/patients/").json()] == ["Kept"]
    assert LogEntry.objects.get().object_repr == "Kept"


def test_the_number_of_erased_rows_is_printed_by_table(canary: Patient) -> None:
    printed = erase(canary.pk)
    receipt = ErasureReceipt.objects.get()
    counted = [f"  {table} {count}" for table, count in sorted(receipt.counts.items())]
    assert printed.splitlines() == ["Erased:", *counted, f"Receipt {receipt.pk}."]
    assert receipt.counts.items() >= {"patients_patient": 1, "mappings_mapping": 2, "django_admin_log": 2}.items()


def test_the_receipt_holds_only_when_by_whom_and_why(canary: Patient, staff: User) -> None:
    erase(canary.pk, "--by", "STAFF@example.org")
    receipt = ErasureReceipt.objects.get()
    assert (receipt.record_id, receipt.username, receipt.reason) == (canary.pk, "staff", "Request 17")
    assert receipt.account == pwd.getpwuid(os.getuid()).pw_name
    assert receipt.erased_at is not None
    assert "patients_erasurereceipt" not in tables_that_say(CANARY)


def test_a_deleted_patient_can_be_erased(canary: Patient, as_alice: LoggedInClient) -> None:
    assert as_alice.delete(f"/api/patients/{canary.pk}/").status_code == 204
    erase(canary.pk)
    assert as_alice.get("/api/patients/?deleted=true").json() == []
    assert tables_that_say(CANARY) == set()


def test_an_erasure_covers_the_records_merged_into_the_patient(
    canary: Patient, alice: User, as_alice: LoggedInClient
) -> None:
    middle, survivor = make_patient(alice, name=CANARY), make_patient(alice, name="Last")
    for into, duplicate in ((middle, canary), (survivor, middle)):
        answer = as_alice.post(f"/api/patients/{into.pk}/merge/", {"duplicate": duplicate.pk})
        assert answer.status_code == 200
    assert {"patients_patientmerge", "patients_patientevent"} <= tables_that_say(CANARY)
    for duplicate in (canary, middle):
        with pytest.raises(CommandError, match=r"^Patient \d+ was merged into \d+: erase that one, and this goes with"):
            erase(duplicate.pk)
    erase(survivor.pk)
    assert tables_that_say(CANARY) == set()
    assert not Patient.objects.exists()
    accesses = AccessLog.objects.values_list("patient_ids", flat=True)
    assert {key for keys in accesses for key in keys} & {canary.pk, middle.pk, survivor.pk} == set()
    receipt = ErasureReceipt.objects.get()
    assert receipt.counts.items() >= {"patients_patient": 3, "patients_patientmerge": 2, "mappings_mapping": 2}.items()


def test_an_erasure_covers_values_that_an_undone_merge_copied_to_another_patient(
    canary: Patient, alice: User, as_alice: LoggedInClient
) -> None:
    other, another = (make_patient(alice, name=name) for name in ("Other", "Another"))
    path = f"/api/patients/{other.pk}/"
    for verb, into, duplicate in (
        ("merge", other, canary), ("merge", another, other), ("unmerge", another, other), ("unmerge", other, canary),
    ):  # fmt: skip
        answer = as_alice.post(f"/api/patients/{into.pk}/{verb}/", {"duplicate": duplicate.pk})
        assert answer.status_code == 200
    as_alice.patch(path, {"phone": "7"})
    assert "patients_patientmerge" not in tables_that_say(CANARY)
    erase(canary.pk)
    assert tables_that_say(CANARY) == set()
    for patient, body, versions in ((other, {"name": "Other", "phone": "7"}, [6, 5, 1]), (another, {}, [3, 1])):
        path = f"/api/patients/{patient.pk}/"
        assert as_alice.get(path).json().items() >= (body | {"address": ""}).items()
        assert [row["version"] for row in as_alice.get(f"{path}history/").json()] == versions


def test_the_survivor_of_an_undone_merge_leaves_the_other_patient_its_history(
    canary: Patient, alice: User, as_alice: LoggedInClient
) -> None:
    last, other = make_patient(alice, name="Last"), make_patient(alice, name="Other", phone="7")
    mapping = make_mapping(other, make_doctor(alice), reason="knee")
    for verb, into, duplicate in (
        ("merge", canary, other), ("merge", last, canary), ("unmerge", last, canary), ("unmerge", canary, other),
    ):  # fmt: skip
        answer = as_alice.post(f"/api/patients/{into.pk}/{verb}/", {"duplicate": duplicate.pk})
        assert answer.status_code == 200
    histories = [f"/api/patients/{other.pk}/history/", f"/api/mappings/{mapping.pk}/history/"]
    before = [as_alice.get(path).json() for path in histories]
    assert [len(rows) for rows in before] == [3, 5]
    erase(canary.pk)
    assert tables_that_say(CANARY) == set()
    assert [as_alice.get(path).json() for path in histories] == before
    erase(last.pk)
    assert [as_alice.get(path).json() for path in histories] == before
    erase(other.pk)
    assert tables_that_say("knee") == set()
    assert not MappingEvent.objects.exists()
    assert not PatientEvent.objects.exists()


def keyed(client: LoggedInClient, key: str, path: str, body: dict[str, Any]) -> Any:
    return client.post(path, body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_an_erasure_erases_only_the_stored_answers_about_the_person(
    settings: Any, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, fast_path: str
) -> None:
    settings.FAST_PATH = fast_path
    doctor = make_doctor(alice)
    erased, other = (keyed(as_alice, name, "/api/patients/", {"name": name}).json() for name in (CANARY, "Other"))
    duplicate = make_patient(alice, name="Duplicate", phone=CANARY)
    make_mapping(make_patient(alice), doctor)
    merge, restore = f"/api/patients/{erased['id']}/merge/", f"/api/patients/{erased['id']}/restore/"
    as_alice.delete(f"/api/patients/{erased['id']}/")
    about_the_person: list[tuple[str, str, dict[str, Any]]] = [
        (CANARY, "/api/patients/", {"name": CANARY}),
        ("restore", restore, {}),
        ("merge", merge, {"duplicate": duplicate.pk}),
        ("mapping", "/api/mappings/", {"patient": erased["id"], "doctor": doctor.pk, "reason": CANARY}),
    ]
    about_others: list[tuple[str, str, dict[str, Any]]] = [
        ("Other", "/api/patients/", {"name": "Other"}),
        ("mapping-of-another", "/api/mappings/", {"patient": other["id"], "doctor": doctor.pk}),
        ("doctor", "/api/doctors/", {"name": "Rao"}),
    ]
    answers = {key: keyed(as_alice, key, path, body) for key, path, body in [*about_the_person, *about_others]}
    assert {answer.status_code for answer in answers.values()} <= {200, 201}
    of_bob = keyed(as_bob, CANARY, "/api/patients/", {"name": "Of bob"})
    erase(erased["id"])
    assert tables_that_say(CANARY) == set()
    assert ErasureReceipt.objects.get().counts["api_idempotencyrecord"] == len(about_the_person)
    for key, path, body in about_others:
        again = keyed(as_alice, key, path, body)
        assert (again.status_code, again.content) == (answers[key].status_code, answers[key].content)
        assert again["Idempotency-Replayed"] == "true"
    assert keyed(as_bob, CANARY, "/api/patients/", {"name": "Of bob"}).content == of_bob.content
    for key, path, body in about_the_person:
        gone = keyed(as_alice, key, path, body)
        assert (gone.status_code, gone["Content-Type"]) == (410, "application/problem+json"), key
        assert gone.json()["detail"] == "What this request wrote has been erased; it is not executed again."
        assert "Link" not in gone
        if path == "/api/patients/":
            assert keyed(as_alice, key, path, {"name": "X"}).status_code == 422
    assert sorted(row["name"] for row in as_alice.get("/api/patients/").json()) == ["John Smith", "Other"]


def test_an_answer_of_an_earlier_version_is_erased_with_any_patient_of_its_owner(
    as_alice: LoggedInClient, alice: User
) -> None:
    keyed(as_alice, "k", "/api/patients/", {"name": CANARY})
    IdempotencyRecord.objects.update(request_id="")
    erase(make_patient(alice).pk)
    assert keyed(as_alice, "k", "/api/patients/", {"name": CANARY}).status_code == 410


def test_a_dry_run_counts_and_erases_nothing(canary: Patient) -> None:
    printed = erase(canary.pk, "--dry-run").splitlines()
    assert Patient.objects.filter(pk=canary.pk).exists()
    assert {"patients_patient", "mappings_mapping", "django_admin_log"} <= tables_that_say(CANARY)
    assert not ErasureReceipt.objects.exists()
    erased = erase(canary.pk).splitlines()
    assert (printed[0], erased[0]) == ("Would be erased:", "Erased:")
    assert printed[1:] == erased[1:-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reason", "x"], "There is no patient 4242."),
        (["--reason", "  "], "--reason: This field cannot be blank."),
        (["--reason", "two\nlines"], "--reason: Enter one line of visible text."),
        (["--reason", "x" * 501], "--reason: Ensure this value has at most 500 characters (it has 501)."),
        (["--reason", "x", "--by", "nobody"], "--by: There is no active member of staff with this username."),
        (["--reason", "x", "--by", "alice"], "--by: There is no active member of staff with this username."),
        ([], "Error: the following arguments are required: --reason"),
    ],
)
@pytest.mark.usefixtures("alice")
def test_invalid_arguments_are_refused_and_erase_nothing(options: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=f"^{message.replace('(', '.').replace(')', '.')}$"):
        call_command("erase_patient", "4242", "--yes", *options)
    assert not ErasureReceipt.objects.exists()


def test_the_admin_lists_receipts_and_changes_none(canary: Patient, staff: User) -> None:
    erase(canary.pk)
    receipt, client = ErasureReceipt.objects.get(), AdminClient(staff)
    assert "Request 17" in client.page("/admin/patients/erasurereceipt/")
    assert "Request 17" in client.page(f"/admin/patients/erasurereceipt/{receipt.pk}/change/")
    for path in ("add/", f"{receipt.pk}/delete/"):
        assert client.post(f"/admin/patients/erasurereceipt/{path}", {"post": "yes"}).status_code == 403
    assert ErasureReceipt.objects.exists()


def run(live: LiveServer, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own on the live server's database, with somebody to ask."""
    command = [sys.executable, "-m", "django", "erase_patient", *arguments]
    return subprocess.run(
        command, input=answer, capture_output=True, text=True, env=live.environment, cwd=settings.BASE_DIR, timeout=300
    )


@pytest.mark.slow
def test_the_command_asks_for_confirmation(live: LiveServer) -> None:
    token = live.register()[1]["access"]
    number = live.call("POST", "/api/patients/", {"name": "X"}, token).json["id"]
    path = f"/api/patients/{number}/"
    for answer, message in (("", "Nobody to ask"), ("yes\n", "Nothing was erased."), ("\n", "Nothing was erased.")):
        refused = run(live, str(number), "--reason", "x", answer=answer)
        assert (refused.returncode, refused.stdout.splitlines()[0]) == (1, "Would be erased:")
        assert "  patients_patient 1" in refused.stdout.splitlines()
        assert message in refused.stderr
        assert live.call("GET", path, None, token).status == 200
    done = run(live, str(number), "--reason", "x", answer=f"{number}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert live.call("GET", path, None, token).status == 404
    assert run(live, str(number), "--reason", "x", "--yes").returncode == 1


def changed_until_gone(live: LiveServer, path: str, token: str) -> Answer:
    """The first answer that is not 200."""
    for number in range(5000):
        answer = live.call("PATCH", path, {"address": f"Number {number}"}, token)
        if answer.status != 200:
            break
    return answer


@pytest.mark.slow
def test_an_erasure_that_races_with_requests_leaves_nothing_behind(live: LiveServer) -> None:
    token = live.register()[1]["access"]
    for _ in range(3):
        number = live.call("POST", "/api/patients/", {"name": "X"}, token).json["id"]
        pairs = [
            {"patient": number, "doctor": live.call("POST", "/api/doctors/", {"name": "D"}, token).json["id"]}
            for _ in range(4)
        ]
        path, arguments = f"/api/patients/{number}/", (str(number), "--reason", "x", "--yes")
        with ThreadPoolExecutor() as threads:
            writers = [threads.submit(changed_until_gone, live, path, token) for _ in range(3)]
            assigned = [threads.submit(live.call, "POST", "/api/mappings/", pair, token) for pair in pairs]
            erased = run(live, *arguments)
            assert (erased.returncode, erased.stderr) == (0, "")
            assert {writer.result().status for writer in writers} == {404}
            assert {answer.result().status for answer in assigned} <= {201, 400, 409}
        assert live.call("GET", "/api/mappings/", None, token).json == []
