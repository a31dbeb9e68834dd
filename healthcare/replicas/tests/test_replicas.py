"""Lists on a standby answer what the primary would, however far the standby is behind."""

import logging
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import StringIO
from itertools import count
from typing import Any

import psutil
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections, transaction
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import create_token
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor
from healthcare.fastpath import lists
from healthcare.operations.tests.calls import execute
from healthcare.replicas import position, sessions
from healthcare.replicas.models import OwnerWrite
from healthcare.replicas.tests.conftest import Replicated
from healthcare.tests.contract_matrix import read_whole
from mappings.models import Mapping
from patients.models import Patient

pytestmark = pytest.mark.slow

SERVED, BEHIND, FAILED = {"served": 1}, {"behind": 1}, {"failed": 1}
PATIENTS = "/api/patients/"
ATTEMPTS = 10  # at what another program on the machine can delay until the standby counts as too old
NUMBERS = count(1)
# Written in the transaction that changes the records they are derived from.
DERIVED = {"patients_patientterm", "patients_patientword"}


class Owner:
    """A user with a patient, a doctor and the assignment between them."""

    def __init__(self, replicated: Replicated) -> None:
        self.user = replicated.new_user()
        self.client = logged_in(self.user)
        self.doctor = Doctor.objects.create(name=f"Dr {self.user.username}", created_by=self.user)
        self.patient = self.add("Ada First")
        assigned = {"patient": self.patient, "doctor": self.doctor, "is_primary": True}
        self.mapping = Mapping.objects.create(created_by=self.user, **assigned)

    def add(self, name: str) -> Patient:
        return Patient.objects.create(name=name, created_by=self.user)

    @property
    def lists(self) -> dict[str, Callable[[], Any]]:
        """A call of every list that is read on replicas."""
        paths = [
            PATIENTS,
            "/api/patients/?gender=U&ordering=-updated_at&limit=1&fields=id,name",
            "/api/patients/?search=ada&count=true",
            "/api/mappings/?limit=1",
            f"/api/patients/{self.patient.pk}/doctors/",
            f"/api/doctors/{self.doctor.pk}/patients/",
            "/fhir/Patient",
            f"/fhir/Patient?name=ada&general-practitioner=Practitioner/{self.doctor.pk}",
        ]
        by_post = lambda: self.client.post("/api/patients/search/", {"search": "ada"}, "json")  # noqa: E731
        return {path: partial(self.client.get, path) for path in paths} | {"by POST": by_post}

    def answers(self) -> dict[str, Any]:
        return {name: without_request_id(call()) for name, call in self.lists.items()}


def without_request_id(answer: Any) -> tuple[Any, ...]:
    request_id = answer.headers["X-Request-Id"]
    return answer.status_code, answer.content.replace(request_id.encode(), b""), {**answer.headers, "X-Request-Id": ""}


@pytest.fixture
def owner(replicated: Replicated) -> Owner:
    found = Owner(replicated)
    found.client.get(PATIENTS)  # stores the timeline
    replicated.wait_for_standby()
    return found


@contextmanager
def without_replicas() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (sessions, lists):
            patch.setattr(module, "is_usable", lambda: False)
        yield


def test_lists_are_read_on_the_standby_and_answer_the_same(replicated: Replicated, owner: Owner) -> None:
    served = {name: replicated.outcome_of(call) for name, call in owner.lists.items()}
    outcomes = {name: sum(outcome.values()) == outcome.get("served") for name, (_, outcome) in served.items()}
    assert outcomes == dict.fromkeys(owner.lists, True)
    with without_replicas():
        by_primary = owner.answers()
    assert {name: without_request_id(answer) for name, (answer, _) in served.items()} == by_primary
    assert {status for status, *_ in by_primary.values()} == {200}
    accesses = AccessLog.objects.filter(actor=owner.user.pk).order_by("id")
    logged = [*accesses.values_list("action", "patient_ids", "outcome", "basis")][1:]
    assert logged[: len(served)] == logged[len(served) :]
    assert {tuple(ids) for _, ids, *_ in logged} == {(owner.patient.pk,)}


