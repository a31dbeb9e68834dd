"""A random sequence of calls against a model of dicts: after each one the API shows what the model says.

A short run from a fixed seed is part of the tests. The long one, from a new seed each time:
`STATE_MACHINE_EXAMPLES=1000 python3 manage.py test healthcare/tests/test_state_machine.py`, about half an hour.
"""

import json
import os
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from conftest import LoggedInClient
from patients.models import Patient

LONG = os.environ.get("STATE_MACHINE_EXAMPLES")
PROFILE = settings(
    max_examples=int(LONG or 6),
    stateful_step_count=40,
    derandomize=not LONG,
    phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = st.sampled_from(["Ana", "José 李", "Dr. O'Neil", 'a "quoted" \\ name', "👩‍⚕️"])

One = TypeVar("One")
WHICH = st.integers(0, 2)  # among the first three, so that much happens to each


@dataclass
class Thing:
    """A patient or a doctor."""

    id: int
    name: str
    tags: list[str]
    version: int = 1
    deleted: bool = False
    into: "Thing | None" = None  # what it was merged into
    moved: list[tuple["Assignment", bool]] = field(default_factory=list)  # by that, and whether it was primary before

    @property
    def missing(self) -> int:
        return 410 if self.into else 404


@dataclass
class Assignment:
    id: int
    patient: Thing
    doctor: Thing
    started_at: str
    primary: bool = False
    ended: bool = False
    ended_by: Thing | None = None  # the duplicate whose merge ended it


@dataclass
class Post:
    """A patient made with a key."""

    key: str
    body: dict[str, Any]
    first: Any = None


@dataclass
class World:
    patients: list[Thing] = field(default_factory=list)
    doctors: list[Thing] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)

    def assigned(self, patient: Thing) -> list[Assignment]:
        return [one for one in self.assignments if one.patient is patient and not one.ended]

    def treating(self, doctor: Thing) -> list[Assignment]:
        active = [one for one in self.assignments if one.doctor is doctor and not one.ended]
        return [one for one in active if not one.patient.deleted]

    def merge(self, duplicate: Thing, survivor: Thing) -> None:
        kept = self.assigned(survivor)
        for one in [one for one in self.assignments if one.patient is duplicate]:
            twice = not one.ended and any(other.doctor is one.doctor for other in kept)
            second = not one.ended and not twice and one.primary and any(other.primary for other in kept)
            one.patient, one.ended, one.primary = survivor, one.ended or twice, one.primary and not second
            one.ended_by = duplicate if twice else one.ended_by
            duplicate.moved.append((one, second))
        duplicate.into, duplicate.deleted, duplicate.version = survivor, True, duplicate.version + 1

    def unmerge(self, duplicate: Thing) -> None:
        primary = False
        for one, second in sorted(duplicate.moved, key=lambda moved: moved[0].ended or not moved[0].primary):
            one.patient, one.primary = duplicate, one.primary or second
            one.ended &= one.ended_by is not duplicate
            if not one.ended:
                one.primary, primary = one.primary and not primary, primary or one.primary
            one.ended |= one.doctor.deleted  # who has left since
        duplicate.into, duplicate.deleted, duplicate.version, duplicate.moved = None, False, duplicate.version + 1, []


def pick(things: list[One], which: int) -> One:
    return things[which % len(things)]


