"""A URLconf whose views raise each kind of exception, for tests with `settings.ROOT_URLCONF`."""

from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import connection
from django.db.models import ProtectedError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseServerError
from django.urls import path
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from healthcare.urls import urlpatterns as real_urlpatterns
from patients.models import Patient

SECRET = "p4tient-zer0"  # no answer and no log may contain it


def break_a_check() -> None:
    Patient.objects.create(name="", created_by=User.objects.create_user("u", "u@example.org", None, name=SECRET))


def miss_a_column() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO patients_patient (name) VALUES (%s)", [SECRET])


def overflow() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::smallint", [99999])


def write_bad_sql() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT '{SECRET}' FROM nowhere")  # noqa: S608


def invalid_deep() -> None:
    raise serializers.ValidationError(
        {"a/b": {"c~d": [{}, {"e": ["First.", "Second."]}]}, "non_field_errors": ["Whole."]}
    )


def cause() -> None:
    try:
        int(SECRET)
    except ValueError as error:
        raise KeyError(SECRET) from error


def fails_with(error: Exception) -> Any:
    def fail() -> None:
        raise error

    return fail


FAILURES: dict[str, Any] = {
    "check": break_a_check,
    "column": miss_a_column,
    "overflow": overflow,
    "sql": write_bad_sql,
    "deep": invalid_deep,
    "defect": cause,
    "missing": fails_with(Http404(SECRET)),
    "denied": fails_with(PermissionDenied(SECRET)),
    "suspicious": fails_with(SuspiciousOperation(SECRET)),
    "protected": fails_with(ProtectedError(SECRET, set())),
    "big": fails_with(RequestDataTooBig(SECRET)),
}


class FailingView(APIView):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    def get(self, request: Request, name: str) -> Response:
        FAILURES[name]()
        return Response({})


def plain_view(request: HttpRequest, name: str) -> HttpResponse:
    FAILURES[name]()
    return HttpResponseServerError(SECRET)


urlpatterns = [
    *real_urlpatterns,
    path("api/fails/<str:name>/", FailingView.as_view()),
    path("plain/<str:name>/", plain_view),
]
