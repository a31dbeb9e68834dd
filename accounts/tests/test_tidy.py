"""`manage.py tidy` removes what has expired, and changes no answer."""

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import psycopg2
import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

from accounts.delegations.models import Notice
from accounts.invitations.models import Invitation
from accounts.models import Attempts, LoginAddress, LoginSession, User
from accounts.personal_tokens.rules import create_token
from accounts.second_factor.models import SecondFactor
from conftest import LoggedInClient
from fhir.models import BulkExport
from healthcare.api.models import IdempotencyRecord
from healthcare.imports.models import Import, StagedFile, StagedRow
from healthcare.operations import tidying
from healthcare.replicas.models import OwnerWrite
from healthcare.replicas.position import KEPT_TRANSACTIONS
from healthcare.tests.live import LiveServer
from patients.models import Patient


def tidy(**options: Any) -> dict[str, int]:
    printed = StringIO()
    call_command("tidy", stdout=printed, **options)
    heading, *lines = printed.getvalue().splitlines()
    assert heading == ("Would be removed:" if options else "Removed:")
    return {line.rpartition(" ")[0].strip(): int(line.rpartition(" ")[2]) for line in lines}


def ago(**period: float) -> Any:
    return timezone.now() - timedelta(**period)


def session(user: User, **times: Any) -> LoginSession:
    made = LoginSession.objects.start(user, "tests", "127.0.0.1")
    LoginSession.objects.filter(pk=made.pk).update(**times)
    return made


def token(user: User, **times: Any) -> LoginSession:
    made = create_token(user, name="Export", scope="read").session
    LoginSession.objects.filter(pk=made.pk).update(**times)
    return made


def test_every_kind_of_row_is_removed_after_its_time_and_no_earlier(alice: User, bob: User, staff: User) -> None:
    old = [
        session(alice, revoked_at=ago(days=31)),
        session(alice, expires_at=ago(days=31)),
        session(alice, last_used_at=ago(days=30, hours=73)),
        token(alice, revoked_at=ago(days=31)),
        token(alice, expires_at=ago(days=31)),
    ]
    kept = [
        session(alice),
        session(alice, revoked_at=ago(days=29)),
        session(alice, expires_at=ago(days=29)),
        session(alice, last_used_at=ago(days=30, hours=71)),
        session(alice, created_at=ago(days=300)),
        token(alice, revoked_at=ago(days=29)),
        token(alice, expires_at=ago(days=29)),
        token(alice, created_at=ago(days=300), last_used_at=ago(days=300)),  # unused, but not ended
    ]
    for days in (0.9, 1.1):
        Attempts.objects.create(key=f"{days}", count=100, until=ago(days=days))
        IdempotencyRecord.objects.create(digest=f"{days}", fingerprint="", status=201, expires_at=ago(days=-1))
        Session.objects.create(session_key=f"{days}", session_data="", expire_date=ago(days=days - 1))
        LoginAddress.objects.create(user=alice, network=f"{days}", last_login_at=ago(days=89 + days))
        Notice.objects.create(user=alice, kind="delegation_given", about={"days": days}, read_at=ago(days=29 + days))
        Invitation.objects.create(
            email=f"used{days}@example.org", created_at=ago(days=300), used_at=ago(days=29 + days)
        )
        Invitation.objects.create(email=f"late{days}@example.org", expires_at=ago(days=29 + days))
    Invitation.objects.create(email="waits@example.org", created_at=ago(days=300))
    Notice.objects.create(user=alice, kind="delegation_given", about={"days": 300}, at=ago(days=300))
    IdempotencyRecord.objects.filter(digest="1.1").update(expires_at=ago(days=0.1))
    for user, days, confirmed in ((alice, 0.9, None), (bob, 1.1, None), (staff, 300, ago(days=300))):
        SecondFactor.objects.create(user=user, encrypted_secret=b"", created_at=ago(days=days), confirmed_at=confirmed)
    parent = Import.objects.create(created_by=alice, caller=alice.pk, kind="patients")
    for name, days, begun in (("new", 6.9, None), ("old", 7.1, None), ("begun", 7.1, parent)):
        file = StagedFile.objects.create(created_by=alice, digest=name, used_at=ago(days=days), parent=begun)
        StagedRow.objects.bulk_create(StagedRow(file=file, line=line, content="") for line in range(len(name) // 2))
    for days in (0.9, 1.1):
        BulkExport.objects.create(caller=alice, created_by=alice, created_at=ago(days=days))
    OwnerWrite.objects.create(owner=alice.pk, transaction=-KEPT_TRANSACTIONS)
    expected = {
        "login sessions": 5, "attempts": 1, "login addresses": 1, "read notices": 1, "invitations": 2,
        "unconfirmed second factors": 1, "idempotency records": 1, "sessions of the admin": 1,
        "rows of unfinished imports": 3, "unfinished imports that have written nothing": 1, "bulk exports": 1,
        "old numbers of transactions": 1,
    }  # fmt: skip
    assert tidy(dry_run=True) == expected
    assert tidy() == expected
    assert set(LoginSession.objects.values_list("pk", flat=True)) == {one.pk for one in kept}
    assert not LoginSession.objects.filter(pk__in=[one.pk for one in old]).exists()
    assert [row.key for row in Attempts.objects.all()] == ["0.9"]
    assert [row.digest for row in IdempotencyRecord.objects.all()] == ["0.9"]
    assert [row.session_key for row in Session.objects.all()] == ["0.9"]
    assert [row.network for row in LoginAddress.objects.all()] == ["0.9"]
    assert {row.about["days"] for row in Notice.objects.all()} == {0.9, 300}
    assert {row.email.partition("@")[0] for row in Invitation.objects.all()} == {"used0.9", "late0.9", "waits"}
    assert {factor.user for factor in SecondFactor.objects.all()} == {alice, staff}
    assert {file.digest for file in StagedFile.objects.all()} == {"new", "begun"}
    assert [export.created_at > ago(days=1) for export in BulkExport.objects.all()] == [True]
    assert [row.file.digest for row in StagedRow.objects.all()] == ["new"]
    assert set(tidy().values()) == {0}


def test_more_rows_than_one_transaction_takes_are_removed(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "ROWS_PER_TRANSACTION", 3)
    for number in range(8):
        Attempts.objects.create(key=str(number), count=1, until=ago(days=2))
    assert tidy()["attempts"] == 8


def test_the_settings_decide(alice: User, settings: Any) -> None:
    session(alice, revoked_at=ago(days=31))
    settings.RETENTION_LOGIN_SESSIONS = timedelta(days=32)
    assert tidy()["login sessions"] == 0
    settings.RETENTION_LOGIN_SESSIONS = timedelta(0)
    session(alice, revoked_at=ago(seconds=1))
    assert tidy()["login sessions"] == 2


def answers_of_ended(client: LoggedInClient) -> list[tuple[int, Any]]:
    refresh = client.post("/api/auth/refresh/", {"refresh": client.tokens["refresh"]})
    read = client.get("/api/patients/")
    logout = client.post("/api/auth/logout/", headers={"Idempotency-Key": "k"})
    return [(one.status_code, one.json().get("detail") if one.content else None) for one in (refresh, read, logout)]


@pytest.mark.django_db(transaction=True)
def test_an_ended_session_answers_the_same_when_it_is_removed(
    alice: User, as_alice: LoggedInClient, settings: Any
) -> None:
    """A used refresh token, an access token, and a logout that is repeated."""
    settings.RETENTION_LOGIN_SESSIONS = timedelta(0)
    rotated = as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]}).json()
    as_alice.credentials(HTTP_AUTHORIZATION=f"Bearer {rotated['access']}")
    assert as_alice.post("/api/auth/logout/", headers={"Idempotency-Key": "k"}).status_code == 204
    before = answers_of_ended(as_alice)
    assert [status for status, _ in before] == [401, 401, 204]
    assert tidy()["login sessions"] == 1
    assert answers_of_ended(as_alice) == before


