"""`manage.py hand_over`: alice leaves, and bob or a clinic gets everything of hers."""

import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO

import psycopg2
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from accounts.delegations.models import Delegation, Notice
from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from healthcare.tests.live import LiveServer
from mappings.models import Mapping
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import Patient, PatientEvent, PatientTransfer
from patients.tests.factories import make_patient
from patients.transfers import move_patients


@pytest.fixture
def clinic(make_user: Callable[..., User]) -> User:
    return make_user("sunrise", is_clinic=True, email=None, password=None)


@pytest.fixture
def asha(make_user: Callable[..., User]) -> User:
    return make_user("asha")


def hand_over(*arguments: str, giver: str = "alice", to: str = "bob", reason: str = "alice leaves") -> str:
    out = StringIO()
    call_command("hand_over", giver, to, "--reason", reason, *(arguments or ["--yes"]), stdout=out)
    return out.getvalue()


def owners() -> list[str]:
    return list(Patient.objects.order_by("pk").values_list("created_by__username", flat=True))


def test_everything_belongs_to_the_other_user(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
) -> None:
    active, deleted, duplicate, held = (make_patient(alice, name=name) for name in ("One", "Two", "Three", "Four"))
    of_bob = make_patient(bob)
    doctor = Doctor.objects.create(created_by=alice, name="Dr. Rao")
    mapping = Mapping.objects.create(created_by=alice, patient=active, doctor=doctor)
    Patient.objects.filter(pk=deleted.pk).end()
    merge(active, duplicate)
    set_hold(held.pk, reason="case 2026-7")
    assert "4 of 4 records of patients handed over.\nHanded over:\n  patients 4\n" in hand_over()
    assert owners() == ["bob"] * 5
    assert {row["id"] for row in as_bob.get("/api/patients/").json()} == {active.pk, held.pk, of_bob.pk}
    assert [row["id"] for row in as_bob.get("/api/patients/?deleted=true").json()] == [deleted.pk]
    assert [row["id"] for row in as_bob.get("/api/mappings/").json()] == [mapping.pk]
    for path in ("patients/", "patients/?deleted=true", "mappings/"):
        assert as_alice.get(f"/api/{path}").json() == []
    entry = as_bob.get(f"/api/patients/{active.pk}/history/").json()[0]
    assert (entry["actor"], entry["reason"], entry["changes"]) == (
        None,
        "alice leaves",
        {"created_by": [alice.pk, bob.pk]},
    )
    context = PatientEvent.objects.filter(id=active.pk).latest("pgh_id").pgh_context
    assert (context["application"], bool(context["login"])) == ("manage.py hand_over", True)
    assert "patients 0" in hand_over(), "a second run finds nothing"


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(alice: User, bob: User, asha: User) -> None:
    make_patient(alice)
    Delegation.objects.create(owner=alice, delegate=asha, role="write")
    said = hand_over("--dry-run")
    assert (
        said == "Would be handed over:\n  patients 1\n  delegations moved 1\n    asha (write)\n  delegations ended 0\n"
    )
    assert owners() == ["alice"]
    assert Delegation.objects.living().get().owner == alice
    assert not Notice.objects.exists()


@pytest.mark.parametrize("to", ["bob", "sunrise"])
@pytest.mark.parametrize("owns", [True, False])
def test_delegations_move_to_a_clinic_and_to_a_user_without_patients(
    alice: User, bob: User, clinic: User, asha: User, to: str, owns: bool
) -> None:
    """Others would see patients that nobody has shown them."""
    Delegation.objects.create(owner=alice, delegate=asha, role="write", note="mornings")
    ended = Delegation.objects.create(owner=alice, delegate=asha, role="read", revoked_at=timezone.now())
    if owns:
        make_patient(User.objects.get(username=to))
    said = hand_over(to=to)
    moves = to == "sunrise" or not owns
    assert f"  delegations {'moved' if moves else 'ended'} 1\n    asha (write)\n" in said
    living = list(Delegation.objects.living().values_list("owner__username", "role", "note"))
    assert living == ([(to, "write", "mornings")] if moves else [])
    assert Delegation.objects.get(pk=ended.pk).owner == alice
    notice = Notice.objects.get(user=asha)
    assert (notice.kind, notice.by) == ("delegation_changed" if moves else "delegation_ended", None)


def test_a_delegation_that_the_other_side_has_given_already_stays_as_it_is(
    alice: User, bob: User, clinic: User, asha: User
) -> None:
    """And nobody becomes their own delegate."""
    for owner, role in ((alice, "manage"), (clinic, "read")):
        Delegation.objects.create(owner=owner, delegate=asha, role=role)
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    Delegation.objects.create(owner=clinic, delegate=bob, role="read", expires_at=timezone.now())
    said = hand_over(to="sunrise")
    assert "  delegations moved 1\n    bob (read)\n  delegations ended 1\n    asha (manage)\n" in said
    assert set(Delegation.objects.living().values_list("owner", "delegate", "role")) == {
        (clinic.pk, asha.pk, "read"), (clinic.pk, bob.pk, "read"),
    }  # fmt: skip
    Delegation.objects.create(owner=asha, delegate=bob, role="read")
    assert "delegations ended 1\n    bob (read)\n" in hand_over(giver="asha")


