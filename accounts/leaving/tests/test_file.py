"""GET /api/auth/me/file/: everything that is stored about an account, for its user alone."""

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # drf-spectacular needs it
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.invitations.models import Invitation
from accounts.leaving import file
from accounts.leaving.tests.cast import with_token
from accounts.leaving.tests.test_file_columns import fill
from accounts.limits import ACCOUNT_FILES_PER_HOUR, user_key
from accounts.models import Attempts, LoginSession, User
from accounts.second_factor.models import RecoveryCode, SecondFactor
from accounts.second_factor.tests.conftest import App
from audit.models import AccessLog, Basis
from conftest import LoggedInClient
from healthcare.api.schema_view import description

FILE = "/api/auth/me/file/"
pytestmark = pytest.mark.django_db


def read(user: User, number: int = 1) -> None:
    """Add so many entries to the access log."""
    for patient in range(1, number + 1):
        AccessLog.objects.record(
            user.pk, "patient.retrieve", [patient], basis=Basis.OWNER, request_id="r", outcome=200, pure_read=True
        )


def test_the_file_is_one_json_document_to_be_saved(alice: User, as_alice: LoggedInClient):
    answer = as_alice.get(FILE)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"] == 'attachment; filename="account.json"'
    assert answer["Cache-Control"] == "no-store"
    document = answer.json()
    assert document["account"] == {
        "id": alice.pk, "name": "Alice", "email": "alice@example.org", "verified_email": None, "pending_email": None,
        "username": "alice", "is_active": True, "is_staff": False, "is_superuser": False, "is_clinic": False,
        "created_at": document["account"]["created_at"], "last_login": None,
    }  # fmt: skip
    [session] = document["sessions"]
    assert (session["id"], session["user_agent"], session["revoked_at"]) == (as_alice.login_session.pk, "tests", None)
    assert [event["action"] for event in document["history"]] == ["create"]
    assert (document["second_factor"], document["shortened"]) == (None, [])
    assert document["access_log"] == {"entries": [], "before": None}


