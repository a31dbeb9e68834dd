"""The assignments of `manage.py demo`."""

import datetime

from django.db.models import Model
from django.utils import timezone

from accounts.demo_data import Accounts
from doctors.demo_data import SPECIALIZATIONS, Directory
from doctors.models import Doctor
from healthcare.demo.parts import DemoPart
from healthcare.demo.past import Past, next_ids
from mappings.models import Mapping
from patients.demo_data import Patients
from patients.models import Gender, Patient

REASONS = (
    "referred by the general practitioner",
    "check-up once a year",
    "pain",
    "second opinion",
    "after surgery",
    "",
)
ENDS = ("treatment completed", "patient has moved", "doctor is on leave", "")
NOTES = ("Prefers mornings.", "Needs an interpreter.", "Calls before each visit.\nBrings old findings.", "", "", "")


class Assignments(DemoPart):
    def tables(self) -> list[type[Model]]:
        return [Mapping]

    def add_patients(self, numbers: range) -> None:
        """Up to two for each patient, the first of them the primary one: at most MOST_ROWS_OF_PATIENT events."""
        patients = self.demo.part(Patients)
        batch = patients.batch
        counts = [self.random.choices([0, 1, 2], weights=[12, 48, 40])[0] for _ in batch]
        counts = [max(count, past.record in patients.cast) for past, count in zip(batch, counts, strict=True)]
        keys = iter(next_ids(Mapping, sum(counts)))
        pasts = []
        for one, count in zip(batch, counts, strict=True):
            doctors = self.doctors_for(one.record, count)
            pasts += [self.past(next(keys), one.record, doctor, is_primary=doctor is doctors[0]) for doctor in doctors]
        self.demo.pasts.write(pasts)

    def doctors_for(self, patient: Patient, count: int) -> list[Doctor]:
        is_child = timezone.localdate(self.demo.now).year - (patient.birth_year or 0) < 18
        unsuitable = {
            "Paediatrics": not is_child,
            "Gynaecology": patient.gender == Gender.MALE or is_child,
        }
        some = self.random.sample(self.demo.part(Directory).doctors, 10)
        return [doctor for doctor in some if not unsuitable.get(doctor.specialization)][:count]

    def past(self, key: int, patient: Patient, doctor: Doctor, *, is_primary: bool) -> Past:
        demo, random = self.demo, self.random
        until = patient.deleted_at or demo.now
        assigned_at = demo.time.between(patient.created_at, until, 0.1 * random.random())
        mapping = Mapping(
            id=key,
            patient_id=patient.pk,
            doctor_id=doctor.pk,
            created_by_id=patient.created_by_id,
            role=SPECIALIZATIONS[doctor.specialization],
            is_primary=is_primary,
            reason=random.choice(REASONS),
            notes=random.choice(NOTES),
            started_at=assigned_at - datetime.timedelta(days=random.choice([0, 0, 0, 30])),
        )
        mapping.clean_fields(exclude=["patient", "doctor", "created_by"])
        actor, _ = demo.part(Accounts).actor_for(patient.created_by_id, "write")
        past = Past(mapping, assigned_at, demo.context(random, actor))
        if not is_primary and random.random() < 0.4:
            at = demo.time.between(assigned_at, until, random.random())
            past.change(at, demo.context(random, actor, random.choice(ENDS)), ended_at=at)
        return past