def test_a_standby_without_the_trigger_would_answer_what_is_outdated(replicated: Replicated, owner: Owner) -> None:
    """That the lists come from the standby, and that nothing but the record of the last write keeps them current."""
    named = "tgrelid = 'patients_patient'::regclass AND tgname LIKE 'pgtrigger\\_owner\\_write%'"
    name = execute(replicated.primary.url, f"SELECT tgname FROM pg_trigger WHERE {named}")  # noqa: S608  (a constant)
    trigger = f"ALTER TABLE patients_patient {{}} TRIGGER {name}"
    for _ in range(ATTEMPTS):
        execute(replicated.primary.url, trigger.format("DISABLE"))
        with replicated.paused():
            owner.client.patch(f"{PATIENTS}{owner.patient.pk}/", {"name": f"Ada {next(NUMBERS)}"}, "json")
            answer, outcome = replicated.outcome_of(lambda: owner.client.get(PATIENTS))
            written = Patient.objects.get(pk=owner.patient.pk).name
        execute(replicated.primary.url, trigger.format("ENABLE ALWAYS"))
        if outcome == SERVED:
            break
    assert outcome == SERVED
    assert answer.json()[0]["name"] != written


def writes(owner: Owner, other: Owner) -> dict[str, Callable[[], Any]]:
    """Ways to change what the lists of the owner answer, by all who may."""
    client, path = owner.client, f"{PATIENTS}{owner.patient.pk}/"
    csv = b"name,birth_date\nAda Imported,1980-01-01\n"
    duplicate, erased = owner.add("Ada Duplicate"), owner.add("Ada Erased")
    Delegation.objects.create(owner=owner.user, delegate=other.user, role="write")
    acting: Any = {"HTTP_X_ACTING_FOR": owner.user.username}
    assignment = {"patient": owner.patient.pk, "doctor": owner.doctor.pk, "is_primary": True}
    return {
        "create": lambda: client.post(PATIENTS, {"name": "Ada New"}, "json"),
        "change": lambda: client.patch(path, {"name": "Ada Changed"}, "json"),
        "delete": lambda: client.delete(path),
        "restore": lambda: client.post(f"{path}restore/"),
        "import": lambda: read_whole(client.post(f"{PATIENTS}import/?mode=apply", csv, content_type="text/csv")),
        "merge": lambda: client.post(f"{path}merge/", {"duplicate": duplicate.pk}, "json"),
        "unmerge": lambda: client.post(f"{path}unmerge/", {"duplicate": duplicate.pk}, "json"),
        "end an assignment": lambda: client.delete(f"/api/mappings/{owner.mapping.pk}/"),
        "assign": lambda: client.post("/api/mappings/", assignment, "json"),
        "by FHIR": lambda: client.post(
            "/fhir/Patient", b'{"resourceType": "Patient", "name": [{"text": "Ada Resource"}]}',
            content_type="application/fhir+json",
        ),
        "by a delegate": lambda: other.client.post(PATIENTS, {"name": "Ada Delegated"}, "json", **acting),
        "a doctor": lambda: client.patch(f"/api/doctors/{owner.doctor.pk}/", {"name": "Dr New"}, "json"),
        "erased": lambda: call_command(
            "erase_patient", str(erased.pk), "--yes", "--reason", "Asked for it", stdout=StringIO(), stderr=StringIO()
        ),
        "by SQL": lambda: Patient.objects.filter(pk=owner.patient.pk).update(name="Ada by SQL"),
        "handed over": lambda: Patient.objects.filter(pk=other.patient.pk).update(created_by=owner.user),
        "handed on": lambda: Patient.objects.filter(pk=other.patient.pk).update(created_by=other.user),
    }  # fmt: skip


def test_no_list_lacks_a_write_that_was_acknowledged(replicated: Replicated, owner: Owner) -> None:
    before = owner.answers()
    for name, write in writes(owner, Owner(replicated)).items():
        with replicated.paused():
            written = write()
            assert getattr(written, "status_code", 200) < 300, (name, written.content)
            by_owner, outcome = replicated.outcome_of(owner.answers)
            with without_replicas():
                assert by_owner == owner.answers(), name
        assert by_owner != before, name
        assert outcome.keys() == {"behind"}, name
        before = by_owner


