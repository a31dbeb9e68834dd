from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.references.fastapi import schemas
from benchmarks.references.fastapi.database import Doctor, Mapping, Patient, User
from benchmarks.references.fastapi.security import CurrentUser, DatabaseSession, token, verify

app = FastAPI()

Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0)]


def with_birth_year(values: dict[str, Any]) -> dict[str, Any]:
    age = values.pop("age", None)
    return values if age is None else values | {"birth_year": date.today().year - age}


async def own(session: AsyncSession, user: User, id: int) -> Patient:
    found = await session.execute(select(Patient).where(Patient.id == id, Patient.created_by == user.id))
    patient = found.scalar_one_or_none()
    if patient is None:
        raise HTTPException(404)
    return patient


@app.get("/api/patients/", response_model=list[schemas.PatientOut])
async def patients(
    session: DatabaseSession, user: CurrentUser, search: str | None = None, limit: Limit = 20, offset: Offset = 0
) -> Any:
    query = select(Patient).where(Patient.created_by == user.id)
    for word in (search or "").split():
        columns = (Patient.name, Patient.phone, Patient.email, Patient.identifier)
        query = query.where(or_(*(column.icontains(word) for column in columns)))
    return (await session.scalars(query.order_by(Patient.id.desc()).limit(limit).offset(offset))).all()


@app.post("/api/patients/", response_model=schemas.PatientOut, status_code=201)
async def create(session: DatabaseSession, user: CurrentUser, data: schemas.PatientIn) -> Any:
    patient = Patient(created_by=user.id, **with_birth_year(data.model_dump()))
    session.add(patient)
    await session.commit()
    return patient


@app.get("/api/patients/{id}/", response_model=schemas.PatientOut)
async def retrieve(session: DatabaseSession, user: CurrentUser, id: int) -> Any:
    return await own(session, user, id)


@app.patch("/api/patients/{id}/", response_model=schemas.PatientOut)
async def change(session: DatabaseSession, user: CurrentUser, id: int, data: schemas.PatientChange) -> Any:
    patient = await own(session, user, id)
    for name, value in with_birth_year(data.model_dump(exclude_unset=True)).items():
        setattr(patient, name, value)
    patient.version += 1
    await session.commit()
    return patient


@app.get("/api/patients/{id}/doctors/", response_model=list[schemas.PatientDoctorOut])
async def treating(session: DatabaseSession, user: CurrentUser, id: int) -> Any:
    patient = await own(session, user, id)
    rows = await session.execute(
        select(Doctor, Mapping.id)
        .join(Mapping, Mapping.doctor_id == Doctor.id)
        .where(Mapping.patient_id == patient.id)
        .order_by(Mapping.id.desc())
    )
    return [{**schemas.DoctorOut.model_validate(doctor).model_dump(), "mapping": mapping} for doctor, mapping in rows]


@app.get("/api/doctors/", response_model=list[schemas.DoctorOut])
async def doctors(session: DatabaseSession, limit: Limit = 20, offset: Offset = 0) -> Any:
    return (await session.scalars(select(Doctor).order_by(Doctor.id.desc()).limit(limit).offset(offset))).all()


@app.post("/api/auth/login/", response_model=schemas.Tokens)
async def login(session: DatabaseSession, data: schemas.Credentials) -> Any:
    user = await session.scalar(select(User).where(User.username == data.username))
    if user is None or not await run_in_threadpool(verify, data.password, user.password):
        raise HTTPException(401)
    return {"access": token(user, "access", timedelta(days=1)), "refresh": token(user, "refresh", timedelta(days=7))}
