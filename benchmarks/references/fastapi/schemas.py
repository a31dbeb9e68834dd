from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field


class PatientIn(BaseModel):
    name: str = Field(max_length=200)
    age: int | None = Field(None, ge=0, le=150)
    gender: str = Field("U", pattern="^[MFOU]$")
    birth_date: date | None = None
    birth_year: int | None = None
    deceased: bool | None = None
    deceased_on: date | None = None
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
    name: str | None = Field(None, max_length=200)


class PatientOut(PatientIn):
    model_config = ConfigDict(from_attributes=True)

    id: int
    version: int
    created_by: int
    created_at: datetime
    updated_at: datetime


class DoctorOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    specialization: str
    license_number: str
    phone: str
    email: str
    hospital: str
    experience_years: int | None
    version: int
    created_at: datetime
    updated_at: datetime


class PatientDoctorOut(DoctorOut):
    mapping: int


class Credentials(BaseModel):
    username: str
    password: str


class Tokens(BaseModel):
    access: str
    refresh: str
