"""`manage.py demo`: what it adds passes the API's own validation, has a past that verifies, and is added once."""

import re
import signal
import subprocess
import sys
import time
import unicodedata
from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import psycopg2
import pytest
from django.apps import apps
from django.conf import settings as project_settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from accounts.delegations.models import Delegation, DelegationEvent
from accounts.models import Attempts, User
from audit.models import AccessLog, Basis, UserEvent
from conftest import logged_in
from doctors.models import Doctor, DoctorEvent
from doctors.serializers import DoctorSerializer
from healthcare.management.commands import demo as demo_command
from healthcare.management.commands.demo import parse_patients, parse_seed
from healthcare.tests.curl_commands import run_bash
from healthcare.tests.live import LiveServer, environment_of, migrate, own_database, serving, url_of
from mappings.models import Mapping, MappingEvent
from patients.models import Patient, PatientEvent, PatientMerge
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient

pytestmark = pytest.mark.slow

RECORDS = {Patient: PatientEvent, Doctor: DoctorEvent, Mapping: MappingEvent}
SEAL_KEY = "a key of at least thirty-two characters"
# Ofcom, the North American 555-01xx, Bundesnetzagentur, Arcep and PTS; after any other country code 00, which is no
# beginning of a number anywhere.
RESERVED_PHONE = re.compile(
    r"\+44 (20 7946 0|161 496 0|7700 900)\d{3}|\+1 \d{3} 555 01\d\d|\+49 (30 23125|89 99998|40 66969) \d{3}"
    r"|\+33 (1 99 00|6 39 98) \d\d \d\d|(\+46 |0)(8[ -]465 ?004 ?|31 390 06 )\d\d"
    r"|\+(91|880|962|972|7|380|30|374|995|86|81|82|66|84|55|52|48) 00 5550 ?\d{4}"
)
ADDRESS_OF_NOBODY = re.compile(r"[a-z0-9.]+@(demo\.)?example\.(org|com|net)")


