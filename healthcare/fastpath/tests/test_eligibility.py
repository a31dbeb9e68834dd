"""Standard DRF serves whatever the fast path does not know, and a system check names the reason."""

import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import models
from django.db.models.signals import post_init, post_save, pre_save
from django.http import HttpRequest, HttpResponse, QueryDict
from django.test.utils import isolate_apps
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from rest_framework import pagination, parsers, renderers, serializers, versioning
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.throttling import UserRateThrottle

from accounts.authentication import SessionJWTAuthentication
from accounts.models import User
from conftest import LoggedInClient
from doctors.serializers import DoctorSerializer
from doctors.tests.factories import make_doctor
from healthcare.api.filters import ListFilterBackend
from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.actions import FastAction
from healthcare.fastpath.json_sql import UnsupportedError, record_as_json
from healthcare.fastpath.views import FastActions, fast_views
from healthcare.ownership import OwnedQuerySet
from mappings.models import Mapping
from patients.models import Patient
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

LIST = {"get": "list", "post": "create"}
DETAIL = {"get": "retrieve", "put": "update", "patch": "partial_update"}
ALL_ACTIONS = ["list", "create", "retrieve", "update", "partial_update"]


def members(viewset: Any, action: str, **options: Any) -> set[str]:
    """The members that keep an action of a viewset from the fast path."""
    actions = LIST if action in LIST.values() else DETAIL
    return {obstacle.member for obstacle in FastActions(viewset, actions, options).obstacles[action]}


def subclass(**members_: Any) -> Any:
    return type("OwnViewSet", (PatientViewSet,), members_)


@pytest.fixture
def serve(settings: Any) -> Callable[..., None]:
    """Serves a viewset at the paths of the patients."""
    known_parameters()  # which the OpenAPI description of the product's own URLs names

    def at_the_paths_of_patients(viewset: Any, **options: Any) -> None:
        settings.ROOT_URLCONF = (
            path("api/patients/", viewset.as_view(dict(LIST), **options)),
            path("api/patients/<int:pk>/", viewset.as_view(dict(DETAIL), **options)),
        )

    return at_the_paths_of_patients


def path_of(response: Any) -> str:
    """The implementation that has answered, as in the access log."""
    return getattr(response.wsgi_request, "served_by", "standard")


@pytest.mark.parametrize("action", ALL_ACTIONS)
def test_every_action_of_patients_is_served_by_the_fast_path(action: str):
    assert members(PatientViewSet, action) == set()


def test_every_action_that_opts_in_is_served():
    """Otherwise an obstacle in the project's own code would go unnoticed."""
    found = list(fast_views())
    assert {fast.viewset.__name__ for fast in found} >= {"PatientViewSet", "DoctorViewSet", "MappingViewSet"}
    assert [(fast.viewset, fast.obstacles) for fast in found if any(fast.obstacles.values())] == []


class MaskedField(serializers.CharField):
    def to_representation(self, value: Any) -> str:
        return "***"


class MaskedSerializer(PatientSerializer):
    phone = MaskedField(required=False)


class NestedSerializer(PatientSerializer):
    merged_into = PatientSerializer(read_only=True)

    class Meta(PatientSerializer.Meta):
        fields = [*PatientSerializer.Meta.fields, "merged_into"]


def test_a_masking_field_is_masked_in_every_answer(serve: Callable[..., None], as_alice: LoggedInClient, alice: User):
    patient = make_patient(alice, phone="+91 80 5550 0100")
    viewset = subclass(serializer_class=MaskedSerializer)
    serve(viewset)
    for headers in ({}, {"If-None-Match": '"other"'}, {}):
        answer = as_alice.get(f"/api/patients/{patient.pk}/", headers=headers)
        assert (answer.json()["phone"], path_of(answer)) == ("***", "standard")
    assert as_alice.get("/api/patients/").json()[0]["phone"] == "***"
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"}).json()["phone"] == "***"
    assert as_alice.post("/api/patients/", {"name": "New", "phone": "1"}).json()["phone"] == "***"
    for action in ALL_ACTIONS:
        assert members(viewset, action) == {"MaskedSerializer.phone"}


def test_a_nested_serializer_of_a_foreign_key_answers_the_object(
    serve: Callable[..., None], as_alice: LoggedInClient, alice: User
):
    survivor = make_patient(alice, name="Survivor")
    serve(
        subclass(serializer_class=NestedSerializer, scope=staticmethod(lambda owner: Patient.objects.owned_by(owner)))
    )
    duplicate = make_patient(alice)
    Patient.objects.filter(pk=duplicate.pk).update(merged_into=survivor, deleted_at=timezone.now())
    assert members(subclass(serializer_class=NestedSerializer), "retrieve") == {"NestedSerializer.merged_into"}
    assert as_alice.get("/api/patients/").json()[0]["merged_into"] is None