def test_a_clinic_is_not_left_without_a_manager(alice: User, bob: User, clinic: User) -> None:
    make_patient(clinic)
    Delegation.objects.create(owner=clinic, delegate=alice, role="manage")
    for argument in ("--yes", "--dry-run"):
        out = StringIO()
        with pytest.raises(CommandError, match=r"^last_manager: FROM is a clinic, which keeps its managers\. Hand"):
            call_command("hand_over", "sunrise", "bob", "--reason", "closes", argument, stdout=out)
        assert out.getvalue() == "", "no heading without a list"
    assert owners() == ["sunrise"]
    assert Delegation.objects.living().get().owner == clinic


def test_what_the_user_may_do_for_others_stays_and_is_named(alice: User, bob: User, clinic: User) -> None:
    Delegation.objects.create(owner=clinic, delegate=alice, role="manage")
    assert hand_over().endswith("alice is still a delegate of sunrise (manage).\n")
    assert Delegation.objects.living().get().delegate == alice


def test_pending_transfers_end(alice: User, bob: User, asha: User) -> None:
    given, received = make_patient(alice), make_patient(asha)
    for patient, giver, to in ((given, alice, asha), (received, asha, alice)):
        PatientTransfer.objects.create(patient=patient, from_owner=giver, to_owner=to)
    hand_over()
    states = PatientTransfer.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["withdrawn", "declined"]
    assert owners() == ["bob", "asha"]
    kinds = Notice.objects.filter(user=asha).order_by("kind").values_list("kind", flat=True)
    assert list(kinds) == ["transfer_declined", "transfer_withdrawn"]


def test_a_patient_who_has_another_owner_meanwhile_is_left_alone(alice: User, bob: User, asha: User) -> None:
    patient, survivor = make_patient(alice), make_patient(alice)
    merged = make_patient(alice)
    merge(survivor, merged)
    Patient.objects.filter(pk=patient.pk).update(created_by=asha)
    with transaction.atomic():
        assert move_patients([patient.pk, merged.pk], alice, bob, None) == 0
    assert owners() == ["asha", "alice", "alice"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"giver": "nobody"}, "FROM: There is no user with this username."),
        ({"to": "nobody"}, "TO: There is no user with this username."),
        ({"to": "alice"}, "FROM and TO are the same user."),
        ({"to": "asha"}, "TO is not active: nobody could work with the patients."),
        ({"reason": " "}, "--reason: This field cannot be blank."),
    ],
)
def test_it_is_refused(alice: User, bob: User, asha: User, arguments: dict[str, str], message: str) -> None:
    User.objects.filter(pk=asha.pk).update(is_active=False)
    make_patient(alice)
    with pytest.raises(CommandError) as error:
        hand_over(**arguments)
    assert str(error.value) == message
    assert owners() == ["alice"]


@pytest.mark.parametrize(("answer", "moves"), [("alice\n", True), ("yes\n", False), ("", False)])
def test_it_asks_first(alice: User, bob: User, monkeypatch: pytest.MonkeyPatch, answer: str, moves: bool) -> None:
    make_patient(alice)
    monkeypatch.setattr(sys, "stdin", StringIO(answer))
    out = StringIO()
    if moves:
        call_command("hand_over", "alice", "bob", reason="alice leaves", stdout=out)
    else:
        with pytest.raises(CommandError, match="othing was handed over|obody to ask"):
            call_command("hand_over", "alice", "bob", reason="alice leaves", stdout=out)
    assert owners() == ["bob" if moves else "alice"]


PROGRAM = """
import os, signal, sys
import django
django.setup()
from django.core.management import call_command
from patients import hand_over
hand_over.PATIENTS_PER_TRANSACTION = 2
giver, to, kill_at = sys.argv[1:]
original, calls = hand_over.move_patients, []
def move(*arguments):
    calls.append(1)
    moved = original(*arguments)
    if len(calls) == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)  # the third transaction has written and not committed
    return moved
hand_over.move_patients = move
call_command("hand_over", giver, to, "--reason", "leaves", "--yes")
"""


def test_a_killed_run_is_continued(live: LiveServer) -> None:
    (giver, tokens), (to, to_tokens), (delegate, _) = live.register(), live.register(), live.register()
    for number in range(7):
        body = {"name": f"Number {number}"}
        assert live.call("POST", "/api/patients/", body, tokens["access"]).status == 201
    given = live.call("POST", "/api/delegations/", {"delegate": delegate["username"], "role": "read"}, tokens["access"])
    assert given.status == 201, given.body

    def run(kill_at: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", PROGRAM, giver["username"], to["username"], str(kill_at)]
        return subprocess.run(
            command, env=live.environment, check=False, capture_output=True, text=True, cwd=settings.BASE_DIR
        )

    killed = run(3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "4 of 7 records of patients handed over." in killed.stdout
    lists = [live.call("GET", "/api/patients/", token=one["access"]).json for one in (to_tokens, tokens)]
    assert [len(patients) for patients in lists] == [4, 3], "whole transactions only"
    continued = run(0)
    assert continued.returncode == 0, continued.stderr
    assert "3 of 3 records of patients handed over." in continued.stdout
    names = [row["name"] for row in live.call("GET", "/api/patients/", token=to_tokens["access"]).json]
    assert sorted(names) == [f"Number {number}" for number in range(7)]
    assert live.call("GET", "/api/patients/", token=tokens["access"]).json == []
    given = live.call("GET", "/api/delegations/?direction=given", token=to_tokens["access"]).json
    assert [delegation["delegate"]["username"] for delegation in given] == [delegate["username"]]
    connection = psycopg2.connect(live.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT pgh_context ->> 'reason' FROM patients_patientevent WHERE created_by_id = %s", [to["id"]]
        )
        assert cursor.fetchall() == [("leaves",)]
    connection.close()
