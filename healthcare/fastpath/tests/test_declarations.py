"""Declarations, options and patches that the fast path does not reproduce are served by standard DRF and named."""

import datetime
from collections.abc import Callable
from typing import Any

import django_filters
import pytest
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models.signals import post_init
from django.http import HttpRequest, HttpResponse
from django.test.utils import isolate_apps
from django.urls import path
from django.utils import timezone
from rest_framework import generics, serializers, views
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.test import APIClient

from accounts.authentication import SessionJWTAuthentication
from accounts.models import User
from audit.models import AccessLog
from audit.views import ReadsRecordedViewSet
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.api import fields as api_fields
from healthcare.api import idempotency, pagination
from healthcare.api.sparse_fieldsets import FieldSelection, Inclusion
from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.json_sql import UnsupportedError, record_as_json
from healthcare.fastpath.views import FastActions
from mappings.inclusions import DOCTORS_INCLUSION
from mappings.serializers import PatientDoctorSerializer
from mappings.tests.factories import make_mapping
from mappings.views import PatientDoctorsViewSet
from patients.filters import PatientFilter
from patients.models import Patient, PatientEvent
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

LIST = {"get": "list", "post": "create"}
DETAIL = {"get": "retrieve", "put": "update", "patch": "partial_update"}


def members(viewset: Any, action: str, actions: dict[str, str] | None = None, **options: Any) -> set[str]:
    """The members that keep an action of a viewset from the fast path."""
    actions = actions or (LIST if action in LIST.values() else DETAIL)
    return {obstacle.member for obstacle in FastActions(viewset, actions, options).obstacles[action]}


def subclass(base: Any = PatientViewSet, **members_: Any) -> Any:
    return type("OwnViewSet", (base,), members_)


def path_of(response: Any) -> str:
    return getattr(response.wsgi_request, "served_by", "standard")


@pytest.fixture
def serve(settings: Any) -> Callable[..., None]:
    """Serves a viewset at the paths of the patients."""
    known_parameters()

    def at_the_paths_of_patients(viewset: Any, detail: str = "api/patients/<int:pk>/", **options: Any) -> None:
        settings.ROOT_URLCONF = (
            path("api/patients/", viewset.as_view(dict(LIST), **options)),
            path(detail, viewset.as_view(dict(DETAIL), **options)),
        )

    return at_the_paths_of_patients


def hide_the_deceased(self: Any) -> Any:
    return super(PatientFilter, self).qs.filter(deceased=False)


def test_a_filterset_that_hides_rows_by_itself_is_asked_for_every_list(
    serve: Callable[..., None], as_alice: LoggedInClient, alice: User
):
    make_patient(alice, name="Late", deceased=True)
    own: Any = type("OwnFilter", (PatientFilter,), {"qs": property(hide_the_deceased)})
    viewset = subclass(filterset_class=own)
    serve(viewset)
    assert as_alice.get("/api/patients/").json() == []
    assert members(viewset, "list") == {"OwnFilter.qs"}


def other_rows(self: Any, rows: Any, name: str, value: str) -> Any:
    return Patient.objects.filter(gender=value)


def no_row_twice(self: Any, rows: Any, name: str, value: str) -> Any:
    return rows.filter(gender=value).union(rows.filter(gender=value))


@pytest.mark.parametrize("method", [other_rows, no_row_twice])
def test_a_filter_that_answers_other_rows_than_it_was_given_is_followed(
    serve: Callable[..., None], as_alice: LoggedInClient, alice: User, method: Any
):
    make_patient(alice, name="Man", gender="M")
    make_patient(alice, name="Woman", gender="F")
    own: Any = type(
        "OwnFilter", (PatientFilter,), {"gender": django_filters.CharFilter(method="by_gender"), "by_gender": method}
    )
    serve(subclass(filterset_class=own))
    assert [patient["name"] for patient in as_alice.get("/api/patients/?gender=F").json()] == ["Woman"]


