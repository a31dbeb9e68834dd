"""Random sequences of calls, compared with a model in memory: after each call the API answers what the model holds.

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
WHICH = st.integers(0, 2)  # one of the first three, so that each is used often


@dataclass
class Person:
    """A patient or a doctor."""

    id: int
    name: str
    tags: list[str]
    version: int = 1
    deleted: bool = False
    into: "Person | None" = None  # what it was merged into
    moved: list[tuple["Assignment", bool]] = field(default_factory=list)  # by that, and whether it was primary before

    @property
    def missing(self) -> int:
        return 410 if self.into else 404


@dataclass
class Assignment:
    id: int
    patient: Person
    doctor: Person
    started_at: str
    primary: bool = False
    ended: bool = False
    ended_by: Person | None = None  # the duplicate whose merge ended it


@dataclass
class Post:
    """A POST of a patient with an idempotency key."""

    key: str
    body: dict[str, Any]
    first: Any = None


@dataclass
class Model:
    patients: list[Person] = field(default_factory=list)
    doctors: list[Person] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)

    def assigned(self, patient: Person) -> list[Assignment]:
        return [one for one in self.assignments if one.patient is patient and not one.ended]

    def treating(self, doctor: Person) -> list[Assignment]:
        active = [one for one in self.assignments if one.doctor is doctor and not one.ended]
        return [one for one in active if not one.patient.deleted]

    def merge(self, duplicate: Person, survivor: Person) -> None:
        kept = self.assigned(survivor)
        for one in [one for one in self.assignments if one.patient is duplicate]:
            twice = not one.ended and any(other.doctor is one.doctor for other in kept)
            second = not one.ended and not twice and one.primary and any(other.primary for other in kept)
            one.patient, one.ended, one.primary = survivor, one.ended or twice, one.primary and not second
            one.ended_by = duplicate if twice else one.ended_by
            duplicate.moved.append((one, second))
        duplicate.into, duplicate.deleted, duplicate.version = survivor, True, duplicate.version + 1

    def unmerge(self, duplicate: Person) -> None:
        primary = False
        for one, second in sorted(duplicate.moved, key=lambda moved: moved[0].ended or not moved[0].primary):
            one.patient, one.primary = duplicate, one.primary or second
            one.ended &= one.ended_by is not duplicate
            if not one.ended:
                one.primary, primary = one.primary and not primary, primary or one.primary
            one.ended |= one.doctor.deleted  # who was deleted meanwhile
        duplicate.into, duplicate.deleted, duplicate.version, duplicate.moved = None, False, duplicate.version + 1, []


def pick(items: list[One], which: int) -> One:
    return items[which % len(items)]


class Calls(RuleBasedStateMachine):
    """Each rule is a call of a client. The expected answer follows from the model alone."""

    client: LoggedInClient

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.undone = transaction.atomic()
        self.undone.__enter__()

    def teardown(self) -> None:
        try:
            self.lists_answer("doctors", self.model.doctors)
            self.treating_doctors_are_those_of_the_model()
        finally:
            transaction.set_rollback(True)
            self.undone.__exit__(None, None, None)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = "" if body is None else json.dumps(body)
        return self.client.generic(method, path, data, "application/json", headers=sent)

    def create(self, kind: str, name: str, people: list[Person]) -> None:
        answer = self.call("POST", f"/api/{kind}/", {"name": name})
        assert (answer.status_code, answer.json()["name"], answer.json()["version"]) == (201, name, 1)
        people.append(Person(answer.json()["id"], name, [answer["ETag"]]))

    def change(self, kind: str, person: Person, name: str, **headers: str) -> None:
        answer = self.call("PATCH", f"/api/{kind}/{person.id}/", {"name": name}, **headers)
        assert answer.status_code == (person.missing if person.deleted else 200), answer.content
        if not person.deleted:
            person.version += person.name != name
            person.name = name
            self.seen(person, answer)

    def seen(self, person: Person, answer: Any) -> None:
        assert (answer.json()["name"], answer.json()["version"]) == (person.name, person.version)
        assert (answer["ETag"] in person.tags) == (answer["ETag"] == person.tags[-1])
        if answer["ETag"] not in person.tags:
            person.tags.append(answer["ETag"])

    def restore(self, kind: str, person: Person) -> None:
        answer = self.call("POST", f"/api/{kind}/{person.id}/restore/")
        assert answer.status_code == (410 if person.into else 200)
        if person.into:
            return
        person.version += person.deleted
        person.deleted = False
        self.seen(person, answer)

    def delete(self, kind: str, person: Person, status: int) -> None:
        answer = self.call("DELETE", f"/api/{kind}/{person.id}/")
        assert answer.status_code == (person.missing if person.deleted else status), answer.content
        if answer.status_code == 204:
            person.deleted = True
            person.version += 1

    @initialize()
    def begin(self) -> None:
        for name in ("First", "Second"):
            self.create_with_a_key(name)
            self.create_doctor(name)
        self.assign(0, 0)

    @rule(name=NAMES)
    def create_patient(self, name: str) -> None:
        self.create("patients", name, self.model.patients)

    @rule(name=NAMES)
    def create_doctor(self, name: str) -> None:
        self.create("doctors", name, self.model.doctors)

    @rule(which=WHICH, name=NAMES)
    def change_patient(self, which: int, name: str) -> None:
        self.change("patients", pick(self.model.patients, which), name)

    @rule(which=WHICH, name=NAMES)
    def change_doctor_with_the_current_etag(self, which: int, name: str) -> None:
        doctor = pick(self.model.doctors, which)
        if not doctor.deleted:  # a deletion answers without an ETag
            self.change("doctors", doctor, name, If_Match=doctor.tags[-1])

    @rule(which=WHICH, name=NAMES, past=WHICH)
    def change_patient_with_an_old_etag(self, which: int, name: str, past: int) -> None:
        patient = pick(self.model.patients, which)
        passed = patient.tags if patient.deleted else patient.tags[:-1]
        for method in ("PATCH", "PUT", "DELETE") if passed else ():
            answer = self.call(method, f"/api/patients/{patient.id}/", {"name": name}, If_Match=pick(passed, past))
            assert answer.status_code == (patient.missing if patient.deleted else 412)

    @rule(which=WHICH)
    def delete_patient(self, which: int) -> None:
        self.delete("patients", pick(self.model.patients, which), 204)

    @rule(which=WHICH)
    def delete_doctor(self, which: int) -> None:
        doctor = pick(self.model.doctors, which)
        self.delete("doctors", doctor, 409 if self.model.treating(doctor) else 204)

    @rule(which=WHICH)
    def restore_patient(self, which: int) -> None:
        patient = pick(self.model.patients, which)
        if patient.deleted and not patient.into:
            for assignment in self.model.assigned(patient):
                assignment.ended |= assignment.doctor.deleted  # who was deleted meanwhile
        self.restore("patients", patient)

    @rule(which=WHICH, who=WHICH)
    def restore_patient_after_a_doctor_was_deleted(self, which: int, who: int) -> None:
        self.restore_patient(which)
        self.restore_doctor(who)
        self.assign(which, who)
        self.delete_patient(which)
        self.delete_doctor(who)
        self.restore_patient(which)

    @rule(which=WHICH)
    def restore_doctor(self, which: int) -> None:
        self.restore("doctors", pick(self.model.doctors, which))

    @rule(of=WHICH, to=WHICH)
    def assign(self, of: int, to: int) -> None:
        patient, doctor = pick(self.model.patients, of), pick(self.model.doctors, to)
        answer = self.call("POST", "/api/mappings/", {"patient": patient.id, "doctor": doctor.id})
        taken = any(one.doctor is doctor for one in self.model.assigned(patient))
        if patient.deleted or doctor.deleted or taken:
            assert answer.status_code == 400, answer.content
        else:
            assert answer.status_code == 201, answer.content
            row = answer.json()
            self.model.assignments.append(Assignment(row["id"], patient, doctor, row["started_at"]))

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        assignment = pick(self.model.assignments, which)
        there = not assignment.ended and not assignment.patient.deleted
        assert self.call("DELETE", f"/api/mappings/{assignment.id}/").status_code == (204 if there else 404)
        assignment.ended |= there

    @rule(which=WHICH, primary=st.booleans(), end=st.booleans())
    def change_assignment(self, which: int, primary: bool, end: bool) -> None:
        one = pick(self.model.assignments, which)
        body = {"is_primary": primary} | ({"ended_at": one.started_at} if end else {})
        answer = self.call("PATCH", f"/api/mappings/{one.id}/", body)
        taken = any(other.primary for other in self.model.assigned(one.patient) if other is not one)
        refused = primary and taken and not (one.ended or end)
        assert answer.status_code == (404 if one.patient.deleted else 400 if refused else 200), answer.content
        if answer.status_code == 200:
            one.primary, one.ended, one.ended_by = primary, one.ended or end, None if end else one.ended_by

    @rule(of=WHICH, into=WHICH)
    def merge(self, of: int, into: int) -> None:
        duplicate, survivor = pick(self.model.patients, of), pick(self.model.patients, into)
        answer = self.call("POST", f"/api/patients/{survivor.id}/merge/", {"duplicate": duplicate.id})
        refused = duplicate is survivor or duplicate.deleted
        assert answer.status_code == (survivor.missing if survivor.deleted else 400 if refused else 200), answer.content
        if answer.status_code == 200:
            self.model.merge(duplicate, survivor)
            self.seen(survivor, answer)

    @rule(of=WHICH)
    def unmerge(self, of: int) -> None:
        duplicate = pick([one for one in self.model.patients if one.into] or self.model.patients, of)
        survivor = duplicate.into or duplicate
        answer = self.call("POST", f"/api/patients/{survivor.id}/unmerge/", {"duplicate": duplicate.id})
        expected = survivor.missing if survivor.deleted else 200 if duplicate.into else 400
        assert answer.status_code == expected, answer.content
        if answer.status_code == 200:
            self.model.unmerge(duplicate)
            self.seen(survivor, answer)
            self.seen(duplicate, self.call("GET", f"/api/patients/{duplicate.id}/"))

    @rule(name=NAMES)
    def create_with_a_key(self, name: str) -> None:
        post = Post(f"key-{len(self.model.posts)}", {"name": name})
        answer = post.first = self.call("POST", "/api/patients/", post.body, Idempotency_Key=post.key)
        assert answer.status_code == 201
        self.model.patients.append(Person(answer.json()["id"], name, [answer["ETag"]]))
        self.model.posts.append(post)

    @rule(which=WHICH)
    def repeat_post(self, which: int) -> None:
        post = pick(self.model.posts, which)
        answer = self.call("POST", "/api/patients/", post.body, Idempotency_Key=post.key)
        assert (answer.status_code, answer.content, answer["ETag"]) == (201, post.first.content, post.first["ETag"])
        assert answer["Idempotency-Replayed"] == "true"

    @rule(which=WHICH, of=WHICH)
    def reuse_key_for_another_body(self, which: int, of: int) -> None:
        key, patient = pick(self.model.posts, which).key, pick(self.model.patients, of)
        for path in ("/api/patients/", "/api/doctors/", f"/api/patients/{patient.id}/restore/"):
            assert self.call("POST", path, {"name": "Another"}, Idempotency_Key=key).status_code == 422

    @invariant()
    def patients_are_those_of_the_model(self) -> None:
        self.lists_answer("patients", self.model.patients)

    @invariant()
    def assignments_are_those_of_the_model(self) -> None:
        there = [one for one in self.model.assignments if not one.patient.deleted]
        for query, ended in (("", False), ("&active=false", True)):
            rows = self.call("GET", f"/api/mappings/?limit=500{query}").json()
            answered = [(row["id"], row["patient"], row["doctor"], row["is_primary"]) for row in rows]
            expected = [(one.id, one.patient.id, one.doctor.id, one.primary) for one in there if one.ended == ended]
            assert answered == expected[::-1]

    def lists_answer(self, kind: str, people: list[Person]) -> None:
        for query, deleted in (("", False), ("&deleted=true", True)):
            rows = self.call("GET", f"/api/{kind}/?limit=500{query}").json()
            answered = [(row["id"], row["name"], row["version"]) for row in rows]
            there = [one for one in people if one.deleted == deleted and not one.into]
            assert answered == [(one.id, one.name, one.version) for one in there][::-1]

    def treating_doctors_are_those_of_the_model(self) -> None:
        for patient in self.model.patients:
            answer = self.call("GET", f"/api/patients/{patient.id}/doctors/")
            assert answer.status_code == (patient.missing if patient.deleted else 200)
            if not patient.deleted:
                doctors = [(row["id"], row["name"], row["mapping"]) for row in answer.json()]
                treating = self.model.assigned(patient)[::-1]
                assert doctors == [(one.doctor.id, one.doctor.name, one.id) for one in treating]
        for doctor in self.model.doctors:
            if not doctor.deleted:
                rows = self.call("GET", f"/api/doctors/{doctor.id}/patients/").json()
                treated = [(one.patient.id, one.patient.name, one.id) for one in self.model.treating(doctor)]
                assert [(row["id"], row["name"], row["mapping"]) for row in rows] == treated[::-1]


@pytest.mark.slow
@pytest.mark.django_db
def test_every_sequence_of_calls_does_what_the_model_says(as_alice: LoggedInClient) -> None:
    Calls.client = as_alice
    run_state_machine_as_test(Calls, settings=PROFILE)
    assert not Patient.objects.exists()  # each run was undone