def add_demo(*arguments: str) -> str:
    output = StringIO()
    call_command("demo", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def demo(db: None) -> str:
    """What the command printed for 80 patients."""
    return add_demo("--patients", "80")


def test_every_record_passes_the_validation_of_the_api(demo: str):
    assert (Patient.objects.count(), User.objects.count(), Doctor.objects.count()) == (80, 12, 30)
    serializers: Any = ((Patient, PatientSerializer), (Doctor, DoctorSerializer))
    for model, serializer in serializers:
        own = serializer()
        sent = [name for name, field in own.fields.items() if not field.read_only and name not in {"age", "version"}]
        for record in model.objects.all():
            body = {name: value for name, value in serializer(record).data.items() if name in sent}
            stored = {name: getattr(record, name) for name in sent if name != "experience_years"}
            validated = serializer().run_validation(body)
            assert {name: validated[name] for name in stored} == stored
    for record in [record for model in [*RECORDS, User] for record in model._default_manager.all()]:
        record.full_clean(exclude={"email"} if getattr(record, "is_clinic", False) else None)


def test_nobody_can_be_reached(demo: str):
    for phone in phones():
        assert RESERVED_PHONE.fullmatch(phone), phone
    emails = [
        email for model in (Patient, Doctor, User) for email in model._default_manager.values_list("email", flat=True)
    ]
    assert len([email for email in emails if email]) > 60
    assert [email for email in emails if email and not ADDRESS_OF_NOBODY.fullmatch(email)] == []


def phones() -> Iterator[str]:
    for patient in Patient.objects.all():
        yield from filter(None, [patient.phone, patient.alternate_phone, *(one["phone"] for one in patient.contacts)])
    yield from Doctor.objects.values_list("phone", flat=True)


def test_people_are_diverse_and_consistent(demo: str):
    scripts = {unicodedata.name(letter).split()[0] for name in names() for letter in name if letter.isalpha()}
    assert {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "TAMIL", "CJK", "HANGUL", "THAI"} <= scripts
    assert [name for name in names() if re.search(r"[\d(){}\[\];:_/|]", name)] == []
    patients = list(Patient.objects.all())
    assert {patient.gender for patient in patients} >= {"M", "F"}
    assert all(0 <= (patient.age if patient.age is not None else -1) < 100 for patient in patients)
    assert sum(patient.birth_date is None for patient in patients) > 4
    assert all(patient.deceased_on <= patient.updated_at.date() for patient in patients if patient.deceased_on)


def names() -> list[str]:
    return [*Patient.objects.values_list("name", flat=True), *Doctor.objects.values_list("name", flat=True)]


def test_search_finds_everybody(demo: str):
    for owner in User.objects.filter(is_staff=False):
        acting_for = {"X-Acting-For": owner.username} if owner.is_clinic else {}
        client = logged_in(User.objects.get(username="demo-marta") if owner.is_clinic else owner)
        assert Patient.objects.owned_by(owner).active().exists()
        for patient in Patient.objects.owned_by(owner).active():
            for text in filter(None, [patient.name, patient.phone, patient.identifier, patient.email]):
                found = client.get("/api/patients/", {"search": text, "fields": "id"}, headers=acting_for).json()
                assert {"id": patient.pk} in found, patient.pk


def test_the_history_agrees_with_the_records(demo: str):
    for model, events in RECORDS.items():
        past: dict[int, list[Any]] = {}
        for event in events.objects.order_by("pgh_id"):
            past.setdefault(event.id, []).append(event)
        columns = [field.attname for field in model._meta.concrete_fields]
        assert past.keys() == set(model._default_manager.values_list("pk", flat=True))
        for record in model._default_manager.all():
            first, *changes = past[record.pk]
            last = [first, *changes][-1]
            assert {name: getattr(last, name) for name in columns} == {name: getattr(record, name) for name in columns}
            assert [event.version for event in past[record.pk]] == [*range(1, len(changes) + 2)]
            assert [event.pgh_label for event in past[record.pk]] == ["insert", *["update"] * len(changes)]
            assert first.pgh_created_at - record.created_at < timedelta(milliseconds=50)
            assert last.pgh_created_at - record.updated_at < timedelta(milliseconds=50)
            assert all({"actor", "request_id"} <= event.pgh_context.keys() for event in past[record.pk])
        assert in_order(events, "pgh_created_at", "pgh_id")
    assert in_order(AccessLog, "at", "id")
    assert UserEvent.objects.count() == User.objects.count()
    assert Attempts.objects.filter(until__lte=timezone.now()).exists()


def in_order(model: type[Model], time_column: str, key: str) -> bool:
    times = list(model._default_manager.order_by(key).values_list(time_column, flat=True))
    return times == sorted(times) and times[0] < timezone.now() - timedelta(days=30) and times[-1] <= timezone.now()


def test_batches_follow_each_other_and_leave_nothing_in_memory(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.DEBUG = True  # Django keeps the text of each statement
    monkeypatch.setattr(demo_command, "PATIENTS_PER_BATCH", 16)
    add_demo("--patients", "40")
    assert Patient.objects.count() == 40
    for events in RECORDS.values():
        assert in_order(events, "pgh_created_at", "pgh_id")
    assert in_order(AccessLog, "at", "id")
    inserts = [query for query in connection.queries if "jsonb_populate_recordset" in query["sql"]]
    assert len(inserts) == 1  # the reads of the last batch


def test_the_past_answers_as_it_was(demo: str):
    owner = User.objects.get(username="demo-asha")
    moment = timezone.now() - timedelta(days=20)
    then = Patient.objects.owned_by(owner).filter(created_at__lte=moment)
    expected = then.exclude(deleted_at__lte=moment)
    answer = logged_in(owner).get("/api/patients/", {"as_of": moment.isoformat(), "limit": "500"}).json()
    assert 0 < len(answer) < Patient.objects.owned_by(owner).count()
    restored = {patient["id"] for patient in answer} ^ set(expected.values_list("pk", flat=True))
    assert all(Patient.objects.get(pk=key).version > 2 for key in restored)


def test_changes_are_recorded_by_the_triggers_again(demo: str):
    patient = Patient.objects.owned_by(User.objects.get(username="demo-asha")).active().first()
    assert patient
    before = PatientEvent.objects.filter(id=patient.pk).count()
    patient.name = "Somebody Else"
    patient.save()
    assert PatientEvent.objects.filter(id=patient.pk).count() == before + 1
    new = make_patient(User.objects.get(username="demo-yusuf"))
    assert PatientEvent.objects.get(id=new.pk).pgh_label == "insert"


def test_states_and_reads_of_all_kinds_occur(db: None):
    add_demo("--patients", "300")
    assert Patient.objects.filter(deleted_at__isnull=False, merged_into=None).exists()
    assert Patient.objects.filter(deceased=True, deceased_on__isnull=False).exists()
    assert PatientMerge.objects.active().count() == 1
    assert Doctor.objects.hidden().count() == 3
    assert Mapping.objects.filter(ended_at=None, is_primary=True).count() > 200
    assert Mapping.objects.hidden().filter(notes__gt="").exists()
    assert PatientEvent.objects.filter(pgh_context__reason="has come back").exists()
    assert set(AccessLog.objects.values_list("basis", "outcome")) == {
        ("owner", 200), ("owner", 404), ("delegate", 200), ("staff", 200),
    }  # fmt: skip
    groups = dict(User.objects.filter(is_staff=True, is_superuser=False).values_list("username", "groups__name"))
    assert groups == {
        "demo-front": "Front desk",
        "demo-clinical": "Clinical staff",
        "demo-records": "Records",
        "demo-auditor": "Auditor",
        "demo-support": "Support",
    }


def test_three_delegates_work_for_a_clinic(demo: str):
    clinic = User.objects.get(username="demo-clinic")
    assert (clinic.is_clinic, clinic.email, clinic.has_usable_password()) == (True, None, False)
    delegations = Delegation.objects.working().filter(owner=clinic)
    roles = dict(delegations.values_list("delegate__username", "role"))
    assert roles == {"demo-asha": "manage", "demo-yusuf": "write", "demo-marta": "read"}
    ids = set(delegations.values_list("pk", flat=True))
    events: Any = DelegationEvent
    assert ids == set(events.objects.filter(pgh_label="insert").values_list("id", flat=True))
    changed_by = PatientEvent.objects.filter(created_by=clinic).values_list("pgh_context__actor", flat=True)
    names = {User.objects.get(pk=actor).username for actor in changed_by}
    assert names == {"demo-asha", "demo-yusuf"}  # who only reads has changed nothing
    assert "Nobody logs in to the clinic demo-clinic" in demo
    assert clinic.username not in demo.partition("Log in to the API")[2].partition("Nobody")[0]


@pytest.mark.parametrize("existing", ["history", "seals", "nothing"])
def test_seals_verify_afterwards(alice: User, settings: Any, existing: str):
    """More rows than one seal covers."""
    settings.AUDIT_SEAL_KEY, settings.DEBUG = SEAL_KEY, True
    if existing != "nothing":
        patient = make_patient(alice)
        AccessLog.objects.record(
            alice.pk,
            "patient.retrieve",
            [patient.pk],
            basis=Basis.OWNER,
            request_id="1",
            outcome=200,
            pure_read=True,
        )
    if existing == "seals":
        call_command("seal_audit", stdout=StringIO(), stderr=StringIO())
    add_demo("--patients", "600" if existing == "nothing" else "300")
    assert existing != "nothing" or AccessLog.objects.count() > 1000
    call_command("seal_audit", stdout=StringIO(), stderr=StringIO())
    output = StringIO()
    call_command("verify_audit", stdout=output)
    assert "rows are unaltered" in output.getvalue()


def test_a_second_run_adds_nothing(demo: str, settings: Any):
    before = counts()
    again = add_demo("--patients", "90", "--seed", "2")
    assert again.startswith("The demo's data is there already; nothing was added.")
    assert "changepassword" in again
    assert counts() == before


def counts() -> dict[str, int]:
    return {model._meta.label: model._default_manager.count() for model in apps.get_models() if model._meta.managed}


def test_the_same_seed_gives_the_same_people(db: None):
    assert people("7") == people("7") != people("8")


def people(seed: str) -> list[Any]:
    """What a run adds, without times, ids and passwords. It is rolled back."""
    with transaction.atomic():
        add_demo("--patients", "30", "--seed", seed)
        ids_and_times = {"id", "created_by", "created_at", "updated_at", "deleted_at", "deceased_on", "merged_into"}
        fields = [field.name for field in Patient._meta.concrete_fields if field.name not in ids_and_times]
        found: list[Any] = list(Patient.objects.order_by("id").values(*fields, "created_by__username"))
        found += Doctor.objects.order_by("id").values("name", "phone", "specialization", "hospital", "email")
        found += Mapping.objects.order_by("id").values("patient__name", "doctor__name", "role", "reason", "notes")
        found += AccessLog.objects.order_by("id").values("action", "basis", "outcome")
        transaction.set_rollback(True)
    return found


def test_without_debug_it_needs_a_database_without_records(alice: User, settings: Any):
    patient = make_patient(alice)
    before = counts()
    with pytest.raises(CommandError, match="^The database has patients, and DEBUG is False: .* choose an empty"):
        add_demo()
    assert counts() == before
    settings.DEBUG = True
    add_demo("--patients", "1")
    assert Patient.objects.exclude(pk=patient.pk).count() == 1


def test_an_account_that_has_a_name_of_the_demo_is_left_alone(make_user: Any):
    make_user("demo-asha")
    with pytest.raises(CommandError, match="There is an account demo-asha that this command did not add; rename it"):
        add_demo()
    assert (User.objects.count(), Doctor.objects.count()) == (1, 0)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "1000001", "9" * 400, "٣", "1e3"])
