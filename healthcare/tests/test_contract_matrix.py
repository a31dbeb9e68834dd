"""The contract matrix: every route, method, caller and target answers as its row says; and the matrix can fail."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.urls import path
from pytest_django import Settings
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import AUTHENTICATE
from accounts.delegations.models import Delegation, DelegationQuerySet, NoticeQuerySet
from accounts.delegations.named_users import NamedUser
from accounts.delegations.views import ClinicViewSet
from accounts.models import LoginSession, User, UserQuerySet
from accounts.second_factor.rules import CodeCheck
from accounts.views import SessionViewSet
from fhir.models import BulkExportQuerySet
from healthcare.ownership import OwnedQuerySet
from healthcare.tests.cast import MISSING_ID, Cast
from healthcare.tests.contract_matrix import (
    METHODS,
    all_routes,
    find_deviations,
    find_missing_rows,
    looks_up,
    send_cell,
    table_hashes,
)
from healthcare.tests.declarations import (
    ACTING_CALLERS,
    ACTIVE_CALLERS,
    DELEGATES,
    IGNORED_HEADER_CALLER,
    SAFE_METHODS,
    TOKEN_CALLERS,
    Row,
    all_rows,
    contracts,
)
from healthcare.urls import urlpatterns as real_urlpatterns
from patients.views import PatientViewSet


class UndeclaredView(APIView):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    def get(self, request: Request) -> Response:
        return Response({})


# A URL conf of its own, for the tests that show that the matrix can fail.
urlpatterns = [*real_urlpatterns, path("api/undeclared/", UndeclaredView.as_view())]


class NothingKept(dict):
    def __setitem__(self, *_: Any) -> None: ...


PATIENT = next(row for row in all_rows() if row.route == "api/patients/<int:pk>/")
CLINICS = next(row for row in all_rows() if row.route == "api/clinics/")
UNDECLARED = Row("api/undeclared/", "OPEN", {})
# The rows by the app that declares them: one app's cells can be chosen, and workers share the work.
ROWS = {app: contract.rows for app, contract in contracts().items() if contract.rows}
each_app = pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())


@pytest.fixture
def cast(make_user: Callable[..., User], settings: Settings) -> Cast:
    settings.EMAIL_CONFIGURED = True  # which adds routes
    return Cast.build(make_user)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert find_missing_rows(all_rows()) == []


@pytest.mark.long
@each_app
def test_every_cell_answers_as_its_row_says(cast: Cast, rows: list[Row]) -> None:
    assert find_deviations(cast, rows) == []


def served_by_the_fast_path(row: Row, method: str, caller: str) -> bool:
    view: Any = all_routes()[row.route].callback
    view = getattr(view, "views_by_method", {}).get(method.lower(), view)
    return method.lower() in view.fast_actions.opted_in if hasattr(view, "fast_actions") else False


@pytest.mark.slow
@pytest.mark.long
@each_app
def test_the_other_path_answers_the_same(cast: Cast, settings: Settings, rows: list[Row]) -> None:
    settings.FAST_PATH = "on" if settings.FAST_PATH == "off" else "off"
    assert find_deviations(cast, rows, selects=served_by_the_fast_path) == []


def test_a_route_without_a_row_is_found(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    assert find_missing_rows(all_rows()) == ["api/undeclared/ has no row in the matrix"]


def test_a_row_without_a_route_is_found() -> None:
    assert find_missing_rows([*all_rows(), UNDECLARED]) == ["api/undeclared/ has a row and no route"]


def test_a_method_that_its_row_does_not_name_is_found(cast: Cast, settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    found = find_deviations(cast, [UNDECLARED])
    assert any(line.startswith("GET /api/undeclared/ as anonymous, -, expected 405: 200") for line in found), found


def test_a_method_that_its_row_names_and_nothing_answers_is_found(cast: Cast) -> None:
    sessions = Row("api/auth/sessions/", "PRIVATE", {"GET": 200, "DELETE": 204})
    found = find_deviations(cast, [sessions])
    expected = dict.fromkeys(ACTIVE_CALLERS, 204) | dict.fromkeys(TOKEN_CALLERS, 403) | {IGNORED_HEADER_CALLER: 204}
    assert found == [
        f"DELETE /api/auth/sessions/ as {name}, -, expected {status}: 405" for name, status in expected.items()
    ]


def every_living_token() -> Any:
    return LoginSession.objects.live().tokens().annotate(owner_named=NamedUser("acting_for"))


def test_a_login_that_asks_for_no_code_is_found(make_user: Callable[..., User], monkeypatch: Any) -> None:
    monkeypatch.setattr("accounts.backends.check_code", lambda *_: CodeCheck.NOT_ENROLLED)
    sessions = Row("api/auth/sessions/", "PRIVATE", {"GET": 200})
    found = find_deviations(Cast.build(make_user), [sessions], callers=["otp-pending"])
    assert found[0] == "GET /api/auth/sessions/ as otp-pending, -, expected 401: 200"


@pytest.fixture
def without_scopes(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Every scope of the code answers all rows, in the views and in the serializers' relations.

    The fast path has compiled its scopes: see healthcare/fastpath/tests/test_row_level_security.py for it.
    """
    settings.FAST_PATH = "off"
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, owner: queryset)
    monkeypatch.setattr(SessionViewSet, "get_queryset", lambda view: LoginSession.objects.live())
    monkeypatch.setattr("accounts.personal_tokens.views.own_living_tokens", lambda request: every_living_token())
    monkeypatch.setattr(UserQuerySet, "clinics_of", lambda queryset, delegate: queryset.filter(is_clinic=True))
    monkeypatch.setattr(DelegationQuerySet, "visible_to", lambda queryset, caller, owner: queryset)
    monkeypatch.setattr(NoticeQuerySet, "received_by", lambda queryset, user: queryset)
    monkeypatch.setattr(BulkExportQuerySet, "visible_to", lambda queryset, caller, owner: queryset)


