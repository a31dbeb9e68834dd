"""The history of a patient whom alice has given to bob belongs to bob, and to nobody else."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from accounts.delegations.models import Delegation
from accounts.models import User
from audit.models import Seal
from audit.tests.test_seals import SEAL_KEY
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor
from healthcare.rls.context import enter
from healthcare.tests.planner import rewrite_and_analyze
from mappings.erasure import erase_user
from mappings.models import Mapping, MappingEvent
from patients.erasure import erase
from patients.merges import merge, unmerge
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient
from patients.transfers import move_patients


@pytest.fixture(params=["fast", "standard"])
def path(request: pytest.FixtureRequest, settings: LazySettings) -> str:
    """Through the fast path, and without it."""
    settings.FAST_PATH = {"fast": "on", "standard": "off"}[request.param]
    return str(request.param)


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice, name="Before")


def give(patient: Patient, giver: User, to: User) -> None:
    with transaction.atomic():
        assert move_patients([patient.pk], giver, to, None) >= 1


def now() -> str:
    return timezone.now().isoformat().replace("+00:00", "Z")


def searchable_words() -> list[tuple[int, str]]:
    """What searches look words up in: each word with the id of its owner."""
    return list(apps.get_model("patients", "PatientWord").objects.order_by("pk").values_list("owner", "word"))


def rows_seen_by(user: User, model: Any) -> list[int]:
    """The ids of the records whose events row-level security shows to the user, without any scope in the code."""
    with transaction.atomic():
        enter(user.pk)
        ids = sorted(set(model.objects.values_list("id", flat=True)))
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('role', 'none', true), set_config('app.user_id', '', true)")
    return ids


def test_the_past_goes_with_the_record(
    path: str, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    doctor = Doctor.objects.create(created_by=alice, name="Dr. Rao")
    mapping = Mapping.objects.create(created_by=alice, patient=patient, doctor=doctor)
    Patient.objects.filter(pk=patient.pk).update(name="Changed")
    before = now()
    give(patient, alice, bob)
    url = f"/api/patients/{patient.pk}/"
    changes = [entry["changes"] for entry in as_bob.get(f"{url}history/").json()]
    assert changes == [
        {"created_by": [alice.pk, bob.pk]},
        {"name": ["Before", "Changed"]},
        {"name": [None, "Before"], "gender": [None, "M"]},
    ]
    assert as_bob.get(f"{url}?as_of={before}").json()["name"] == "Changed"
    for listed, key in (("patients", patient.pk), ("mappings", mapping.pk)):
        assert [row["id"] for row in as_bob.get(f"/api/{listed}/?as_of={before}").json()] == [key]
        assert as_alice.get(f"/api/{listed}/?as_of={before}").json() == []
    assert [row["name"] for row in as_bob.get(f"{url}doctors/?as_of={before}").json()] == ["Dr. Rao"]
    for lost in (f"{url}history/", f"{url}?as_of={before}", f"/api/assignments/{mapping.pk}/?as_of={before}"):
        assert as_alice.get(lost).status_code == 404
    assert (rows_seen_by(bob, PatientEvent), rows_seen_by(alice, PatientEvent)) == ([patient.pk], [])
    assert (rows_seen_by(bob, MappingEvent), rows_seen_by(alice, MappingEvent)) == ([mapping.pk], [])


def test_a_patient_who_comes_back_has_the_whole_past(
    path: str, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    give(patient, alice, bob)
    as_bob.patch(f"/api/patients/{patient.pk}/", {"name": "Bob's"})
    then = now()
    give(patient, bob, alice)
    history = as_alice.get(f"/api/patients/{patient.pk}/history/").json()
    assert [entry["changes"].get("created_by") for entry in history] == [
        [bob.pk, alice.pk], None, [alice.pk, bob.pk], None,
    ]  # fmt: skip
    assert [row["name"] for row in as_alice.get(f"/api/patients/?as_of={then}").json()] == ["Bob's"]
    assert as_bob.get(f"/api/patients/?as_of={then}").json() == []
    assert rows_seen_by(bob, PatientEvent) == []


def test_delegates_see_the_history_of_the_owner(
    path: str, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    at = now()
    own: dict[str, str] = {}
    acting = {"x-acting-for": "alice"}
    for _ in range(2):  # the fast path serves an owner whom the process knows
        assert [row["id"] for row in as_bob.get(f"/api/patients/?as_of={at}", headers=acting).json()] == [patient.pk]
        assert len(as_bob.get(f"/api/patients/{patient.pk}/history/", headers=acting).json()) == 1
        assert as_bob.get(f"/api/patients/?as_of={at}", headers=own).json() == []
        assert as_bob.get(f"/api/patients/{patient.pk}/history/", headers=own).status_code == 404


def test_versions_with_values_of_a_patient_who_stays_are_not_handed_over(
    path: str, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, patient: Patient
) -> None:
    """alice has merged another person's record into the patient's by mistake, and undone it."""
    other = make_patient(alice, name="Other", phone="080 5550 0100")
    merge(patient, other)
    during = now()
    unmerge(Patient.objects.get(pk=patient.pk), Patient.objects.get(pk=other.pk))
    give(patient, alice, bob)
    history = as_bob.get(f"/api/patients/{patient.pk}/history/")
    assert "5550 0100" not in history.content.decode()
    assert [entry["version"] for entry in history.json()] == [4, 3, 1]
    assert [row["phone"] for row in as_bob.get(f"/api/patients/?as_of={during}").json()] == [""]
    assert as_alice.get(f"/api/patients/{other.pk}/").json()["phone"] == "080 5550 0100"
    assert as_alice.get(f"/api/patients/{patient.pk}/history/").status_code == 404
    assert as_alice.get(f"/api/patients/{patient.pk}/?as_of={during}").status_code == 404
    assert as_alice.get(f"/api/patients/?as_of={during}").json() == []
    assert rows_seen_by(alice, PatientEvent) == [other.pk]
    give(patient, bob, alice)  # both are hers again
    restored = as_alice.get(f"/api/patients/?as_of={during}").json()
    assert [(row["id"], row["phone"]) for row in restored] == [(patient.pk, "080 5550 0100")]


@pytest.mark.parametrize("passed_on", [False, True], ids=["to one record", "through it to another"])
def test_versions_with_values_of_a_patient_who_moves_are_nobodys(
    path: str,
    as_alice: LoggedInClient,
    as_bob: LoggedInClient,
    alice: User,
    bob: User,
    patient: Patient,
    *,
    passed_on: bool,
) -> None:
    """alice has merged the patient's record into those of others by mistake, and undone it."""
    Patient.objects.filter(pk=patient.pk).update(phone="080 5550 0100")
    middle, last = make_patient(alice, name="Middle"), make_patient(alice, name="Last")
    merge(middle, Patient.objects.get(pk=patient.pk))
    if passed_on:
        merge(last, Patient.objects.get(pk=middle.pk))
    during = now()
    if passed_on:
        unmerge(Patient.objects.get(pk=last.pk), Patient.objects.get(pk=middle.pk))
    unmerge(Patient.objects.get(pk=middle.pk), Patient.objects.get(pk=patient.pk))
    give(patient, alice, bob)
    for kept in (middle, last):
        for way in ("history/", f"?as_of={during}"):
            assert "5550 0100" not in as_alice.get(f"/api/patients/{kept.pk}/{way}").content.decode()
    assert "5550 0100" not in as_alice.get(f"/api/patients/?as_of={during}").content.decode()
    assert as_bob.get(f"/api/patients/?as_of={during}").json() == []
    assert as_bob.get(f"/api/patients/{patient.pk}/").json()["phone"] == "080 5550 0100"


