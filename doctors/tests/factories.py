from accounts.models import User
from doctors.models import Doctor


def make_doctor(creator: User, **fields: object) -> Doctor:
    return Doctor.objects.create(**{"created_by": creator, "name": "Dr. Meera Rao", **fields})
