"""The patients of `manage.py demo`, with their changes and reads."""

import datetime
from typing import Any

import pghistory
from django.db.models import Model
from django.utils import timezone

from accounts.demo_data import CLINIC, Accounts
from accounts.models import User
from audit.demo_data import MOST_ROWS_OF_PATIENT, Reads
from audit.models import Basis
from healthcare.api.acting_for import ACTING_FOR_HEADER
from healthcare.demo.parts import Demo, DemoPart
from healthcare.demo.past import Past, next_ids
from healthcare.demo.people import People, Person
from patients.demo_cast import CAST, MERGED, MISSPELT
from patients.merges import merge
from patients.models import Patient
from patients.serializers import PatientSerializer

QUARTER_HOUR = datetime.timedelta(minutes=15)
PAST_CONDITIONS = (  # with the age from which on they are plausible
    (1, "asthma"), (3, "hay fever"), (4, "tonsils removed"), (5, "fracture of the left wrist"), (8, "migraine"),
    (10, "appendix removed"), (12, "allergic to penicillin"), (16, "iron deficiency"), (18, "concussion, recovered"),
    (20, "tendinitis of the shoulder"), (25, "underactive thyroid"), (35, "gallstones"), (40, "high blood pressure"),
    (45, "type 2 diabetes, controlled by diet"), (50, "reading glasses"), (60, "cataract of the right eye, operated"),
    (65, "arthritis of the knees"), (70, "hip replaced"),
)  # fmt: skip
VISITS = (
    "routine check, no findings", "vaccinated against influenza", "blood pressure normal", "sprained ankle",
    "advised on diet", "referred for an X-ray",
)  # fmt: skip
RELATIVES = (  # with the gender, and the ages at which somebody has one to turn to
    ("father", "M", range(60)), ("mother", "F", range(65)), ("brother", "M", range(20, 99)),
    ("sister", "F", range(20, 99)), ("husband", "M", range(28, 80)), ("wife", "F", range(28, 80)),
    ("son", "M", range(50, 99)), ("daughter", "F", range(50, 99)),
)  # fmt: skip
SYSTEMS = ("https://insurance.example.com/member", "https://lakeside.example.org/mrn", "https://passport.example.net")
READS = ("patient.retrieve", "patient.retrieve", "patient.history", "patient.doctors", "patient.duplicates")
STAFF_READS = ("admin.patient.change", "admin.patient.change", "admin.patient.history")