def test_what_others_write_keeps_no_list_from_the_standby(replicated: Replicated, owner: Owner) -> None:
    other = Owner(replicated)
    for _ in range(ATTEMPTS):
        with replicated.paused():
            other.client.post(PATIENTS, {"name": "Bea"}, "json")
            outcomes = [replicated.outcome_of(partial(one.client.get, PATIENTS))[1] for one in (owner, other)]
        if outcomes[0] == SERVED:
            break
    assert outcomes == [SERVED, BEHIND]


def test_a_write_that_was_undone_keeps_no_list_from_the_standby(replicated: Replicated, owner: Owner) -> None:
    with transaction.atomic():
        Patient.objects.filter(pk=owner.patient.pk).update(name="Never")
        transaction.set_rollback(True)
    replicated.wait_for_standby()
    assert replicated.outcome_of(lambda: owner.client.get(PATIENTS))[1] == SERVED


ENDINGS: dict[str, Callable[[Owner, LoginSession], Any]] = {
    "a revoked session": lambda _, session: LoginSession.objects.filter(pk=session.pk).revoke(),
    "a deactivated user": lambda owner, _: User.objects.filter(pk=owner.user.pk).update(is_active=False),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_the_standby_lets_nobody_in_whom_the_primary_refuses(
    replicated: Replicated, owner: Owner, ending: Callable[[Owner, LoginSession], Any]
) -> None:
    with replicated.paused():
        ending(owner, owner.client.login_session)
        logged = AccessLog.objects.count()
        assert {name: call().status_code for name, call in owner.lists.items()} == dict.fromkeys(owner.lists, 401)
        assert AccessLog.objects.count() == logged


def test_the_standby_lets_no_revoked_token_in(replicated: Replicated, owner: Owner) -> None:
    token, client = create_token(owner.user, name="Lists", scope="read"), APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token.text}")
    assert client.get(PATIENTS).status_code == 200  # from now on the fast path knows the token
    replicated.wait_for_standby()
    assert replicated.outcome_of(lambda: client.get(PATIENTS).status_code) == (200, SERVED)
    with replicated.paused():
        LoginSession.objects.filter(pk=token.session.pk).revoke()
        assert [client.get(path).status_code for path in (PATIENTS, "/api/patients/?search=ada")] == [401, 401]


def test_the_standby_shows_a_delegate_nothing_after_the_delegation(replicated: Replicated, owner: Owner) -> None:
    delegate = Owner(replicated)
    delegation = Delegation.objects.create(owner=owner.user, delegate=delegate.user, role="read")
    acting: Any = {"HTTP_X_ACTING_FOR": owner.user.username}
    assert delegate.client.get(PATIENTS, **acting).status_code == 200  # from now on the fast path knows the owner
    replicated.wait_for_standby()
    answer, outcome = replicated.outcome_of(lambda: delegate.client.get(PATIENTS, **acting))
    assert (outcome, [one["id"] for one in answer.json()]) == (SERVED, [owner.patient.pk])
    assert AccessLog.objects.filter(actor=delegate.user.pk).latest("id").basis == "delegate"
    with replicated.paused():
        Delegation.objects.filter(pk=delegation.pk).update(revoked_at="2026-01-01T00:00Z")
        assert delegate.client.get(PATIENTS, **acting).status_code == 403
        assert delegate.client.get("/api/patients/?search=ada", **acting).status_code == 403


def test_a_forged_token_is_not_sent_to_the_standby(replicated: Replicated, owner: Owner) -> None:
    client = LoggedInClient(owner.user)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access'][:-4]}AAAA")
    answer, outcome = replicated.outcome_of(lambda: client.get(PATIENTS))
    assert (answer.status_code, outcome) == (401, {})