def test_the_file_is_as_it_is_described(alice: User, bob: User, as_alice: LoggedInClient, enrol: Callable[[User], App]):
    fill(alice, bob, enrol)
    described = description()
    schema = {"$ref": "#/components/schemas/AccountFile", "components": described["components"]}
    document = as_alice.get(FILE).json()
    jsonschema.Draft202012Validator(schema).validate(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(document | {"history": [{}]})


def test_history_and_delegations_say_what_changed(alice: User, bob: User, as_alice: LoggedInClient):
    as_alice.patch("/api/auth/me/", {"name": "Alice B."})
    for role in ("read", "write"):
        Delegation.objects.update_or_create(owner=alice, delegate=bob, defaults={"role": role})
    document = as_alice.get(FILE).json()
    change = document["history"][0]
    assert (change["action"], change["actor"], change["changes"]) == (
        "update", alice.pk, {"name": ["Alice", "Alice B."]},
    )  # fmt: skip
    [delegation] = document["delegations_given"]
    assert delegation["delegate"] == {"id": bob.pk, "username": "bob", "name": "Bob"}
    last, first = document["delegation_history"]
    assert (last["delegation"], last["changes"]) == (delegation["id"], {"role": ["read", "write"]})
    assert (first["action"], first["changes"]["role"]) == ("create", [None, "read"])


def test_no_hash_and_no_secret_is_in_the_file(alice: User, as_alice: LoggedInClient, enrol: Callable[[User], App]):
    app = enrol(alice)
    with_token(alice)
    document = as_alice.get(FILE).json()
    text = json.dumps(document)
    assert document["second_factor"]["recovery_codes"] == 10
    assert {*document["second_factor"]} == {"created_at", "confirmed_at", "last_code_at", "recovery_codes"}
    for session in LoginSession.objects.all():
        for secret in (session.token_id, session.previous_token_id, session.secret_hash):
            assert not secret or secret not in text
    factor = SecondFactor.objects.get()
    secrets = [bytes(factor.encrypted_secret).hex(), app.secret.hex(), User.objects.get(pk=alice.pk).password]
    secrets += [*app.recovery_codes, *RecoveryCode.objects.values_list("digest", flat=True)]
    secrets += Attempts.objects.values_list("key", flat=True)
    for secret in secrets:
        assert secret not in text
    assert not re.search(r"[0-9a-f]{40}", text.replace(document["history"][0]["request_id"] or "-", ""))


def test_nothing_of_another_user_is_in_the_file(
    alice: User, bob: User, as_alice: LoggedInClient, enrol: Callable[[User], App], make_user: Callable[..., User]
):
    """What staff have written about other people is left out, too."""
    fill(alice, bob, enrol)
    carol = make_user("quetzalina")
    fill(bob, carol, enrol)
    read(carol)
    text = as_alice.get(FILE).content.decode()
    assert "quetzalina" not in text
    assert "Mary Jones" not in text
    assert '"bob"' in text  # of whom alice has a delegation


def test_an_address_that_is_not_confirmed_tells_nothing_about_its_owner(
    alice: User, as_alice: LoggedInClient, staff: User, anonymous: APIClient, settings: Settings
):
    """Anybody can ask for the change to any address."""
    settings.EMAIL_CONFIGURED = True
    before = as_alice.get(FILE).json()
    User.objects.filter(pk=alice.pk).update(pending_email="carol@example.org", verified_email="carol@example.org")
    Invitation.objects.create(created_by=staff, email="carol@example.org")
    assert anonymous.post("/api/auth/password/reset/", {"email": "carol@example.org"}).status_code == 202
    after = as_alice.get(FILE).json()
    assert [one["kind"] for one in after["attempts"]] == ["account file"]
    assert after["invitations_received"] == before["invitations_received"] == []


def test_a_token_reads_the_file_and_nobody_without_a_login(alice: User, anonymous: APIClient):
    assert with_token(alice, "read").get(FILE).status_code == 200
    assert anonymous.get(FILE).status_code == 401


def test_a_delegate_gets_their_own_file(alice: User, bob: User, as_bob: LoggedInClient):
    Delegation.objects.create(owner=alice, delegate=bob, role="manage")
    answer = as_bob.get(FILE, headers={"X-Acting-For": "alice"})
    assert (answer.status_code, answer.json()["account"]["username"]) == (200, "bob")
    assert "X-Acting-For" not in answer


# It is bounded.


def test_long_lists_are_shortened_and_named(alice: User, as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file, "MOST_ROWS", 2)
    started = [LoginSession.objects.start(alice, "tests", None).pk for _ in range(3)]
    document = as_alice.get(FILE).json()
    assert [session["id"] for session in document["sessions"]] == [*reversed(started)][:2]
    assert document["shortened"] == ["sessions"]


@pytest.mark.parametrize(("rows", "scanned"), [(2, 1000), (1000, 3)])
def test_the_access_log_comes_in_parts_until_it_is_complete(
    alice: User, bob: User, as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch, rows: int, scanned: int
):
    monkeypatch.setattr(file, "MOST_ROWS", rows)
    monkeypatch.setattr(file, "MOST_ACCESSES_SCANNED", scanned)
    for _ in range(3):
        read(alice)
        read(bob)
    expected = [*AccessLog.objects.filter(actor=alice.pk).order_by("-id").values_list("id", flat=True)]
    found: list[int] = []
    before: dict[str, Any] = {}
    for _ in range(ACCOUNT_FILES_PER_HOUR):
        part = as_alice.get(FILE, before).json()["access_log"]
        found += [entry["id"] for entry in part["entries"]]
        if part["before"] is None:
            break
        before = {"access_log_before": part["before"]}
    assert (found, part["before"]) == (expected, None)


def test_a_position_after_the_latest_entry_gives_the_latest_part(alice: User, as_alice: LoggedInClient):
    read(alice)
    answer = as_alice.get(FILE, {"access_log_before": 2**63 - 1}).json()["access_log"]
    assert answer == as_alice.get(FILE).json()["access_log"]
    assert answer["entries"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "value", ["", "0", "-1", "1.5", "1e3", "x", "١", "²", " 1", "9223372036854775808", "9" * 5000, "1;DROP", "\x00"]
)
def test_a_bad_position_is_refused_and_not_counted(as_alice: LoggedInClient, value: str):
    answer = as_alice.get(FILE, {"access_log_before": value})
    [error] = answer.json()["errors"]
    assert (answer.status_code, error["pointer"]) == (400, "/access_log_before")
    assert not Attempts.objects.filter(kind="account file").exists()


def test_an_unknown_parameter_is_refused(as_alice: LoggedInClient):
    assert as_alice.get(FILE, {"before": "1"}).status_code == 400


def test_the_number_of_queries_does_not_grow(
    alice: User, bob: User, as_alice: LoggedInClient, enrol: Callable[[User], App]
):
    fill(alice, bob, enrol)
    as_alice.get(FILE)
    numbers = []
    for turn in range(2):
        with CaptureQueriesContext(connection) as queries:
            document = as_alice.get(FILE).json()
        numbers.append(len(queries))
        for number in range(5):
            LoginSession.objects.start(alice, "tests", None)
            read(alice)
            other = User.objects.create_user(
                f"other{turn}{number}", f"other{turn}{number}@example.org", None, name="Other"
            )
            Delegation.objects.create(owner=alice, delegate=other, role="read")
    assert numbers[0] == numbers[1] == 32, [query["sql"][:90] for query in queries.captured_queries]
    assert document["delegations_given"]


# It is limited and logged.


@pytest.mark.django_db(transaction=True)
def test_the_eleventh_file_of_an_hour_is_refused(
    alice: User, as_alice: LoggedInClient, as_bob: LoggedInClient, settings: Settings, caplog: Any
):
    answers = [as_alice.get(FILE) for _ in range(ACCOUNT_FILES_PER_HOUR + 1)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[-1]["RateLimit-Policy"] == '"account-files";q=10;w=3600'
    assert 3500 < int(answers[-1]["Retry-After"]) <= 3600
    assert as_bob.get(FILE).status_code == 200
    logged = [record for record in caplog.records if record.name == "healthcare.security"]
    assert [record.getMessage() for record in logged] == ["account file sent"] * 10 + [
        "account file refused", "account file sent",
    ]  # fmt: skip
    assert logged[0].fields["account"] == user_key(alice.pk)
    assert logged[0].fields["request_id"] == answers[0]["X-Request-Id"]
