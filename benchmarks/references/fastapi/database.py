import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, SmallInteger, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+asyncpg://", 1)
engine = create_async_engine(url, pool_size=16, max_overflow=0)
Session = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with Session() as session:
        yield session


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    pass


class Versioned:
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now, onupdate=now)


class User(Base):
    __tablename__ = "accounts_user"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    username: Mapped[str] = mapped_column(String(254))
    password: Mapped[str] = mapped_column(String(128))
    is_active: Mapped[bool]


class Patient(Versioned, Base):
    __tablename__ = "patients_patient"

    name: Mapped[str] = mapped_column(String(200))
    gender: Mapped[str] = mapped_column(String(1), default="U")
    birth_date: Mapped[date | None]
    birth_year: Mapped[int | None] = mapped_column(SmallInteger)
    deceased: Mapped[bool | None]
    deceased_on: Mapped[date | None]
    identifier: Mapped[str] = mapped_column(String(100), default="")
    identifiers: Mapped[list[dict[str, str]]] = mapped_column(JSONB, default=list)
    phone: Mapped[str] = mapped_column(String(40), default="")
    alternate_phone: Mapped[str] = mapped_column(String(40), default="")
    email: Mapped[str] = mapped_column(String(254), default="")
    address: Mapped[str] = mapped_column(String(500), default="")
    language: Mapped[str] = mapped_column(String(50), default="")
    contacts: Mapped[list[dict[str, str]]] = mapped_column(JSONB, default=list)
    medical_history: Mapped[str] = mapped_column(Text, default="")
    created_by: Mapped[int] = mapped_column("created_by_id", ForeignKey("accounts_user.id"))

    @property
    def age(self) -> int | None:
        today = date.today()
        if self.birth_date:
            before_birthday = (today.month, today.day) < (self.birth_date.month, self.birth_date.day)
            return today.year - self.birth_date.year - before_birthday
        return today.year - self.birth_year if self.birth_year else None


class Doctor(Versioned, Base):
    __tablename__ = "doctors_doctor"

    name: Mapped[str] = mapped_column(String(200))
    specialization: Mapped[str] = mapped_column(String(200), default="")
    license_number: Mapped[str] = mapped_column(String(100), default="")
    phone: Mapped[str] = mapped_column(String(40), default="")
    email: Mapped[str] = mapped_column(String(254), default="")
    hospital: Mapped[str] = mapped_column(String(200), default="")
    experience_since: Mapped[int | None] = mapped_column(SmallInteger)
    created_by: Mapped[int] = mapped_column("created_by_id", ForeignKey("accounts_user.id"))

    @property
    def experience_years(self) -> int | None:
        return None if self.experience_since is None else date.today().year - self.experience_since


class Mapping(Base):
    __tablename__ = "mappings_mapping"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients_patient.id"))
    doctor_id: Mapped[int] = mapped_column(ForeignKey("doctors_doctor.id"))