@pytest.mark.parametrize("field", [
    serializers.BigIntegerField(source="birth_year", coerce_to_string=True, read_only=True),
    serializers.PrimaryKeyRelatedField(source="created_by", pk_field=serializers.CharField(), read_only=True),
    serializers.ChoiceField(source="identifier", choices=[(1, "one")]),
], ids=["integer as text", "key as text", "choice of integers"])  # fmt: skip
def test_an_option_of_a_field_that_changes_its_representation_is_an_obstacle(field: serializers.Field):
    meta = type("Meta", (PatientSerializer.Meta,), {"fields": [*PatientSerializer.Meta.fields, "extra"]})
    serializer = type("OwnSerializer", (PatientSerializer,), {"extra": field, "Meta": meta})
    assert "OwnSerializer.extra" in members(subclass(serializer_class=serializer), "retrieve")


def test_a_uuid_in_another_format_is_an_obstacle():
    with isolate_apps("patients"):
        column = {"__module__": "patients.models", "extra": models.UUIDField()}
        model = type("Extra", (models.Model,), column)
        meta = type("Meta", (), {"model": model, "fields": ["extra"]})
        field = serializers.UUIDField(format="hex")
        serializer: Any = type("ExtraSerializer", (serializers.ModelSerializer,), {"Meta": meta, "extra": field})
        with pytest.raises(UnsupportedError, match="ExtraSerializer.extra"):
            record_as_json(serializer())


def masked(self: Any, *args: Any, **kwargs: Any) -> Any:
    return "***"


