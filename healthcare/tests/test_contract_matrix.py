"""The contract matrix: every route, method, caller and object answers as its row says; and the matrix can fail."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import path
from pytest_django import Settings
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import AUTHENTICATE
from accounts.models import LoginSession, User
from accounts.views import SessionViewSet
from healthcare.ownership import OwnedQuerySet
from healthcare.tests.matrix import LIVING, METHODS, MISSING, ROWS, Row, World, contents, deviations, incomplete, routes
from healthcare.urls import urlpatterns as real_urlpatterns
from patients.views import PatientViewSet


class ForgottenView(APIView):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    def get(self, request: Request) -> Response:
        return Response({})


# A URL conf of its own, for the tests that show that the matrix can fail.
urlpatterns = [*real_urlpatterns, path("api/forgotten/", ForgottenView.as_view())]

PATIENT = next(row for row in ROWS if row.route == "api/patients/<int:pk>/")
FORGOTTEN = Row("api/forgotten/", "OPEN", {})


@pytest.fixture
def world(make_user: Callable[..., User]) -> World:
    return World.build(make_user)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert incomplete() == []


def test_every_cell_answers_as_its_row_says(world: World) -> None:
    assert deviations(world) == []


def test_a_route_without_a_row_is_found(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    assert incomplete() == ["api/forgotten/ has no row in the matrix"]


def test_a_row_without_a_route_is_found() -> None:
    assert incomplete([*ROWS, FORGOTTEN]) == ["api/forgotten/ has a row and no route"]


def test_a_method_that_its_row_does_not_name_is_found(world: World, settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    found = deviations(world, [FORGOTTEN])
    assert any(line.startswith("GET /api/forgotten/ as anonymous, -, to be 405: 200") for line in found), found


def test_a_method_that_its_row_names_and_nothing_answers_is_found(world: World) -> None:
    sessions = Row("api/auth/sessions/", "PRIVATE", {"GET": 200, "DELETE": 204})
    found = deviations(world, [sessions])
    assert found == [f"DELETE /api/auth/sessions/ as {name}, -, to be 204: 405" for name in LIVING]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code's wall taken down: every scope answers all rows, in the views and in the serializers' relations."""
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
    monkeypatch.setattr(SessionViewSet, "get_queryset", lambda view: LoginSession.objects.live())


@pytest.mark.usefixtures("forgetful")
def test_every_cell_answers_the_same_behind_the_databases_wall_alone(world: World) -> None:
    assert deviations(world) == []


@pytest.mark.usefixtures("forgetful")
def test_with_both_walls_down_the_leak_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.authentication.AUTHENTICATE", AUTHENTICATE.replace("healthcare_api", "none"))
    found = deviations(world, [PATIENT])
    cells = {(method, caller) for method in METHODS for caller in LIVING if method not in {"POST", "OPTIONS"}}
    for method, caller in cells:
        line = f"{method} /api/patients/<int:pk>/ as {caller}, other's, to be 404: {PATIENT.methods.get(method, 200)}"
        assert line in found, found


def test_a_refusal_that_writes_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def patch(view: PatientViewSet, request: Request, **kwargs: Any) -> Response:
        User.objects.filter(username="bob").update(name="changed")
        return Response({}, status=404)

    monkeypatch.setattr(PatientViewSet, "partial_update", patch)
    assert any("refused, and changed [('accounts_user'" in line for line in deviations(world, [PATIENT]))


def test_every_route_but_the_pages_and_health_is_under_api() -> None:
    outside = {route for route in routes() if not route.startswith("api/")}
    assert outside <= {"", "healthz", "readyz"}


@pytest.mark.parametrize("caller", LIVING)
def test_a_foreign_patient_in_a_new_assignment_reads_like_a_missing_one(world: World, caller: str) -> None:
    owner = LIVING[caller]
    before = contents()
    answers = set()
    for thing in ("other's", "missing", "deleted"):
        body = {"patient": world.id_of("patient", thing, owner), "doctor": world.ids["doctor", owner]}
        answer = world.clients[caller].post("/api/mappings/", body)
        assert answer.status_code == 400
        assert json.loads(answer.content)["errors"][0]["pointer"] == "/patient"
        answers.add(answer.content.replace(answer.headers["X-Request-Id"].encode(), b""))
    assert len(answers) == 1
    assert contents() == before


def test_a_deleted_doctor_in_a_new_assignment_reads_like_a_missing_one(world: World) -> None:
    answers = set()
    for doctor in (world.gone["doctor", "alice"], MISSING):
        body = {"patient": world.ids["patient", "alice"], "doctor": doctor}
        answer = world.clients["owner"].post("/api/mappings/", body)
        assert answer.status_code == 400
        answers.add(answer.content.replace(answer.headers["X-Request-Id"].encode(), b""))
    assert len(answers) == 1