@pytest.mark.django_db(transaction=True)
def test_a_reused_refresh_token_still_ends_its_session(alice: User, as_alice: LoggedInClient, settings: Any) -> None:
    settings.RETENTION_LOGIN_SESSIONS = timedelta(0)
    as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]})
    LoginSession.objects.update(rotated_at=ago(minutes=1))
    tidy()
    assert as_alice.post("/api/auth/refresh/", {"refresh": as_alice.tokens["refresh"]}).status_code == 401
    assert LoginSession.objects.get().revoked_at is not None


def test_an_answer_is_repeated_and_stays_erased_after_tidying(as_alice: LoggedInClient) -> None:
    def create() -> Any:
        return as_alice.post("/api/patients/", {"name": "Ana"}, headers={"Idempotency-Key": "k"})

    first = create()
    tidy()
    assert create().json() == first.json()
    call_command("erase_patient", str(first.json()["id"]), "--reason", "r", "--yes", stdout=StringIO())
    tidy()
    assert create().status_code == 410
    assert not Patient.objects.exists()


@pytest.mark.slow
def test_tidying_waits_for_nobody(live: LiveServer) -> None:
    """A row that another transaction uses is skipped; it is removed by a later run."""
    writer = psycopg2.connect(live.database_url)
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO accounts_attempts (key, count, until) VALUES ('a', 1, now() - interval '3 days')")
        cursor.execute("INSERT INTO accounts_attempts (key, count, until) VALUES ('b', 1, now() - interval '3 days')")
    writer.commit()
    with writer.cursor() as cursor:
        cursor.execute("SELECT FROM accounts_attempts WHERE key = 'a' FOR UPDATE")
    ended = [run_tidy(live), run_tidy(live)]
    with writer.cursor() as cursor:
        cursor.execute("SELECT key FROM accounts_attempts WHERE key IN ('a', 'b')")
        assert cursor.fetchall() == [("a",)]
    writer.commit()
    runs = [threading.Thread(target=lambda: ended.append(run_tidy(live))) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    with writer.cursor() as cursor:
        cursor.execute("SELECT key FROM accounts_attempts WHERE key IN ('a', 'b')")
        assert cursor.fetchall() == []
    writer.close()
    assert [run.returncode for run in ended] == [0] * 4


def run_tidy(live: LiveServer) -> Any:
    from audit.tests.test_seals import run  # noqa: PLC0415

    return run(live, "tidy")