@pytest.mark.parametrize(
    ("kind", "name", "action"),
    [(views.APIView, "initial", "list"), (generics.GenericAPIView, "filter_queryset", "list"),
     (ReadsRecordedViewSet, "finalize_response", "retrieve"), (idempotency.IdempotentMixin, "initial", "create"),
     (PatientViewSet, "list", "list"), (serializers.Serializer, "to_representation", "retrieve"),
     (serializers.ListSerializer, "to_representation", "list"), (models.Model, "save", "create"),
     (models.QuerySet, "_fetch_all", "list"), (serializers.CharField, "to_representation", "retrieve"),
     (api_fields.TextField, "to_representation", "list"), (models.CharField, "from_db_value", "retrieve"),
     (api_fields.WholeNumberField, "get_attribute", "list"), (IsAuthenticated, "has_permission", "list"),
     (pagination.KeysetPagination, "get_paginated_response", "list"),
     (SessionJWTAuthentication, "authenticate", "retrieve"), (api_fields.TextField, "get_value", "create")],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_a_patch_of_a_known_class_is_an_obstacle(monkeypatch: pytest.MonkeyPatch, kind: Any, name: str, action: str):
    """As `AppConfig.ready` of another app may patch it."""
    monkeypatch.setattr(kind, name, lambda self, *args, **kwargs: None, raising=False)
    assert members(PatientViewSet, action) >= {f"{kind.__name__}.{name}"}


@pytest.mark.parametrize("scope", [
    lambda owner: Patient.objects.owned_by(owner).filter(birth_year__lte=timezone.localdate().year - 18),
    lambda owner: Patient.objects.owned_by(owner).filter(identifier=datetime.date.today().isoformat()),
    lambda owner: Patient.objects.all() if getattr(owner, "is_staff", False) else Patient.objects.owned_by(owner),
    lambda owner: Patient.objects.all() if isinstance(owner, User) else Patient.objects.owned_by(owner),
    lambda owner: Patient.objects.owned_by(owner).using("replica"),
    lambda owner: Patient.objects.filter(pk__in=[*Patient.objects.values_list("pk", flat=True), 1]),
], ids=["year", "day", "role", "class", "database", "query"])  # fmt: skip
def test_a_scope_that_depends_on_more_than_the_id_of_the_owner_is_an_obstacle(db: None, scope: Any):
    assert members(subclass(scope=staticmethod(scope)), "list") == {"OwnViewSet.scope"}


def test_a_state_that_depends_on_the_clock_is_an_obstacle():
    def in_state(cls: Any, records: Any, action: Any) -> Any:
        return records.filter(created_at__lte=timezone.now())

    viewset = subclass(in_state=classmethod(in_state))
    for action in ("list", "retrieve", "partial_update"):
        assert members(viewset, action) == {"OwnViewSet.in_state"}


def test_a_scope_of_parents_that_depends_on_the_clock_is_an_obstacle():
    def parent_scope(owner: Any) -> Any:
        return Patient.objects.owned_by(owner).filter(created_at__lte=timezone.now())

    viewset = subclass(PatientDoctorsViewSet, parent_scope=staticmethod(parent_scope))
    assert members(viewset, "list") == {"OwnViewSet.parent_scope"}


def test_a_scope_of_histories_that_depends_on_the_clock_is_an_obstacle():
    def history_scope(cls: Any, owner: Any) -> Any:
        return Patient.objects.owned_by(owner).filter(created_at__lte=timezone.now())

    viewset = subclass(history_scope=classmethod(history_scope))
    assert members(viewset, "history", {"get": "history"}) == {"OwnViewSet.history_scope"}


class MaskingDoctorSerializer(PatientDoctorSerializer):
    def to_representation(self, instance: Any) -> Any:
        return super().to_representation(instance) | {"phone": "***"}


def inclusion(**changes: Any) -> dict[str, Inclusion]:
    return {"doctors": Inclusion(**(vars(DOCTORS_INCLUSION) | changes))}


def test_an_included_record_is_masked_by_its_serializer(
    serve: Callable[..., None], as_alice: LoggedInClient, alice: User
):
    make_mapping(make_patient(alice), make_doctor(alice, phone="1"))
    viewset = subclass(
        inclusions=inclusion(
            serializer=MaskingDoctorSerializer,
            field=lambda: MaskingDoctorSerializer(source="treated_by", many=True, read_only=True),
        )
    )
    serve(viewset)
    assert as_alice.get("/api/patients/?include=doctors").json()[0]["doctors"][0]["phone"] == "***"
    assert members(viewset, "list") == {"MaskingDoctorSerializer.to_representation"}


@pytest.mark.parametrize("model", [Doctor, PatientEvent], ids=["related", "event"])
def test_receivers_hear_of_related_records_and_events(as_alice: LoggedInClient, alice: User, model: Any):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    kind = "doctors" if model is Doctor else "history"
    heard: list[Any] = []

    def hear(**_: Any) -> None:
        heard.append(model)

    post_init.connect(hear, sender=model)
    try:
        for query in ("", "?include=doctors"):
            end = f"{mapping.patient_id}/{kind}/" if not query else query if model is Doctor else None
            if end is not None:
                heard.clear()
                assert as_alice.get(f"/api/patients/{end}").status_code == 200
                assert heard
    finally:
        post_init.disconnect(hear, sender=model)


def test_an_overridden_member_of_a_related_model_is_an_obstacle(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Doctor, "from_db", classmethod(lambda *args: None), raising=False)
    assert members(PatientDoctorsViewSet, "list") == {"Doctor.from_db"}
    assert members(PatientViewSet, "list") == {"Doctor.from_db"}


def test_the_key_is_the_one_that_the_path_names(serve: Callable[..., None], as_alice: LoggedInClient, alice: User):
    first, second = make_patient(alice, name="First"), make_patient(alice, name="Second")
    serve(PatientViewSet, detail="api/clinics/<int:clinic>/patients/<int:pk>/")
    url = f"/api/clinics/{first.pk}/patients/{second.pk}/"
    assert as_alice.get(url).json()["name"] == "Second"
    assert as_alice.patch(url, {"name": "New"}).json()["id"] == second.pk


def test_an_id_that_is_a_text_is_found(serve: Callable[..., None], as_alice: LoggedInClient, alice: User):
    patient = make_patient(alice)
    serve(PatientViewSet, detail="api/patients/<str:pk>/")
    assert as_alice.get(f"/api/patients/{patient.pk}/").status_code == 200
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"}).status_code == 200


@pytest.mark.parametrize("actions", [{"put": "partial_update"}, {"post": "list"}, {"get": "create"}], ids=str)
def test_an_action_of_another_method_is_standard(actions: dict[str, str]):
    assert not FastActions(PatientViewSet, actions, {}).by_method


def test_a_successor_of_another_kind_is_an_obstacle():
    viewset = subclass(successor=lambda self: "/api/patients/1/")
    assert members(viewset, "retrieve") == {"OwnViewSet.successor"}
    assert members(viewset, "list") == set()


def test_a_selection_of_fields_by_the_class_is_an_obstacle():
    viewset = subclass(field_selection=FieldSelection(frozenset({"id", "name"})))
    assert members(viewset, "retrieve") == {"OwnViewSet.field_selection"}


class NumberedIdentifier(api_fields.TextField):
    """Gives a value where the body has none."""

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return (True, "1") if data is serializers.empty else super().validate_empty_values(data)


def test_a_field_of_an_unknown_class_that_is_only_written_is_an_obstacle(
    serve: Callable[..., None], as_alice: LoggedInClient
):
    serializer = type(
        "OwnSerializer", (PatientSerializer,), {"identifier": NumberedIdentifier(write_only=True, required=False)}
    )
    viewset = subclass(serializer_class=serializer)
    serve(viewset)
    assert as_alice.post("/api/patients/", {"name": "New"}).status_code == 201
    assert Patient.objects.get().identifier == "1"
    assert members(viewset, "create") == {"OwnSerializer.identifier"}


class RememberingSerializer(PatientSerializer):
    """Keeps what one field says on itself, for the validation of the whole."""

    def validate_address(self, address: str) -> str:
        if address == "secret":
            self.seen = address
        return address

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return super().validate(attrs) | {"identifier": getattr(self, "seen", "")}


def test_nothing_of_one_request_reaches_the_validation_of_another(serve: Callable[..., None], as_alice: LoggedInClient):
    serve(subclass(serializer_class=RememberingSerializer))
    for address, identifier in (("secret", "secret"), ("public", "")):
        answer = as_alice.post("/api/patients/", {"name": "New", "address": address})
        assert (answer.status_code, answer.json()["identifier"]) == (201, identifier)


class RefusingSerializer(PatientSerializer):
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        raise PermissionDenied


def test_a_validation_that_refuses_gives_the_answer_of_drf(serve: Callable[..., None], as_alice: LoggedInClient):
    serve(subclass(serializer_class=RefusingSerializer))
    answer = as_alice.post("/api/patients/", {"name": "New"})
    assert (answer.status_code, path_of(answer)) == (403, "standard")
    assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_an_anonymous_caller_of_an_open_view_leaves_no_access(
    serve: Callable[..., None], anonymous: APIClient, alice: User
):
    patient = make_patient(alice)
    serve(PatientViewSet, permission_classes=[AllowAny])
    assert anonymous.get("/api/patients/").json() == []
    assert anonymous.get(f"/api/patients/{patient.pk}/").status_code == 404
    assert not AccessLog.objects.exists()


def activate_time_zone(get_response: Any) -> Any:
    """As Django's documentation has it: each user's own time zone."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with timezone.override("Asia/Kolkata"):
            response: HttpResponse = get_response(request)
            return response

    return middleware


def test_times_are_written_in_utc_whatever_the_active_time_zone(settings: Any, as_alice: LoggedInClient, alice: User):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.activate_time_zone"]
    patient = make_patient(alice)
    assert as_alice.get(f"/api/patients/{patient.pk}/").json()["created_at"].endswith("Z")
    assert as_alice.get("/api/patients/").json()[0]["created_at"].endswith("Z")
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"}).json()["created_at"].endswith("Z")


class AnnotatingMiddleware:
    """Changes the data of an answer before DRF renders it."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        response.data = {"data": response.data}
        return response


def test_a_middleware_of_unrendered_answers_sees_every_answer(
    serve: Callable[..., None], settings: Any, as_alice: LoggedInClient, alice: User
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.AnnotatingMiddleware"]
    serve(PatientViewSet)
    make_patient(alice)
    assert [*as_alice.get("/api/patients/").json()] == ["data"]


def test_a_column_that_python_reads_otherwise_is_an_obstacle(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Patient, "phone", property(masked))
    assert members(PatientViewSet, "retrieve") == {"PatientSerializer.phone"}


class ReplicaRouter:
    def db_for_read(self, model: Any, **_: Any) -> str:
        return "default"


def test_a_database_router_is_an_obstacle(settings: Any):
    settings.DATABASE_ROUTERS = [f"{__name__}.ReplicaRouter"]
    assert members(PatientViewSet, "list") >= {"DATABASE_ROUTERS"}