class Calls(RuleBasedStateMachine):
    """The rules are what a client does; what it is answered follows from the world alone."""

    client: LoggedInClient

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.undone = transaction.atomic()
        self.undone.__enter__()

    def teardown(self) -> None:
        try:
            self.lists_show("doctors", self.world.doctors)
            self.treating_doctors_show_the_world()
        finally:
            transaction.set_rollback(True)
            self.undone.__exit__(None, None, None)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = "" if body is None else json.dumps(body)
        return self.client.generic(method, path, data, "application/json", headers=sent)

    def create(self, kind: str, name: str, things: list[Thing]) -> None:
        answer = self.call("POST", f"/api/{kind}/", {"name": name})
        assert (answer.status_code, answer.json()["name"], answer.json()["version"]) == (201, name, 1)
        things.append(Thing(answer.json()["id"], name, [answer["ETag"]]))

    def change(self, kind: str, thing: Thing, name: str, **headers: str) -> None:
        answer = self.call("PATCH", f"/api/{kind}/{thing.id}/", {"name": name}, **headers)
        assert answer.status_code == (thing.missing if thing.deleted else 200), answer.content
        if not thing.deleted:
            thing.version += thing.name != name
            thing.name = name
            self.seen(thing, answer)

    def seen(self, thing: Thing, answer: Any) -> None:
        assert (answer.json()["name"], answer.json()["version"]) == (thing.name, thing.version)
        assert (answer["ETag"] in thing.tags) == (answer["ETag"] == thing.tags[-1])
        if answer["ETag"] not in thing.tags:
            thing.tags.append(answer["ETag"])

    def restore(self, kind: str, thing: Thing) -> None:
        answer = self.call("POST", f"/api/{kind}/{thing.id}/restore/")
        assert answer.status_code == (410 if thing.into else 200)
        if thing.into:
            return
        thing.version += thing.deleted
        thing.deleted = False
        self.seen(thing, answer)

    def delete(self, kind: str, thing: Thing, status: int) -> None:
        answer = self.call("DELETE", f"/api/{kind}/{thing.id}/")
        assert answer.status_code == (thing.missing if thing.deleted else status), answer.content
        if answer.status_code == 204:
            thing.deleted = True
            thing.version += 1

    @initialize()
    def begin(self) -> None:
        for name in ("First", "Second"):
            self.create_with_a_key(name)
            self.create_doctor(name)
        self.assign(0, 0)

    @rule(name=NAMES)
    def create_patient(self, name: str) -> None:
        self.create("patients", name, self.world.patients)

    @rule(name=NAMES)
    def create_doctor(self, name: str) -> None:
        self.create("doctors", name, self.world.doctors)

    @rule(which=WHICH, name=NAMES)
    def change_patient(self, which: int, name: str) -> None:
        self.change("patients", pick(self.world.patients, which), name)

    @rule(which=WHICH, name=NAMES)
    def change_doctor_in_the_state_that_was_read(self, which: int, name: str) -> None:
        doctor = pick(self.world.doctors, which)
        if not doctor.deleted:  # a deletion has no tag to read
            self.change("doctors", doctor, name, If_Match=doctor.tags[-1])

    @rule(which=WHICH, name=NAMES, past=WHICH)
    def change_patient_in_a_state_that_has_passed(self, which: int, name: str, past: int) -> None:
        patient = pick(self.world.patients, which)
        passed = patient.tags if patient.deleted else patient.tags[:-1]
        for method in ("PATCH", "PUT", "DELETE") if passed else ():
            answer = self.call(method, f"/api/patients/{patient.id}/", {"name": name}, If_Match=pick(passed, past))
            assert answer.status_code == (patient.missing if patient.deleted else 412)

    @rule(which=WHICH)
    def delete_patient(self, which: int) -> None:
        self.delete("patients", pick(self.world.patients, which), 204)

    @rule(which=WHICH)
    def delete_doctor(self, which: int) -> None:
        doctor = pick(self.world.doctors, which)
        self.delete("doctors", doctor, 409 if self.world.treating(doctor) else 204)

    @rule(which=WHICH)
    def restore_patient(self, which: int) -> None:
        patient = pick(self.world.patients, which)
        if patient.deleted and not patient.into:
            for assignment in self.world.assigned(patient):
                assignment.ended |= assignment.doctor.deleted  # who has left since
        self.restore("patients", patient)

    @rule(which=WHICH, who=WHICH)
    def come_back_after_a_doctor_has_left(self, which: int, who: int) -> None:
        self.restore_patient(which)
        self.restore_doctor(who)
        self.assign(which, who)
        self.delete_patient(which)
        self.delete_doctor(who)
        self.restore_patient(which)

    @rule(which=WHICH)
    def restore_doctor(self, which: int) -> None:
        self.restore("doctors", pick(self.world.doctors, which))

    @rule(of=WHICH, to=WHICH)
    def assign(self, of: int, to: int) -> None:
        patient, doctor = pick(self.world.patients, of), pick(self.world.doctors, to)
        answer = self.call("POST", "/api/mappings/", {"patient": patient.id, "doctor": doctor.id})
        taken = any(one.doctor is doctor for one in self.world.assigned(patient))
        if patient.deleted or doctor.deleted or taken:
            assert answer.status_code == 400, answer.content
        else:
            assert answer.status_code == 201, answer.content
            row = answer.json()
            self.world.assignments.append(Assignment(row["id"], patient, doctor, row["started_at"]))

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        assignment = pick(self.world.assignments, which)
        there = not assignment.ended and not assignment.patient.deleted
        assert self.call("DELETE", f"/api/mappings/{assignment.id}/").status_code == (204 if there else 404)
        assignment.ended |= there

    @rule(which=WHICH, primary=st.booleans(), end=st.booleans())
    def change_assignment(self, which: int, primary: bool, end: bool) -> None:
        one = pick(self.world.assignments, which)
        body = {"is_primary": primary} | ({"ended_at": one.started_at} if end else {})
        answer = self.call("PATCH", f"/api/mappings/{one.id}/", body)
        taken = any(other.primary for other in self.world.assigned(one.patient) if other is not one)
        refused = primary and taken and not (one.ended or end)
        assert answer.status_code == (404 if one.patient.deleted else 400 if refused else 200), answer.content
        if answer.status_code == 200:
            one.primary, one.ended, one.ended_by = primary, one.ended or end, None if end else one.ended_by

    @rule(of=WHICH, into=WHICH)
    def merge(self, of: int, into: int) -> None:
        duplicate, survivor = pick(self.world.patients, of), pick(self.world.patients, into)
        answer = self.call("POST", f"/api/patients/{survivor.id}/merge/", {"duplicate": duplicate.id})
        refused = duplicate is survivor or duplicate.deleted
        assert answer.status_code == (survivor.missing if survivor.deleted else 400 if refused else 200), answer.content
        if answer.status_code == 200:
            self.world.merge(duplicate, survivor)
            self.seen(survivor, answer)

    @rule(of=WHICH)
    def unmerge(self, of: int) -> None:
        duplicate = pick([one for one in self.world.patients if one.into] or self.world.patients, of)
        survivor = duplicate.into or duplicate
        answer = self.call("POST", f"/api/patients/{survivor.id}/unmerge/", {"duplicate": duplicate.id})
        expected = survivor.missing if survivor.deleted else 200 if duplicate.into else 400
        assert answer.status_code == expected, answer.content
        if answer.status_code == 200:
            self.world.unmerge(duplicate)
            self.seen(survivor, answer)
            self.seen(duplicate, self.call("GET", f"/api/patients/{duplicate.id}/"))

    @rule(name=NAMES)
    def create_with_a_key(self, name: str) -> None:
        post = Post(f"key-{len(self.world.posts)}", {"name": name})
        answer = post.first = self.call("POST", "/api/patients/", post.body, Idempotency_Key=post.key)
        assert answer.status_code == 201
        self.world.patients.append(Thing(answer.json()["id"], name, [answer["ETag"]]))
        self.world.posts.append(post)

    @rule(which=WHICH)
    def send_again(self, which: int) -> None:
        post = pick(self.world.posts, which)
        answer = self.call("POST", "/api/patients/", post.body, Idempotency_Key=post.key)
        assert (answer.status_code, answer.content, answer["ETag"]) == (201, post.first.content, post.first["ETag"])
        assert answer["Idempotency-Replayed"] == "true"

    @rule(which=WHICH, of=WHICH)
    def use_a_key_again_for_something_else(self, which: int, of: int) -> None:
        key, patient = pick(self.world.posts, which).key, pick(self.world.patients, of)
        for path in ("/api/patients/", "/api/doctors/", f"/api/patients/{patient.id}/restore/"):
            assert self.call("POST", path, {"name": "Another"}, Idempotency_Key=key).status_code == 422

    @invariant()
    def patients_show_the_world(self) -> None:
        self.lists_show("patients", self.world.patients)

    @invariant()
    def assignments_show_the_world(self) -> None:
        there = [one for one in self.world.assignments if not one.patient.deleted]
        for query, ended in (("", False), ("&active=false", True)):
            rows = self.call("GET", f"/api/mappings/?limit=500{query}").json()
            shown = [(row["id"], row["patient"], row["doctor"], row["is_primary"]) for row in rows]
            expected = [(one.id, one.patient.id, one.doctor.id, one.primary) for one in there if one.ended == ended]
            assert shown == expected[::-1]

    def lists_show(self, kind: str, things: list[Thing]) -> None:
        for query, deleted in (("", False), ("&deleted=true", True)):
            rows = self.call("GET", f"/api/{kind}/?limit=500{query}").json()
            shown = [(row["id"], row["name"], row["version"]) for row in rows]
            there = [one for one in things if one.deleted == deleted and not one.into]
            assert shown == [(one.id, one.name, one.version) for one in there][::-1]

    def treating_doctors_show_the_world(self) -> None:
        for patient in self.world.patients:
            answer = self.call("GET", f"/api/patients/{patient.id}/doctors/")
            assert answer.status_code == (patient.missing if patient.deleted else 200)
            if not patient.deleted:
                doctors = [(row["id"], row["name"], row["mapping"]) for row in answer.json()]
                treating = self.world.assigned(patient)[::-1]
                assert doctors == [(one.doctor.id, one.doctor.name, one.id) for one in treating]
        for doctor in self.world.doctors:
            if not doctor.deleted:
                rows = self.call("GET", f"/api/doctors/{doctor.id}/patients/").json()
                treated = [(one.patient.id, one.patient.name, one.id) for one in self.world.treating(doctor)]
                assert [(row["id"], row["name"], row["mapping"]) for row in rows] == treated[::-1]


@pytest.mark.django_db
def test_every_sequence_of_calls_does_what_the_model_says(as_alice: LoggedInClient) -> None:
    Calls.client = as_alice
    run_state_machine_as_test(Calls, settings=PROFILE)
    assert not Patient.objects.exists()  # each run was undone