def refuse(method: Any) -> Any:
    def refused(*args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(status=403)

    return refused


@pytest.mark.parametrize("name", ["create", "dispatch", "initial", "perform_create", "finalize_response"])
def test_a_decorated_method_runs_for_every_request(serve: Callable[..., None], as_alice: LoggedInClient, name: str):
    calls = []

    def counting(method: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return method(*args, **kwargs)

        return counted

    viewset: Any = method_decorator(counting, name=name)(subclass())
    serve(viewset)
    for _ in range(4):
        assert as_alice.post("/api/patients/", {"name": "New"}).status_code == 201
    assert len(calls) == 4
    assert members(viewset, "create") == {f"OwnViewSet.{name}"}


def test_a_decorator_that_refuses_is_never_skipped(serve: Callable[..., None], as_alice: LoggedInClient):
    serve(method_decorator(refuse, name="create")(subclass()))
    statuses = [as_alice.post("/api/patients/", {"name": "New"}).status_code for _ in range(4)]
    assert (statuses, Patient.objects.count()) == ([403] * 4, 0)


def test_a_decorator_around_the_view_function_runs(settings: Any, as_alice: LoggedInClient):
    def refuse_view(view: Any) -> Any:
        return lambda request, **kwargs: HttpResponse(status=403)

    settings.ROOT_URLCONF = (path("api/patients/", refuse_view(PatientViewSet.as_view(dict(LIST)))),)
    assert as_alice.get("/api/patients/").status_code == 403


def allow_only_the_office(get_response: Any) -> Any:
    """A middleware with an allowlist of addresses."""

    def middleware(request: HttpRequest) -> HttpResponse:
        allowed = request.META["REMOTE_ADDR"] == "192.0.2.1"
        response: HttpResponse = get_response(request) if allowed else HttpResponse(status=403)
        return response

    return middleware


def test_a_middleware_sees_every_request(settings: Any, as_alice: LoggedInClient):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.allow_only_the_office"]
    for address, status in (("203.0.113.9", 403), ("192.0.2.1", 200), ("203.0.113.9", 403)):
        extra: dict[str, Any] = {"REMOTE_ADDR": address}
        assert as_alice.get("/api/patients/", **extra).status_code == status


def ask_for_one_row(get_response: Any) -> Any:
    """A middleware that replaces the query parameters of clients with a header, and leaves the query string."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "HTTP_X_SMALL_SCREEN" in request.META:
            vars(request)["GET"] = QueryDict("limit=1")
        response: HttpResponse = get_response(request)
        return response

    return middleware


@pytest.mark.parametrize("query", ["", "?limit=2"])
@pytest.mark.parametrize("path", ["/api/patients/", "/api/doctors/"])
def test_query_parameters_that_a_middleware_has_replaced_are_served(
    settings: Any, as_alice: LoggedInClient, alice: User, path: str, query: str
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.ask_for_one_row"]
    for _ in range(2):
        make_patient(alice)
        make_doctor(alice)
    for headers, rows in (({}, 2), ({"X-Small-Screen": "?1"}, 1), ({}, 2)):
        assert len(as_alice.get(f"{path}{query}", headers=headers).json()) == rows


def refuse_duplicates(get_response: Any) -> Any:
    """A middleware that lets no write create a likely duplicate, and leaves the query string."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            vars(request)["GET"] = QueryDict("on_duplicate=reject")
        response: HttpResponse = get_response(request)
        return response

    return middleware


def test_a_write_sees_the_query_parameters_that_a_middleware_has_added(settings: Any, as_alice: LoggedInClient):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.refuse_duplicates"]
    body = {"name": "Asha Nair", "birth_date": "1990-05-01"}
    assert [as_alice.post("/api/patients/", body).status_code for _ in range(2)] == [201, 409]


def test_a_filter_is_applied_however_its_name_is_encoded(as_alice: LoggedInClient, alice: User):
    female = make_patient(alice, gender="F").pk
    make_patient(alice, gender="M")
    for query, ids in (("gender=F", [female]), ("%67ender=F", [female]), ("%67ender=U", []), ("%67ender=F", [female])):
        answer = as_alice.get(f"/api/patients/?{query}")
        assert ([patient["id"] for patient in answer.json()], path_of(answer)) == (ids, "fast")


def note_the_user(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        response["X-User"] = str(getattr(request, "user", None))
        return response

    return middleware


def test_a_middleware_finds_the_user_of_the_request(settings: Any, as_alice: LoggedInClient, alice: User):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.note_the_user"]
    answer = as_alice.get(f"/api/patients/{make_patient(alice).pk}/")
    assert (answer["X-User"], path_of(answer)) == ("alice", "fast")


class OtherRenderer(renderers.JSONRenderer):
    pass


class OtherParser(parsers.JSONParser):
    pass


class OtherAuthentication(SessionJWTAuthentication):
    pass


class OtherPermission(IsAuthenticated):
    pass


class OtherBackend(ListFilterBackend):
    pass


CLASS_ATTRIBUTES = {
    "renderer_classes": [OtherRenderer],
    "parser_classes": [OtherParser],
    "pagination_class": pagination.PageNumberPagination,
    "versioning_class": versioning.URLPathVersioning,
    "throttle_classes": [UserRateThrottle],
    "authentication_classes": [OtherAuthentication],
    "permission_classes": [OtherPermission],
    "filter_backends": [OtherBackend],
    "content_negotiation_class": DefaultContentNegotiation,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASS_ATTRIBUTES)
@pytest.mark.parametrize("place", ["class", "as_view"])
def test_another_policy_class_is_an_obstacle(name: str, place: str):
    value = CLASS_ATTRIBUTES[name]
    viewset, options = (subclass(**{name: value}), {}) if place == "class" else (PatientViewSet, {name: value})
    for action in ALL_ACTIONS:
        assert members(viewset, action, **options) == {f"{viewset.__name__}.{name}"}


def test_permissions_of_as_view_are_checked(serve: Callable[..., None], as_alice: LoggedInClient, alice: User):
    serve(PatientViewSet, permission_classes=[IsAdminUser])
    assert as_alice.get("/api/patients/").status_code == 403
    assert as_alice.get(f"/api/patients/{make_patient(alice).pk}/").status_code == 403


def test_an_unknown_option_of_as_view_is_an_obstacle():
    found = members(PatientViewSet, "list", get_queryset=lambda: Patient.objects.none())
    assert found == {"PatientViewSet.as_view(get_queryset=…)"}


def test_a_method_that_is_not_allowed_is_refused(serve: Callable[..., None], as_alice: LoggedInClient):
    serve(subclass(http_method_names=["get", "head", "options"]))
    assert as_alice.get("/api/patients/").status_code == 200
    answer = as_alice.post("/api/patients/", {"name": "New"})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    "name",
    ["get_queryset", "get_object", "filter_queryset", "get_serializer", "get_serializer_class", "handle_exception",
     "get_serializer_context", "permission_denied", "check_permissions", "get_permissions", "initialize_request",
     "perform_authentication", "get_authenticators", "perform_content_negotiation", "as_view", "__init__",
     "__getattribute__"],
)  # fmt: skip
def test_an_overridden_member_is_an_obstacle(name: str):
    inherited = getattr(PatientViewSet, name)
    viewset = subclass(**{name: lambda self, *args, **kwargs: inherited(self, *args, **kwargs)})
    assert members(viewset, "retrieve") == {f"OwnViewSet.{name}"}


def test_an_override_in_a_mixin_is_an_obstacle():
    mixin = type("CachingMixin", (), {"list": lambda self, request: None})
    viewset: Any = type("OwnViewSet", (mixin, PatientViewSet), {})
    assert members(viewset, "list") == {"CachingMixin.list"}
    assert members(viewset, "create") == set()


def test_a_scope_by_role_gives_staff_more(
    serve: Callable[..., None], as_alice: LoggedInClient, as_staff: LoggedInClient
):
    def get_queryset(self: Any) -> Any:
        return Patient.objects.all() if self.request.user.is_staff else Patient.objects.none()

    viewset = subclass(get_queryset=get_queryset)
    serve(viewset)
    assert members(viewset, "list") == {"OwnViewSet.get_queryset"}
    assert path_of(as_alice.get("/api/patients/")) == "standard"


@pytest.mark.parametrize(
    "scope",
    [
        lambda owner: Patient.objects.filter(created_at__lte=timezone.now()),
        lambda owner: Patient.objects.filter(birth_date__lte=datetime.date(2000, 1, 1)),
        lambda owner: Patient.objects.all() if owner.is_staff else Patient.objects.owned_by(owner),
        lambda owner: Patient.objects.filter(name=str(uuid.uuid4())),
        lambda owner: Patient.objects.none(),
    ],
    ids=["clock", "date", "role", "random", "nothing"],
)
def test_a_scope_that_depends_on_more_than_the_owner_is_an_obstacle(scope: Any):
    assert members(subclass(scope=staticmethod(scope)), "list") == {"OwnViewSet.scope"}


def test_a_serializer_class_that_depends_on_the_request_is_an_obstacle(
    serve: Callable[..., None], as_alice: LoggedInClient
):
    def get_serializer_class(self: Any) -> Any:
        return PatientSerializer if self.request.user.username == "alice" else DoctorSerializer

    viewset = subclass(get_serializer_class=get_serializer_class)
    serve(viewset)
    assert members(viewset, "list") == {"OwnViewSet.get_serializer_class"}
    assert as_alice.get("/api/patients/").status_code == 200


@pytest.mark.parametrize(
    "name", ["to_representation", "to_internal_value", "create", "update", "save", "run_validation", "get_fields"]
)
def test_an_overridden_member_of_a_serializer_is_an_obstacle(name: str):
    inherited = getattr(PatientSerializer, name)
    serializer = type("OwnSerializer", (PatientSerializer,), {name: lambda self, *args: inherited(self, *args)})
    assert members(subclass(serializer_class=serializer), "create") == {f"OwnSerializer.{name}"}


@pytest.mark.parametrize(
    "field",
    [serializers.SerializerMethodField(), serializers.CharField(source="phone", read_only=True),
     serializers.DateTimeField(source="created_at", format="%Y", read_only=True),
     serializers.DecimalField(3, 1, source="birth_year", read_only=True)],
    ids=["method", "source", "format", "decimal"],
)  # fmt: skip
def test_a_field_with_its_own_representation_is_an_obstacle(field: serializers.Field):
    meta = type("Meta", (PatientSerializer.Meta,), {"fields": [*PatientSerializer.Meta.fields, "extra"]})
    serializer = type(
        "OwnSerializer", (PatientSerializer,), {"extra": field, "Meta": meta, "get_extra": lambda *_: "x"}
    )
    expected = set() if getattr(field, "source", None) == "phone" else {"OwnSerializer.extra"}
    assert members(subclass(serializer_class=serializer), "retrieve") == expected


@pytest.mark.parametrize(
    ("column", "supported"),
    [(models.DecimalField(max_digits=5, decimal_places=2), False), (models.JSONField(), False),
     (models.UUIDField(), True), (models.TextField(), True), (models.TimeField(), False),
     (models.BinaryField(), False), (models.FloatField(), False), (models.DurationField(), False)],
    ids=lambda value: type(value).__name__ if isinstance(value, models.Field) else "",
)  # fmt: skip
def test_a_column_class_is_served_or_named_by_the_check(column: models.Field, supported: bool):
    with isolate_apps("patients"):
        model = type("Extra", (models.Model,), {"__module__": "patients.models", "extra": column})
        meta = type("Meta", (), {"model": model, "fields": ["id", "extra"]})
        serializer: Any = type("ExtraSerializer", (serializers.ModelSerializer,), {"Meta": meta})
        if supported:
            assert '"extra" AS "extra"' in record_as_json(serializer()).sql
        elif not serializer().fields["extra"].read_only or not isinstance(column, models.BinaryField):
            with pytest.raises(UnsupportedError, match="ExtraSerializer.extra"):
                record_as_json(serializer())


class EncryptedField(models.CharField):
    def get_prep_value(self, value: Any) -> Any:
        return f"encrypted {value}"

    def from_db_value(self, value: str, *_: Any) -> str:
        return value.removeprefix("encrypted ")


def test_a_column_with_its_own_value_conversion_is_an_obstacle():
    with isolate_apps("patients"):
        model = type(
            "Secret", (models.Model,), {"__module__": "patients.models", "secret": EncryptedField(max_length=9)}
        )
        meta = type("Meta", (), {"model": model, "fields": ["secret"]})
        serializer: Any = type("SecretSerializer", (serializers.ModelSerializer,), {"Meta": meta})
        with pytest.raises(UnsupportedError, match="SecretSerializer.secret"):
            record_as_json(serializer())


@pytest.fixture
def listener() -> Iterator[list[Any]]:
    """Receivers of a patient's signals, connected while the server runs."""
    heard: list[Any] = []

    def hear(signal: Any, **keywords: Any) -> None:
        heard.append((signal, keywords.get("update_fields")))

    for signal in (pre_save, post_save, post_init):
        signal.connect(hear, sender=Patient)
    yield heard
    for signal in (pre_save, post_save, post_init):
        signal.disconnect(hear, sender=Patient)


def test_signal_receivers_are_called_for_every_read_and_write(
    as_alice: LoggedInClient, alice: User, listener: list[Any]
):
    patient = make_patient(alice)
    listener.clear()
    as_alice.get(f"/api/patients/{patient.pk}/")
    assert [signal for signal, _ in listener] == [post_init]
    listener.clear()
    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"})
    assert [heard for heard in listener if heard[0] is not post_init] == [
        (pre_save, frozenset({"name"})), (post_save, frozenset({"name"}))
    ]  # fmt: skip
    listener.clear()
    as_alice.post("/api/patients/", {"name": "New"})
    assert [signal for signal, _ in listener if signal is not post_init] == [pre_save, post_save]
    assert members(PatientViewSet, "create") == {"Patient post_init", "Patient pre_save", "Patient post_save"}


@pytest.mark.parametrize("name", ["save", "from_db", "refresh_from_db", "__init__"])
def test_an_overridden_member_of_the_model_is_an_obstacle(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(Patient, name, lambda *args, **kwargs: None, raising=False)
    assert members(PatientViewSet, "create") >= {f"Patient.{name}"}


def test_an_overridden_verb_of_the_queryset_is_an_obstacle(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(Patient.objects.all()), "create", lambda self, **fields: None, raising=False)
    assert members(PatientViewSet, "create") == {"PatientQuerySet.create"}


def test_a_setting_of_drf_is_an_obstacle(settings: Any):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "DATETIME_FORMAT": "%Y", "COMPACT_JSON": False}
    assert members(PatientViewSet, "list") == {"REST_FRAMEWORK['DATETIME_FORMAT']", "REST_FRAMEWORK['COMPACT_JSON']"}


def test_a_field_that_writes_local_times_is_an_obstacle(settings: Any, monkeypatch: pytest.MonkeyPatch):
    settings.TIME_ZONE = "Asia/Kolkata"
    assert members(PatientViewSet, "list") == set()

    class LocalTimes(PatientSerializer):
        created_at = serializers.DateTimeField(read_only=True)

    monkeypatch.setattr(PatientViewSet, "serializer_class", LocalTimes)
    assert "LocalTimes.created_at" in members(PatientViewSet, "list")


def test_times_that_are_not_in_utc_in_the_session_are_an_obstacle(settings: Any):
    settings.USE_TZ = False
    assert "TIME_ZONE" in members(PatientViewSet, "list")


def test_the_check_names_class_action_and_member(serve: Callable[..., None]):
    serve(subclass(serializer_class=MaskedSerializer))
    found = [message for message in run_checks() if message.id == "fastpath.W001"]
    assert len(found) == 5
    assert found[0].msg.startswith("OwnViewSet.")
    assert "uses standard DRF because of MaskedSerializer.phone." in found[0].msg
    assert "healthcare.fastpath.json_sql" in str(found[0].hint)


def test_an_action_without_an_implementation_is_named():
    viewset = subclass(fast_actions=frozenset({"list", "destroy"}))
    fast = FastActions(viewset, {"delete": "destroy"}, {})
    assert [obstacle.member for obstacle in fast.obstacles["destroy"]] == ["destroy"]
    assert isinstance(fast.by_method, dict)
    assert not fast.by_method


def test_the_first_requests_to_a_url_examine_its_actions_once(monkeypatch: pytest.MonkeyPatch):
    examined: list[str] = []

    def find_obstacles(self: FastActions, action: str) -> Iterator[Any]:
        examined.append(action)
        time.sleep(0.05)  # lets the other requests ask meanwhile
        return iter(())

    monkeypatch.setattr(FastActions, "find_obstacles", find_obstacles)
    fast = FastActions(PatientViewSet, {"get": "retrieve"}, {})
    with ThreadPoolExecutor(8) as threads:
        found = {*threads.map(lambda method: fast.by_method[method], ["GET"] * 8)}
    assert examined == ["retrieve"]
    assert len(found) == 1


def test_a_declaration_that_cannot_be_examined_is_standard(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(FastAction, "rows", fail)
    assert members(PatientViewSet, "list") == {"PatientViewSet.scope"}


def test_owned_by_takes_a_user_or_an_expression(alice: User):
    patient = make_patient(alice)
    assert [*Patient.objects.owned_by(alice)] == [patient]
    assert [*Patient.objects.owned_by(models.Value(alice.pk))] == [patient]
    assert isinstance(Mapping.objects.all(), OwnedQuerySet)


def test_answers_whose_reads_are_recorded_are_not_cached():
    found = members(subclass(cached_by_table_version=True), "list")
    assert found == {"OwnViewSet.cached_by_table_version"}
