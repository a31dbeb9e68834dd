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
from healthcare.tests.contract_matrix import (
    ACTIVE_CALLERS,
    METHODS,
    MISSING_ID,
    ROWS,
    Cast,
    Row,
    api_routes,
    find_deviations,
    find_missing_rows,
    table_hashes,
)
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
def cast(make_user: Callable[..., User]) -> Cast:
    return Cast.build(make_user)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert find_missing_rows() == []


def test_every_cell_answers_as_its_row_says(cast: Cast) -> None:
    assert find_deviations(cast) == []


def test_a_route_without_a_row_is_found(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    assert find_missing_rows() == ["api/forgotten/ has no row in the matrix"]


def test_a_row_without_a_route_is_found() -> None:
    assert find_missing_rows([*ROWS, FORGOTTEN]) == ["api/forgotten/ has a row and no route"]


def test_a_method_that_its_row_does_not_name_is_found(cast: Cast, settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    found = find_deviations(cast, [FORGOTTEN])
    assert any(line.startswith("GET /api/forgotten/ as anonymous, -, to be 405: 200") for line in found), found


def test_a_method_that_its_row_names_and_nothing_answers_is_found(cast: Cast) -> None:
    sessions = Row("api/auth/sessions/", "PRIVATE", {"GET": 200, "DELETE": 204})
    found = find_deviations(cast, [sessions])
    assert found == [f"DELETE /api/auth/sessions/ as {name}, -, to be 204: 405" for name in ACTIVE_CALLERS]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code's wall taken down: every scope answers all rows, in the views and in the serializers' relations."""
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
    monkeypatch.setattr(SessionViewSet, "get_queryset", lambda view: LoginSession.objects.live())


@pytest.mark.usefixtures("forgetful")
def test_every_cell_answers_the_same_behind_the_databases_wall_alone(cast: Cast) -> None:
    assert find_deviations(cast) == []


@pytest.mark.usefixtures("forgetful")
def test_with_both_walls_down_the_leak_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.authentication.AUTHENTICATE", AUTHENTICATE.replace("healthcare_api", "none"))
    found = find_deviations(cast, [PATIENT])
    cells = {(method, caller) for method in METHODS for caller in ACTIVE_CALLERS if method not in {"POST", "OPTIONS"}}
    for method, caller in cells:
        line = f"{method} /api/patients/<int:pk>/ as {caller}, another's, to be 404: {PATIENT.methods.get(method, 200)}"
        assert line in found, found


def test_a_refusal_that_writes_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def patch(view: PatientViewSet, request: Request, **kwargs: Any) -> Response:
        User.objects.filter(username="bob").update(name="changed")
        return Response({}, status=404)

    monkeypatch.setattr(PatientViewSet, "partial_update", patch)
    assert any("refused, and changed [('accounts_user'" in line for line in find_deviations(cast, [PATIENT]))


def test_every_route_but_the_pages_and_health_is_under_api() -> None:
    outside = {route for route in api_routes() if not route.startswith("api/")}
    assert outside <= {"", "healthz", "readyz"}


@pytest.mark.parametrize("caller", ACTIVE_CALLERS)
def test_a_foreign_patient_in_a_new_assignment_reads_like_a_missing_one(cast: Cast, caller: str) -> None:
    owner = ACTIVE_CALLERS[caller]
    before = table_hashes()
    answers = set()
    for target in ("another's", "missing", "deleted"):
        body = {"patient": cast.id_of("patient", target, owner), "doctor": cast.ids["doctor", owner]}
        answer = cast.clients[caller].post("/api/mappings/", body)
        assert answer.status_code == 400
        assert json.loads(answer.content)["errors"][0]["pointer"] == "/patient"
        answers.add(answer.content.replace(answer.headers["X-Request-Id"].encode(), b""))
    assert len(answers) == 1
    assert table_hashes() == before


def test_a_deleted_doctor_in_a_new_assignment_reads_like_a_missing_one(cast: Cast) -> None:
    answers = set()
    for doctor in (cast.deleted_ids["doctor", "alice"], MISSING_ID):
        body = {"patient": cast.ids["patient", "alice"], "doctor": doctor}
        answer = cast.clients["owner"].post("/api/mappings/", body)
        assert answer.status_code == 400
        answers.add(answer.content.replace(answer.headers["X-Request-Id"].encode(), b""))
    assert len(answers) == 1