@pytest.mark.parametrize("first", ["survivor", "duplicate"])
def test_versions_of_two_patients_are_seen_again_once_both_have_one_owner(
    as_bob: LoggedInClient, alice: User, bob: User, make_user: Any, patient: Patient, first: str
) -> None:
    other, third = (make_patient(alice, name="Other", phone=phone) for phone in ("080 5550 0100", "080 5550 0200"))
    for duplicate in (other, third):
        merge(Patient.objects.get(pk=patient.pk), duplicate)
        unmerge(Patient.objects.get(pk=patient.pk), Patient.objects.get(pk=duplicate.pk))
    order = [patient, other] if first == "survivor" else [other, patient]
    seen = []
    for moved in [*order, third]:
        give(moved, alice, bob)
        history = as_bob.get(f"/api/patients/{patient.pk}/history/")
        text = history.content.decode() if history.status_code == 200 else ""
        seen.append([number in text for number in ("5550 0100", "5550 0200")])
    assert seen == [[False, False], [True, False], [True, True]]
    give(third, bob, make_user("carol"))
    text = as_bob.get(f"/api/patients/{patient.pk}/history/").content.decode()
    assert [number in text for number in ("5550 0100", "5550 0200")] == [True, False]


def test_seals_hold_and_an_erasure_is_complete(
    alice: User, bob: User, patient: Patient, settings: LazySettings
) -> None:
    settings.AUDIT_SEAL_KEY = SEAL_KEY
    call_command("seal_audit")
    give(patient, alice, bob)
    call_command("verify_audit", full=True)
    call_command("seal_audit")
    call_command("verify_audit", full=True)
    assert not any("pgh_owner_id" in seal.columns for seal in Seal.objects.all())
    erase(patient.pk, reason="asked for", account="root")
    assert not PatientEvent.objects.filter(id=patient.pk).exists()
    call_command("verify_audit", full=True)