class Patients(DemoPart):
    """`batch` holds the patients that were added last."""

    def __init__(self, demo: Demo) -> None:
        super().__init__(demo)
        self.people = People(self.random)
        self.new, self.changed = PatientSerializer(), PatientSerializer(partial=True)
        self.batch: list[Past] = []
        self.cast: list[Patient] = []

    def tables(self) -> list[type[Model]]:
        return [Patient]

    def add_patients(self, numbers: range) -> None:
        keys = next_ids(Patient, len(numbers))
        self.batch = [self.past(number, key) for number, key in zip(numbers, keys, strict=True)]
        self.demo.pasts.write(self.batch)
        for past in self.batch:
            self.add_reads(past)
        self.add_lists()

    def past(self, number: int, key: int) -> Past:
        """More come from month to month; half of the cast has come in the last hour, whatever time it is."""
        demo, random = self.demo, self.random
        owners = demo.part(Accounts).owners
        share = (number + 0.1 + 0.8 * random.random()) / demo.patients
        added_at = demo.time.between(demo.start, demo.now, share**0.45)
        position = number - max(0, demo.patients - len(CAST))
        if position >= 0:
            if position >= len(CAST) / 2:
                added_at = max(added_at, demo.now - (len(CAST) - position) * QUARTER_HOUR)
            past = self.begin_past(key, CAST[position], owners[0], added_at)
            self.cast.append(past.record)
            return past
        owner = random.choices(owners, weights=range(len(owners), 0, -1))[0]
        person, birth_date = self.people.person(), self.people.birth_date()
        past = self.begin_past(key, self.body(number, person, birth_date), owner, added_at)
        self.add_changes(past, person)
        return past

    def begin_past(self, key: int, body: dict[str, Any], owner: User, at: datetime.datetime) -> Past:
        patient = Patient(id=key, created_by_id=owner.pk, **self.new.run_validation(body))
        actor, _ = self.demo.part(Accounts).actor_for(owner.pk, "write")
        return Past(patient, at, self.demo.context(self.random, actor))

    def body(self, number: int, person: Person, birth_date: datetime.date) -> dict[str, Any]:
        """What a request would send. Not everything is known of everybody."""
        random, people = self.random, self.people
        return {
            "name": person.name,
            "gender": random.choices([person.gender, "O", "U"], weights=[94, 3, 3])[0],
            "birth_year": birth_date.year,
            "birth_date": birth_date.isoformat() if random.random() < 0.85 else None,
            "identifier": f"MRN-{10_000 + number}",
            "identifiers": [self.identifier(system) for system in SYSTEMS if random.random() < 0.2],
            "phone": people.phone(person.culture) if random.random() < 0.9 else "",
            "alternate_phone": people.phone(person.culture) if random.random() < 0.15 else "",
            "email": people.email(person) if random.random() < 0.6 else "",
            "address": people.address(person) if random.random() < 0.9 else "",
            "language": person.culture.language if random.random() < 0.7 else "",
            "contacts": [self.contact(person, birth_date)] if random.random() < 0.5 else [],
            "medical_history": self.medical_history(birth_date),
        }

    def identifier(self, system: str) -> dict[str, str]:
        return {"system": system, "value": f"{self.random.randrange(10**9):09}"}

    def contact(self, person: Person, birth_date: datetime.date) -> dict[str, str]:
        """A relative with the same family name, in the form of this gender where a language has two."""
        age = self.demo.start.year - birth_date.year
        relationship, gender, _ = self.random.choice(
            [
                relative
                for relative in RELATIVES
                if age in relative[2]
                and (relative[1] == person.gender or not person.culture.gendered)
                and (relative[1] != person.gender or relative[0] not in {"husband", "wife"})
            ]
        )
        relative = self.people.person(gender, person.culture, person.family)
        return {"name": relative.name, "relationship": relationship, "phone": self.people.phone(person.culture)}

    def medical_history(self, birth_date: datetime.date) -> str:
        """Up to three lines, each with a year in which it is plausible."""
        last = timezone.localdate(self.demo.start).year
        possible = [(birth_date.year + age, what) for age, what in PAST_CONDITIONS if birth_date.year + age <= last]
        chosen = self.random.sample(possible, min(len(possible), self.random.choice([0, 0, 1, 1, 2, 3])))
        return "\n".join(sorted(f"{self.random.randint(first, last)} {what}" for first, what in chosen))

    def add_changes(self, past: Past, person: Person) -> None:
        """At most three, so that a patient has no more than MOST_ROWS_OF_PATIENT events."""
        changes = [change for change in (self.move, self.note) if self.random.random() < 0.2]
        share = self.random.random()
        if share < 0.02:
            changes = [*changes[:1], self.delete, self.restore]
        elif share < 0.05:
            changes.append(self.delete)
        elif share < 0.08:
            changes.append(self.die)
        elif share < 0.15:
            changes.append(self.change_phone)
        for change in changes:
            at = self.demo.time.between(past.changed_at, self.demo.now, 0.2 + 0.5 * self.random.random())
            change(past, person, at)

    def change(self, past: Past, at: datetime.datetime, reason: str, **body: Any) -> None:
        """As a PATCH does it, which is a read as well."""
        self.changed.instance = past.record
        values = self.changed.run_validation(body)
        self.change_row(past, at, reason, "partial_update", **values)

    def change_row(self, past: Past, at: datetime.datetime, reason: str, action: str, **values: Any) -> None:
        role = "manage" if action in {"destroy", "restore"} else "write"
        actor, basis = self.demo.part(Accounts).actor_for(past.record.created_by_id, role)
        context = self.demo.context(self.random, actor, reason)
        past.change(at, context, **values)
        if action != "destroy":
            reads = self.demo.part(Reads)
            reads.add(at, actor, f"patient.{action}", [past.record.pk], basis, request_id=context["request_id"])

    def move(self, past: Past, person: Person, at: datetime.datetime) -> None:
        self.change(past, at, "has moved", address=self.people.address(person))

    def note(self, past: Past, person: Person, at: datetime.datetime) -> None:
        lines = [*past.record.medical_history.split("\n"), f"{at.year} {self.random.choice(VISITS)}"]
        self.change(past, at, "", medical_history="\n".join(line for line in lines if line))

    def change_phone(self, past: Past, person: Person, at: datetime.datetime) -> None:
        self.change(past, at, "new number", phone=self.people.phone(person.culture), alternate_phone=past.record.phone)

    def die(self, past: Past, person: Person, at: datetime.datetime) -> None:
        day = timezone.localdate(at - datetime.timedelta(days=self.random.randint(1, 5)))
        self.change(past, at, "the family has called", deceased=True, deceased_on=day.isoformat())

    def delete(self, past: Past, person: Person, at: datetime.datetime) -> None:
        self.change_row(past, at, "does not come any more", "destroy", deleted_at=at)

    def restore(self, past: Past, person: Person, at: datetime.datetime) -> None:
        self.change_row(past, at, "has come back", "restore", deleted_at=None)

    def add_reads(self, past: Past) -> None:
        """With the lists and the changes at most MOST_ROWS_OF_PATIENT rows of the access log for a patient."""
        demo, random, patient = self.demo, self.random, past.record
        until = patient.deleted_at or demo.now
        for _ in range(min(random.choice([1, 2, 2, 3]), MOST_ROWS_OF_PATIENT - len(past.events))):
            at = demo.time.between(patient.created_at, until, random.random() ** 0.6)
            self.add_read(at, patient)

    def add_read(self, at: datetime.datetime, patient: Patient) -> None:
        accounts, random = self.demo.part(Accounts), self.random
        reads, share = self.demo.part(Reads), random.random()
        if share < 0.75:
            actor_id, basis = accounts.actor_for(patient.created_by_id, "read")
            reads.add(at, actor_id, random.choice(READS), [patient.pk], basis)
        elif share < 0.97:
            actor = random.choice(accounts.staff("Front desk", "Clinical staff", "Records", "Auditor"))
            reads.add(at, actor.pk, random.choice(STAFF_READS), [patient.pk], Basis.STAFF)
        else:  # somebody else's patient
            other = random.choice([one for one in accounts.clinicians if one.pk != patient.created_by_id])
            reads.add(at, other.pk, "patient.retrieve", [patient.pk], outcome=404)

    def add_lists(self) -> None:
        """Of up to 20 patients of one owner who have come lately. There are fewer than patients."""
        for last in range(0, len(self.batch), 10):
            newest = self.batch[last].record
            page = [one.record for one in self.batch[: last + 1] if one.record.created_by_id == newest.created_by_id]
            page = [patient for patient in page[-20:] if patient.deleted_at is None]
            at = self.demo.time.between(newest.created_at, self.demo.now, self.random.random())
            actor, basis = self.demo.part(Accounts).actor_for(newest.created_by_id, "read")
            self.demo.part(Reads).add(at, actor, "patient.list", [patient.pk for patient in page], basis)

    def finish(self) -> None:
        """Merge a pair, as a request does it now."""
        if len(self.cast) > max(MERGED):
            survivor, duplicate = (Patient.objects.locked().get(pk=self.cast[number].pk) for number in MERGED)
            with pghistory.context(**self.demo.context(self.random, survivor.created_by_id, "one person, two cards")):
                merge(survivor, duplicate)

    def describe(self) -> str:
        patient = self.cast[0]
        url = "http://127.0.0.1:8000/api/patients/"
        lines = [
            f'curl -sw "\\n" "{url}{path}" -H "Authorization: Bearer $TOKEN"'
            for path in ("?limit=3", f"?search={MISSPELT}", f"{patient.pk}/history/", f"{patient.pk}/duplicates/")
        ]
        return "\n".join([*lines, f'{lines[0]} -H "{ACTING_FOR_HEADER}: {CLINIC.username}"'])