def test_a_number_of_patients_is_checked(text: str):
    with pytest.raises(ArgumentTypeError, match="is not a number of patients; give one from 1 to 1000000"):
        parse_patients(text)


@pytest.mark.parametrize("text", ["x", "-1", "", "9" * 19, "1.0"])
def test_a_seed_is_checked(text: str):
    with pytest.raises(ArgumentTypeError, match="is not a seed; give a number"):
        parse_seed(text)


def run_demo(url: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=project_settings.BASE_DIR, env=environment_of(url) | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_a_database_that_it_cannot_write_is_refused(live: LiveServer):
    ended = run_demo(live.database_url, PGOPTIONS="-c default_transaction_read_only=on")
    sentence = (
        "manage.py: the database can only be read; run this on the primary, or end its default_transaction_read_only.\n"
    )
    assert (ended.returncode, ended.stderr) == (1, sentence)
    with own_database() as name:
        ended = run_demo(url_of(name))
    sentence = "The database lacks migrations; run `manage.py migrate` first."
    assert (ended.returncode, ended.stderr) == (
        1,
        "CommandError: The database lacks migrations; run `manage.py migrate` first.\n",
    )


def test_a_server_imports_neither_faker_nor_the_demo(live: LiveServer):
    program = (
        "import sys, healthcare.wsgi; from django.test import Client; "
        "assert Client().get('/admin/login/', secure=True).status_code == 200; "
        "print([name for name in sys.modules if name.split('.')[0] == 'faker' or 'demo' in name])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project_settings.BASE_DIR, env=live.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "[]\n")


def test_a_killed_run_adds_nothing_and_the_printed_lines_work(live_database: str):
    template = connection.settings_dict["TEST"].get("TEMPLATE") or ""
    with own_database(template=template) as name:
        url = url_of(name)
        if not template:
            migrate(url)
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--patients", "20000"],
            cwd=project_settings.BASE_DIR, env=environment_of(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        database = psycopg2.connect(connect_string(name))
        database.autocommit = True
        cursor = database.cursor()
        wait_for(cursor, "SELECT last_value > 2000 FROM patients_patient_id_seq", process)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert (process.returncode, errors) == (-signal.SIGKILL, b"")
        cursor.execute("SELECT (SELECT count(*) FROM patients_patient) + (SELECT count(*) FROM accounts_user)")
        assert cursor.fetchone() == (0,)
        database.close()

        ended = run_demo(url, "--patients", "40")
        assert (ended.returncode, ended.stderr) == (0, "")
        with serving(url, migrated=True) as server:
            answers = run_bash(ended.stdout.partition("serve` runs:")[2].replace("http://127.0.0.1:8000", server.url))
        assert (answers.returncode, answers.stderr) == (0, "")
        first, found, history, duplicates, of_clinic = answers.stdout.splitlines()
        assert first.count('"id":') == 3
        assert "Katarina Johansson" in found
        assert '"action":"create"' in history
        assert "Katarina Johanson" in duplicates
        assert 0 < of_clinic.count('"id":') <= 3
        assert not {*re.findall('"id":[0-9]+', of_clinic)} & {*re.findall('"id":[0-9]+', first)}


def connect_string(name: str) -> str:
    parameters = connection.get_connection_params() | {"dbname": name}
    accepted = ("dbname", "user", "password", "host", "port")
    return " ".join(f"{key}='{parameters[key]}'" for key in accepted if parameters.get(key))


def wait_for(cursor: Any, query: str, process: "subprocess.Popen[bytes]") -> None:
    while True:
        cursor.execute(query)
        if cursor.fetchone() == (True,):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