def test_without_a_standby_the_primary_answers(
    replicated: Replicated, owner: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replicated.standby.stop()
    try:
        answers = [replicated.outcome_of(lambda: owner.client.get(PATIENTS)) for _ in range(3)]
        search, _ = replicated.outcome_of(lambda: owner.client.get("/api/patients/?search=ada"))
    finally:
        replicated.start_standby()
    assert [(len(answer.json()), outcome) for answer, outcome in answers] == [(1, FAILED), (1, {}), (1, {})]
    assert len(search.json()) == 1
    monkeypatch.setattr(sessions, "PAUSE_AFTER_FAILURE", 0.0)
    assert replicated.outcome_of(lambda: owner.client.get(PATIENTS))[1] == SERVED
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [re.sub(":.*", "", one) for one in warnings] == ["replicas are not read", "replicas are read again"]


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SET LOCAL statement_timeout TO '1ms'; SELECT pg_sleep(60)"])
def test_a_statement_that_fails_keeps_no_other_list_from_the_standby(
    replicated: Replicated, owner: Owner, statement: str
) -> None:
    assert replicated.outcome_of(partial(sessions.read, partial(run_on, statement))) == (None, FAILED)
    assert replicated.outcome_of(lambda: owner.client.get(PATIENTS))[1] == SERVED


def run_on(statement: str, alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


def test_a_search_whose_page_is_read_on_the_primary_after_its_count_on_the_standby(
    replicated: Replicated, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = iter([True, False])
    monkeypatch.setattr(sessions, "is_usable", lambda: next(usable))
    answer, outcome = replicated.outcome_of(lambda: owner.client.get("/api/patients/?search=ada&count=true"))
    assert (answer.headers["X-Total-Count"], [one["id"] for one in answer.json()]) == ("1", [owner.patient.pk])
    assert outcome == SERVED


def test_a_standby_that_hangs_delays_a_request_and_no_more(
    replicated: Replicated, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWER", 0.5)
    assert replicated.standby.process
    server = psutil.Process(replicated.standby.process.pid)
    stopped = [server, *server.children(recursive=True)]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        answers = [replicated.outcome_of(lambda: owner.client.get(PATIENTS)) for _ in range(2)]
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
    assert [(len(answer.json()), outcome) for answer, outcome in answers] == [(1, FAILED), (1, {})]


def test_a_primary_is_not_read_as_a_replica(replicated: Replicated, owner: Owner) -> None:
    """It may be a former primary. Who names the primary as a replica gains nothing, and loses nothing."""
    replicated.connection.close()
    replicated.connection.settings_dict["HOST"] = str(replicated.primary.home.socket_folder)
    answer, outcome = replicated.outcome_of(lambda: owner.client.get(PATIENTS))
    assert (len(answer.json()), outcome) == (1, FAILED)


def test_a_standby_of_another_timeline_is_not_read_until_it_follows(replicated: Replicated, owner: Owner) -> None:
    for path in (PATIENTS, "/api/patients/?search=ada"):
        execute(replicated.primary.url, "UPDATE replicas_source SET timeline = '1 00000001'")
        replicated.wait_for_standby()
        answer, outcome = replicated.outcome_of(partial(owner.client.get, path))
        assert (len(answer.json()), outcome) == (1, {"other": 1})
        replicated.wait_for_standby()
        assert replicated.outcome_of(partial(owner.client.get, path))[1].keys() == {"served"}


def verdict(owner: int, **changed: str | None) -> str:
    """Of the primary about a standby of this position, which is by default what the primary itself has."""
    position_sql = {
        "xmin": "pg_snapshot_xmin(pg_current_snapshot())::text",
        "lsn": "pg_lsn(0)",
        "at": "extract(epoch FROM now())",
        "cluster": "(SELECT system_identifier FROM pg_control_system())::text",
        "timeline": position.TIMELINE,
    } | {name: value or "NULL" for name, value in changed.items()}
    pairs = ", ".join(f"'{name}', {value}" for name, value in position_sql.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT json_build_object({pairs})::text")  # noqa: S608
        [(stored,)] = cursor.fetchall()
        cursor.execute(position.STORE_VERDICT, position.verdict_parameters(owner, stored))
        return str(cursor.fetchone()[0])


def test_the_verdict_about_a_position(replicated: Replicated, owner: Owner) -> None:
    own, nobody = owner.user.pk, 0
    last = "(SELECT max(transaction)::text FROM replicas_ownerwrite WHERE owner = {})"
    found = {
        "the same": verdict(own),
        "before the last write": verdict(own, xmin=last.format(own)),
        "before the last write to the directory": verdict(own, xmin=last.format(nobody)),
        "of another owner": verdict(own, xmin=f"greatest({last.format(own)}::int, {last.format(nobody)}::int) + 1"),
        "before the last write, and with all WAL": verdict(own, xmin="1", lsn="pg_current_wal_insert_lsn()"),
        "a minute old": verdict(own, at="extract(epoch FROM now()) - 60"),
        "ahead of the clock": verdict(own, at="extract(epoch FROM now()) + 60"),
        "without a commit": verdict(own, at=None),
        "without a row of the timeline": verdict(own, timeline=None),
        "of another timeline": verdict(own, timeline="'7 00000001'"),
        "of another cluster": verdict(own, cluster="'7'"),
    }
    assert found == {
        "the same": "current",
        "before the last write": "behind",
        "before the last write to the directory": "behind",
        "of another owner": "current",
        "before the last write, and with all WAL": "current",
        "a minute old": "behind",
        "ahead of the clock": "behind",
        "without a commit": "behind",
        "without a row of the timeline": "other",
        "of another timeline": "other",
        "of another cluster": "other",
    }


def test_a_transaction_that_has_written_reads_on_no_replica(replicated: Replicated, owner: Owner) -> None:
    with transaction.atomic():
        Patient.objects.filter(pk=owner.patient.pk).update(name="Not yet")
        assert verdict(owner.user.pk, lsn="pg_current_wal_insert_lsn()") == "behind"


def test_rows_that_tidy_may_have_removed_are_not_relied_on(replicated: Replicated, owner: Owner) -> None:
    after = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    behind = {number: f"{after} - {number}" for number in (position.MOST_BEHIND - 10, position.MOST_BEHIND)}
    with transaction.atomic():
        OwnerWrite.objects.all().delete()
        assert [verdict(owner.user.pk, xmin=xmin) for xmin in behind.values()] == ["current", "behind"]
        transaction.set_rollback(True)


def test_tidy_removes_old_rows_alone(replicated: Replicated, owner: Owner) -> None:
    before = {*OwnerWrite.objects.values_list("owner", "transaction")}
    OwnerWrite.objects.create(owner=owner.user.pk, transaction=-position.KEPT_TRANSACTIONS)
    call_command("tidy", stdout=StringIO())
    assert {*OwnerWrite.objects.values_list("owner", "transaction")} == before


def test_concurrent_writes_of_one_owner_do_not_wait_and_both_count(replicated: Replicated, owner: Owner) -> None:
    own = owner.user.pk
    writes = OwnerWrite.objects.filter(owner=own).values_list("transaction", flat=True)
    before = {*writes}
    with transaction.atomic():
        Patient.objects.filter(pk=owner.patient.pk).update(name="Later")
        Patient.objects.filter(pk=owner.patient.pk).update(name="Later still")
        ended = f"UPDATE mappings_mapping SET is_primary = false WHERE id = {owner.mapping.pk}"  # noqa: S608
        execute(replicated.primary.url, ended)
    earlier, later = sorted({*writes.all()} - before)
    assert [verdict(own, xmin=f"'{one}'") for one in (earlier, later, later + 1)] == ["behind", "behind", "current"]


def test_each_table_that_a_replica_reads_records_its_writes(replicated: Replicated, owner: Owner) -> None:
    statements: list[str] = []

    def note(execute: Any, sql: str, *arguments: Any) -> Any:
        statements.append(sql)
        return execute(sql, *arguments)

    with replicated.connection.execute_wrapper(note):
        owner.answers()
    with connection.cursor() as cursor:
        functions = {*re.findall(r"\b(\w+)\(", " ".join(statements))}
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = ANY(%s) AND prolang <> 12", [[*functions]])
        texts = " ".join([*statements, *(source for (source,) in cursor.fetchall())])
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE 'pgtrigger\\_owner\\_write%%'")
        recorded = {table for (table,) in cursor.fetchall()}
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)} & {
        *re.findall(r"\w+", texts)
    }
    assert tables - {"replicas_source"} - DERIVED <= recorded
    assert {"patients_patient", "mappings_mapping", "doctors_doctor"} <= tables
