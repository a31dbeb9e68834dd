import datetime

from ninja import ModelSchema, Schema

from benchmarks.references.stock.models import Doctor, Patient


class PatientOut(ModelSchema):
    age: int | None
    created_by: int
    identifiers: list[dict[str, str]]
    contacts: list[dict[str, str]]

    class Meta:
        model = Patient
        fields = [
            "id", "name", "gender", "birth_date", "birth_year", "deceased", "deceased_on", "identifier", "phone",
            "alternate_phone", "email", "address", "language", "medical_history", "version", "created_at", "updated_at",
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
    deceased: bool | None = None
    deceased_on: datetime.date | None = None
    identifier: str = ""
    identifiers: list[dict[str, str]] = []
    phone: str = ""
    alternate_phone: str = ""
    email: str = ""
    address: str = ""
    language: str = ""
    contacts: list[dict[str, str]] = []
    medical_history: str = ""


class PatientChange(PatientIn):
    name: str | None = None


class DoctorOut(ModelSchema):
    experience_years: int | None

    class Meta:
        model = Doctor
        fields = [
            "id", "name", "specialization", "license_number", "phone", "email", "hospital", "version", "created_at",
            "updated_at",
        ]  # fmt: skip


class PatientDoctorOut(DoctorOut):
    mapping: int


class Credentials(Schema):
    username: str
    password: str


class Tokens(Schema):
    access: str
    refresh: str