@pytest.mark.slow
@pytest.mark.long
@each_app
@pytest.mark.usefixtures("without_scopes")
def test_row_level_security_alone_answers_every_cell_the_same(cast: Cast, rows: list[Row]) -> None:
    # What is refused before any scope is no cell of this test: the tests above show that.
    assert find_deviations(cast, rows, selects=looks_up) == []


# The routes that write with the rights of the API's role.
WRITTEN_AS_THE_ROLE = {
    "api/patients/", "api/patients/<int:pk>/", "api/patients/<int:pk>/restore/", "api/patients/<int:pk>/merge/",
    "api/patients/<int:pk>/unmerge/", "api/mappings/", "api/mappings/<int:pk>/",
}  # fmt: skip


@pytest.mark.usefixtures("without_scopes")
def test_row_level_security_alone_refuses_what_the_role_of_a_delegate_does_not_allow(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthcare.api.viewsets.check_role", lambda view, request: None)
    refused, before = set(), table_hashes()
    for row in all_rows():
        for method in row.methods.keys() - SAFE_METHODS if row.route in WRITTEN_AS_THE_ROLE else ():
            for caller in [one for one in DELEGATES if row.problem_code(method, one) == "role_too_low"]:
                target = "deleted" if row.route.endswith("restore/") else "own" if "<" in row.route else ""
                with transaction.atomic():
                    answer = send_cell(cast, row, method, caller, target)
                    transaction.set_rollback(False)  # DRF has set it on this transaction
                    cell = (method, row.route, caller)
                    assert (answer.status_code >= 400, table_hashes()) == (True, before), cell
                    transaction.set_rollback(True)
                refused.add(cell)
    assert len(refused) == 14
    assert ("DELETE", "api/patients/<int:pk>/", "delegate-write") in refused


def test_a_row_names_the_role_for_each_method_of_a_view_that_acts_for_an_owner() -> None:
    for row in all_rows():
        view = all_routes()[row.route].callback
        views = getattr(view, "views_by_method", {"": view}).values()
        acting = {bool(getattr(one.cls, "acts_for_owner", False)) for one in views if hasattr(one, "cls")}
        assert acting <= {bool(row.roles)}, row.route
        assert not row.roles or row.roles.keys() == row.methods.keys(), row.route


@pytest.mark.usefixtures("without_scopes")
def test_without_scopes_and_row_level_security_the_leak_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.authentication.AUTHENTICATE", AUTHENTICATE.replace("healthcare_api", "none"))
    found = find_deviations(cast, [PATIENT])
    cells = {(method, caller) for method in METHODS for caller in ACTIVE_CALLERS if method not in {"POST", "OPTIONS"}}
    for method, caller in cells:
        line = (
            f"{method} /api/patients/<int:pk>/ as {caller}, another's, expected 404: {PATIENT.methods.get(method, 200)}"
        )
        assert line in found, found


def test_a_refusal_that_writes_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def patch(view: PatientViewSet, request: Request, **kwargs: Any) -> Response:
        User.objects.filter(username="bob").update(name="changed")
        return Response({}, status=404)

    monkeypatch.setattr(PatientViewSet, "partial_update", patch)
    assert any("refused, and changed [('accounts_user'" in line for line in find_deviations(cast, [PATIENT]))


def test_a_role_that_is_not_checked_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthcare.api.viewsets.check_role", lambda view, request: None)
    found = find_deviations(cast, [PATIENT], callers=["owner", *DELEGATES])
    assert "DELETE /api/patients/<int:pk>/ as delegate-read, own, expected 403: 404" in found, found
    assert "DELETE /api/patients/<int:pk>/ as delegate-write, missing, expected 403: 404" in found, found


TOKEN_OWNERS = ["owner", *TOKEN_CALLERS]


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_a_scope_that_is_not_checked_is_found(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Settings, fast_path: str
) -> None:
    settings.FAST_PATH = fast_path
    monkeypatch.setattr("accounts.authentication.check_token", lambda view, method, scope: None)
    found = find_deviations(cast, [PATIENT, CLINICS], callers=TOKEN_OWNERS)
    assert "PATCH /api/patients/<int:pk>/ as token-read, own, expected 403: 200" in found, found
    assert "DELETE /api/patients/<int:pk>/ as token-read, missing, expected 403: 404" in found, found
    for caller in TOKEN_CALLERS:
        assert f"POST /api/clinics/ as {caller}, -, expected 403: 201" in found, found


def test_a_scope_that_the_fast_path_does_not_check_is_found(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.FAST_PATH = "on"
    monkeypatch.setattr("accounts.authentication.WRITE", "read")
    found = find_deviations(cast, [PATIENT], callers=TOKEN_OWNERS)
    assert "PUT /api/patients/<int:pk>/ as token-read, own, expected 403: 200" in found, found


def test_a_view_of_accounts_that_is_open_to_tokens_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClinicViewSet, "writable_by_tokens", True, raising=False)
    found = find_deviations(cast, [CLINICS], callers=TOKEN_OWNERS)
    assert "POST /api/clinics/ as token-write, -, expected 403: 201" in found, found
    assert "POST /api/clinics/ as token-read, -, expected 403: a 403 without the code not_by_token" in found, found


def test_a_view_of_records_that_is_closed_to_tokens_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientViewSet, "writable_by_tokens", False)
    found = find_deviations(cast, [PATIENT], callers=TOKEN_OWNERS)
    assert "DELETE /api/patients/<int:pk>/ as token-write, own, expected 204: 403" in found, found


