import datetime

from ninja import ModelSchema, Schema

from benchmarks.references.stock.models import Doctor, Patient


class PatientOut(ModelSchema):
    age: int | None
    created_by: int

    class Meta:
        model = Patient
        fields = [
            "id", "name", "gender", "birth_date", "birth_year", "deceased", "identifier", "phone", "email", "address",
            "version", "created_at", "updated_at",
        ]  # fmt: skip

    @staticmethod
    def resolve_created_by(patient: Patient) -> int:
        return patient.created_by_id


class PatientIn(Schema):
    name: str
    age: int | None = None
    gender: str = "U"
    birth_date: datetime.date | None = None
    birth_year: int | None = None
    deceased: bool = False
    identifier: str = ""
    phone: str = ""
    email: str = ""
    address: str = ""


class PatientChange(PatientIn):
    name: str | None = None


class DoctorOut(ModelSchema):
    class Meta:
        model = Doctor
        fields = [
            "id", "name", "specialization", "license_number", "phone", "email", "hospital", "experience_years",
            "version", "created_at", "updated_at",
        ]  # fmt: skip


class PatientDoctorOut(DoctorOut):
    mapping: int


class Credentials(Schema):
    username: str
    password: str


class Tokens(Schema):
    access: str
    refresh: str
