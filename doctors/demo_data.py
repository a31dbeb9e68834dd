"""The directory of `manage.py demo`."""

from typing import Any

from django.db.models import Model

from accounts.demo_data import Accounts
from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from healthcare.demo.parts import Demo, DemoPart
from healthcare.demo.past import Past, next_ids
from healthcare.demo.people import People

SPECIALIZATIONS = {  # with what a doctor of it is called
    "General practice": "general practitioner", "Cardiology": "cardiologist", "Paediatrics": "paediatrician",
    "Neurology": "neurologist", "Oncology": "oncologist", "Dermatology": "dermatologist",
    "Orthopaedics": "orthopaedic surgeon", "Psychiatry": "psychiatrist", "Ophthalmology": "ophthalmologist",
    "Gynaecology": "gynaecologist", "Endocrinology": "endocrinologist", "Gastroenterology": "gastroenterologist",
    "Pulmonology": "pulmonologist", "Nephrology": "nephrologist", "Rheumatology": "rheumatologist",
    "Urology": "urologist", "Haematology": "haematologist", "Radiology": "radiologist",
    "Anaesthesiology": "anaesthetist", "Ear, nose and throat": "ear, nose and throat surgeon",
}  # fmt: skip
HOSPITALS = (
    "Lakeside Hospital", "St Mary's Clinic", "Riverbank Medical Centre", "Old Town Health Centre",
    "Hillside Children's Hospital", "Northgate University Hospital",
)  # fmt: skip
FEWEST, MOST = 30, 300
FORMER_DOCTORS = 3  # doctors who have left: deleted; one more was deleted by mistake and restored


class Directory(DemoPart):
    """`doctors` are those who may treat patients at any time."""

    def __init__(self, demo: Demo) -> None:
        super().__init__(demo)
        self.people = People(self.random)
        self.serializer = DoctorSerializer()
        self.doctors: list[Doctor] = []

    def tables(self) -> list[type[Model]]:
        return [Doctor]

    def begin(self) -> None:
        count = min(max(FEWEST, self.demo.patients // 50), MOST)
        pasts = [self.past(number, key) for number, key in enumerate(next_ids(Doctor, count))]
        self.demo.pasts.write(pasts)
        self.doctors = [past.record for past in pasts[FORMER_DOCTORS + 1 :]]

    def past(self, number: int, key: int) -> Past:
        """A doctor whom a member of staff has added on the first day, and what has changed since."""
        demo, random = self.demo, self.random
        first_day_ends = demo.time.between(demo.start, demo.now, 0.01)
        added_at = demo.time.between(demo.start, first_day_ends, number / MOST)
        actor = random.choice(demo.part(Accounts).staff("Clinical staff", "Records")).pk
        doctor = Doctor(id=key, created_by_id=actor, **self.serializer.run_validation(self.body(number)))
        past = Past(doctor, added_at, demo.context(random, actor))
        times = sorted(demo.time.random(random, first_day_ends, demo.now) for _ in range(2))
        if number < FORMER_DOCTORS:
            past.change(times[0], demo.context(random, actor, "has retired"), deleted_at=times[0])
        elif number == FORMER_DOCTORS:
            past.change(times[0], demo.context(random, actor), deleted_at=times[0])
            past.change(times[1], demo.context(random, actor, "deleted by mistake"), deleted_at=None)
        elif random.random() < 0.2:
            context = demo.context(random, actor, "works elsewhere now")
            past.change(
                times[0], context, hospital=random.choice([name for name in HOSPITALS if name != doctor.hospital])
            )
        return past

    def body(self, number: int) -> dict[str, Any]:
        """What a request would send."""
        random, person = self.random, self.people.person()
        specialization = [*SPECIALIZATIONS][number % len(SPECIALIZATIONS)]
        return {
            "name": f"Dr. {person.name}",
            "specialization": specialization,
            "license_number": f"LIC-{random.randint(10_000, 99_999)}-{number:03}",
            "phone": self.people.phone(person.culture),
            "email": self.people.email(person),
            "hospital": random.choice(HOSPITALS),
            "experience_years": random.randint(1, 40),
        }