def test_a_token_whom_only_the_standard_path_serves_is_found(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.FAST_PATH = "on"
    monkeypatch.setattr("accounts.authentication.known_tokens", NothingKept())
    found = find_deviations(cast, [PATIENT], callers=TOKEN_OWNERS)
    line = "as token-read, own, expected 200: served by the standard path, the owner by the fast one"
    assert f"GET /api/patients/<int:pk>/ {line}" in found, found


def test_a_delegation_that_is_not_checked_is_found(cast: Cast) -> None:
    Delegation.objects.filter(delegate__username__in=["eve", "rex"]).update(revoked_at=None, expires_at=None)
    found = find_deviations(cast, [PATIENT], callers=["owner", *ACTING_CALLERS])
    for caller in ("delegate-expired", "delegate-revoked"):
        assert f"GET /api/patients/<int:pk>/ as {caller}, own, expected 403: 200" in found, found
        assert f"GET /api/patients/<int:pk>/ as {caller}, own, expected 403: X-Acting-For: alice" in found, found


def test_an_answer_that_does_not_name_the_owner_is_found(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthcare.api.middleware.ACTING_FOR_HEADER", "X-Other")
    found = find_deviations(cast, [PATIENT], callers=["owner", "delegate-read"])
    assert "GET /api/patients/<int:pk>/ as delegate-read, own, expected 200: X-Acting-For: None" in found, found


def test_a_delegate_whom_only_the_standard_path_serves_is_found(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.FAST_PATH = "on"
    monkeypatch.setattr("accounts.authentication.known_owners", NothingKept())
    found = find_deviations(cast, [PATIENT], callers=["owner", "delegate-read"])
    line = "as delegate-read, own, expected 200: served by the standard path, the owner by the fast one"
    assert f"GET /api/patients/<int:pk>/ {line}" in found, found


def test_every_route_but_the_landing_page_and_health_is_under_api_or_fhir() -> None:
    outside = {route for route in all_routes() if not route.startswith(("api/", "fhir/"))}
    assert outside <= {"", "fhir", "healthz", "readyz"}


@pytest.mark.parametrize("path", ["on", "off"])
def test_a_foreign_patient_in_a_new_assignment_reads_like_a_missing_one(
    cast: Cast, settings: Settings, path: str
) -> None:
    settings.FAST_PATH = path
    before = table_hashes()
    for caller, owner in ACTIVE_CALLERS.items():
        answers = set()
        for target in ("another's", "missing", "deleted"):
            body = {"patient": cast.id_of("patient", target, owner), "doctor": cast.ids["doctor", owner]}
            answer = cast.clients[caller].post("/api/mappings/", body)
            assert answer.status_code == 400
            assert json.loads(answer.content)["errors"][0]["pointer"] == "/patient"
            answers.add(answer.content.replace(answer.headers["X-Request-Id"].encode(), b""))
        assert len(answers) == 1
    assert table_hashes() == before


@pytest.mark.parametrize("path", ["on", "off"])
def test_a_deleted_doctor_in_a_new_assignment_reads_like_a_missing_one(
    cast: Cast, settings: Settings, path: str
) -> None:
    settings.FAST_PATH = path
    answers = set()
    for doctor in (cast.deleted_ids["doctor", "alice"], MISSING_ID):
        body = {"patient": cast.ids["patient", "alice"], "doctor": doctor}
        answer = cast.clients["owner"].post("/api/mappings/", body)
        assert answer.status_code == 400
        answers.add(answer.content.replace(answer.headers["X-Request-Id"].encode(), b""))
    assert len(answers) == 1