def test_an_erasure_leaves_no_word_of_the_name_with_former_owners(
    alice: User, bob: User, make_user: Callable[..., User], patient: Patient
) -> None:
    """alice has given the patient to carol, and carol to bob."""
    carol = make_user("carol")
    make_patient(alice, name="Staying")
    Patient.objects.filter(pk=patient.pk).update(name="Zebulon Quinn")
    give(patient, alice, carol)
    give(patient, carol, bob)
    erase(patient.pk, reason="asked for", account="root")
    assert searchable_words() == [(alice.pk, "staying")]


def test_erasing_a_user_who_has_handed_everything_over_leaves_no_word(alice: User, bob: User, patient: Patient) -> None:
    give(patient, alice, bob)
    assert (alice.pk, "before") in searchable_words()
    erase_user(alice, reason="has left", account="root")
    assert searchable_words() == [(bob.pk, "before")]


def test_a_page_as_of_a_time_is_read_from_the_index_after_transfers(alice: User, bob: User) -> None:
    Patient.objects.bulk_create(Patient(created_by=alice, name="X") for _ in range(2000))
    given = list(Patient.objects.values_list("pk", flat=True)[:1000])
    with transaction.atomic():
        move_patients(given, alice, bob, None)
    rewrite_and_analyze("patients_patientevent")
    for owner in (alice, bob):
        plan = PatientEvent.objects.owned_by(owner).as_of(timezone.now()).order_by("-id")[:101].explain()
        assert "patient_then_owner" in plan, plan
        assert "Seq Scan" not in plan, plan


def test_events_change_nothing_but_their_owner(alice: User, bob: User, patient: Patient) -> None:
    names = [field.attname for field in PatientEvent._meta.fields if field.attname != "pgh_owner_id"]
    before = list(PatientEvent.objects.filter(id=patient.pk).order_by("pk").values_list(*names))
    give(patient, alice, bob)
    after = list(PatientEvent.objects.filter(id=patient.pk).order_by("pk").values_list(*names))
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert logged_in(bob).get("/api/patients/").json()[0]["id"] == patient.pk
