import datetime
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth import authenticate
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import NinjaAPI
from ninja.errors import HttpError
from ninja.pagination import PageNumberPagination, paginate
from ninja.security import HttpBearer
from rest_framework_simplejwt.tokens import RefreshToken

from benchmarks.references.ninja.schemas import (
    Credentials,
    DoctorOut,
    PatientChange,
    PatientDoctorOut,
    PatientIn,
    PatientOut,
    Tokens,
)
from benchmarks.references.stock.models import Doctor, Patient, User

JWT = settings.SIMPLE_JWT


class Bearer(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        try:
            claims = jwt.decode(
                token, JWT["SIGNING_KEY"], algorithms=["HS256"], audience=JWT["AUDIENCE"], issuer=JWT["ISSUER"]
            )
        except jwt.InvalidTokenError:
            return None
        return User.objects.filter(pk=claims["user_id"], is_active=True).first()


api = NinjaAPI(auth=Bearer())


def with_birth_year(values: dict[str, Any]) -> dict[str, Any]:
    age = values.pop("age", None)
    return values if age is None else values | {"birth_year": datetime.date.today().year - age}


@api.get("/patients/", response=list[PatientOut])
@paginate(PageNumberPagination, page_size=20)
def patients(request: HttpRequest, search: str | None = None) -> QuerySet[Patient]:
    found = Patient.objects.filter(created_by=request.auth)
    if search:
        fields = ("name", "phone", "email", "identifier")
        found = found.filter(
            *(Q(*((f"{f}__icontains", word) for f in fields), _connector=Q.OR) for word in search.split())
        )
    return found


@api.post("/patients/", response={201: PatientOut})
def create(request: HttpRequest, data: PatientIn) -> tuple[int, Patient]:
    return 201, Patient.objects.create(created_by=request.auth, **with_birth_year(data.dict()))


@api.get("/patients/{id}/", response=PatientOut)
def retrieve(request: HttpRequest, id: int) -> Patient:
    return get_object_or_404(Patient, pk=id, created_by=request.auth)


@api.patch("/patients/{id}/", response=PatientOut)
def change(request: HttpRequest, id: int, data: PatientChange) -> Patient:
    patient = get_object_or_404(Patient, pk=id, created_by=request.auth)
    for name, value in with_birth_year(data.dict(exclude_unset=True)).items():
        setattr(patient, name, value)
    patient.version += 1
    patient.save()
    return patient


@api.get("/patients/{id}/doctors/", response=list[PatientDoctorOut])
def treating(request: HttpRequest, id: int) -> QuerySet[Doctor]:
    patient = get_object_or_404(Patient, pk=id, created_by=request.auth)
    return Doctor.objects.filter(mappings__patient=patient).annotate(mapping=F("mappings__id")).order_by("-mapping")


@api.get("/doctors/", response=list[DoctorOut], auth=None)
@paginate(PageNumberPagination, page_size=20)
def doctors(request: HttpRequest) -> QuerySet[Doctor]:
    return Doctor.objects.all()


@api.post("/auth/login/", response=Tokens, auth=None)
def login(request: HttpRequest, data: Credentials) -> dict[str, str]:
    user = authenticate(request, username=data.username, password=data.password)
    if user is None:
        raise HttpError(401, "The username or the password is wrong.")
    refresh = RefreshToken.for_user(user)
    return {"access": str(refresh.access_token), "refresh": str(refresh)}
