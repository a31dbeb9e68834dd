from accounts.models import User
from patients.models import Patient


def make_patient(owner: User, **fields: object) -> Patient:
    return Patient.objects.create(**{"created_by": owner, "name": "John Smith", "gender": "M", **fields})
