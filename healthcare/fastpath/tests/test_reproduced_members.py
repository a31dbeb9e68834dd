"""Answers, state between requests, columns, managers and fields that a developer changes: the same with FAST_PATH=on as
off."""

import datetime
from typing import Any

import django_filters
import pytest
from django.core.cache import cache
from django.db import models, transaction
from django.db.models import Value
from django.db.models.functions import Upper
from django.http import HttpRequest
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import cache_page
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.gzip import gzip_page
from rest_framework import renderers, serializers
from rest_framework.mixins import CreateModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import create_token
from conftest import LoggedInClient
from doctors.serializers import DoctorSerializer
from doctors.tests.factories import make_doctor
from doctors.views import DoctorViewSet
from healthcare.api import fields
from healthcare.api.pagination import KeysetPagination
from healthcare.api.sparse_fieldsets import Inclusion
from healthcare.fastpath.tests.conftest import Both, Serve
from healthcare.fastpath.tests.test_same_answers import PHONE, MaskingIterable, Respond, subclass
from mappings.inclusions import DOCTORS_INCLUSION
from mappings.serializers import PatientDoctorSerializer
from mappings.tests.factories import make_mapping
from mappings.views import PatientDoctorsViewSet
from patients.filters import PatientFilter
from patients.models import Patient
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db


def serializer(**members: Any) -> Any:
    return type("OwnSerializer", (PatientSerializer,), members)


def validating(values: dict[str, Any]) -> Any:
    """A serializer whose validation adds these values."""
    return serializer(validate=lambda self, attrs: PatientSerializer.validate(self, attrs) | values)


# Fields


class MaskedAge(serializers.IntegerField):
    def to_representation(self, value: Any) -> Any:
        return value // 100


class OwnMeta(type(PatientSerializer)):  # type: ignore[misc]
    def __call__(cls, *given: Any, **options: Any) -> Any:
        made = super().__call__(*given, **options)
        if "request" in options.get("context", {}) and not hasattr(made, "child"):
            made.fields.pop("phone")
        return made


LONG_NAME = "the_name_of_the_patient_as_it_is_written_in_the_register_of_the_clinic"


@pytest.mark.parametrize(
    "kind",
    [
        serializer(age=MaskedAge(read_only=True)),
        OwnMeta("OwnSerializer", (PatientSerializer,), {}),
        type(
            "OwnSerializer",
            (PatientSerializer,),
            {
                LONG_NAME: fields.TextField(source="name", read_only=True),
                "Meta": type("Meta", (PatientSerializer.Meta,), {"fields": ["id", LONG_NAME]}),
            },
        ),
    ],
    ids=["field of a derived value", "metaclass", "long name"],
)
def test_a_serializer_represents_a_record_in_its_own_way(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, kind: Any
):
    patient = make_patient(alice, birth_year=1980, phone=PHONE)
    serve(subclass(serializer_class=kind))
    standard, fast = both(lambda: as_alice.get(f"/api/patients/{patient.pk}/").json())
    assert fast == standard


def test_the_id_in_a_nested_list_is_masked(both: Both, as_alice: LoggedInClient, alice: User, settings: Any):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    masked = type("OwnSerializer", (PatientDoctorSerializer,), {"mapping": MaskedAge(read_only=True)})
    view: Any = type("OwnViewSet", (PatientDoctorsViewSet,), {"serializer_class": masked})
    settings.ROOT_URLCONF = (path("api/patients/<int:pk>/doctors/", view.as_view({"get": "list"})),)
    standard, fast = both(lambda: as_alice.get(f"/api/patients/{mapping.patient_id}/doctors/").json())
    assert fast == standard


class MaskingList(serializers.ListSerializer):
    def to_representation(self, data: Any) -> Any:
        return [record | {"phone": "***"} for record in super().to_representation(data)]


def masked_list() -> Any:
    return MaskingList(child=PatientDoctorSerializer(), source="treated_by", read_only=True)


def fetch_masked(patients: list[Any]) -> None:
    DOCTORS_INCLUSION.fetch(patients)
    for patient in patients:
        for doctor in patient.treated_by:
            doctor.phone = "***"


@pytest.mark.parametrize("members", [{"field": masked_list}, {"fetch": fetch_masked}], ids=["list", "fetch"])
def test_an_inclusion_masks_a_field(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, members: dict[str, Any]
):
    make_mapping(make_patient(alice), make_doctor(alice, phone=PHONE))
    serve(subclass(inclusions={"doctors": Inclusion(**(vars(DOCTORS_INCLUSION) | members))}))
    pair = both(lambda: as_alice.get("/api/patients/?include=doctors").json()[0]["doctors"][0]["phone"])
    assert pair == ("***", "***")


# Attributes and columns


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (fields.DateField, "format", "%d.%m.%Y"),
        (renderers.JSONRenderer, "ensure_ascii", True),
        (KeysetPagination, "key", "identifier"),
    ],
)
def test_an_attribute_of_a_class_is_changed(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch, kind: Any,
    name: str, value: Any,
):  # fmt: skip
    make_patient(alice, name="Zoë", identifier="2", birth_date=datetime.date(1980, 2, 3))
    make_patient(alice, name="Bob", identifier="1")
    monkeypatch.setattr(kind, name, value, raising=False)
    serve(subclass())
    standard, fast = both(lambda: as_alice.get("/api/patients/").content)
    assert fast == standard


def test_a_column_masks_what_it_reads(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    patient = make_patient(alice, phone=PHONE)
    monkeypatch.setattr(Patient._meta.get_field("phone"), "from_db_value", lambda value, *_: "***", raising=False)
    serve(subclass())
    assert both(lambda: as_alice.get(f"/api/patients/{patient.pk}/").json()["phone"]) == ("***", "***")


def stored(client: LoggedInClient, name: str) -> Any:
    created = client.post("/api/patients/", {"name": "New"}).json()
    return Patient.objects.filter(pk=created["id"]).values_list(name, flat=True)[0]


def test_a_column_makes_its_own_value(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Patient._meta.get_field("identifier"), "pre_save", lambda record, add: "made")
    serve(subclass())
    assert both(lambda: stored(as_alice, "identifier")) == ("made", "made")


def test_a_manager_creates_in_its_own_way(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    def create(manager: Any, **values: Any) -> Any:
        return models.Manager.create(manager, **values | {"identifier": "made"})

    monkeypatch.setattr(type(Patient.objects), "create", create, raising=False)
    serve(subclass())
    assert both(lambda: stored(as_alice, "identifier")) == ("made", "made")


@pytest.mark.parametrize(("name", "value"), [("fhir", "kept"), ("identifier", Upper(Value("made")))])
def test_a_validation_gives_values_that_no_client_can(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, name: str, value: Any
):
    """A column with a default of the database, and an expression."""
    serve(subclass(serializer_class=validating({name: value})))
    standard, fast = both(lambda: stored(as_alice, name))
    assert fast == standard != ""


def test_a_record_completes_a_column_with_a_default_of_the_database(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Patient, "complete", lambda record: setattr(record, "fhir", "kept"))
    serve(subclass())
    assert both(lambda: stored(as_alice, "fhir")) == ("kept", "kept")


# Members of another registered class


@pytest.mark.parametrize(
    "members",
    [{"finalize_response": APIView.finalize_response}, {"perform_create": CreateModelMixin.perform_create}],
    ids=["finalize_response", "perform_create"],
)
def test_a_view_takes_a_member_of_a_class_below(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, members: dict[str, Any]
):
    serve(subclass(**members))
    as_alice.raise_request_exception = False

    def call() -> Any:
        answer = as_alice.post("/api/patients/", {"name": "New"})
        return answer.status_code, "ETag" in answer.headers

    standard, fast = both(call)
    assert fast == standard


# Filters


class MaskingFilter(PatientFilter):
    gender: Any = django_filters.CharFilter(method="by_gender")

    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        return rows.extra(select={"phone": "'***'"})


class ReversingFilter(MaskingFilter):
    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        return rows.reverse()


class IteratingFilter(MaskingFilter):
    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        rows = rows.filter(gender=value)
        rows._iterable_class = MaskingIterable
        return rows


class StaffFilter(MaskingFilter):
    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        if isinstance(self.request, Request) and not self.request.user.is_staff:
            rows = rows.filter(deceased=False)
        return rows


class NamedFilter(MaskingFilter):
    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        return rows if "identifier" in self.filters else rows.filter(identifier="")


@pytest.mark.parametrize("kind", [MaskingFilter, ReversingFilter, IteratingFilter, StaffFilter, NamedFilter])
def test_a_filter_changes_more_than_conditions(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, kind: Any
):
    make_patient(alice, name="A", gender="F", phone=PHONE, identifier="7", deceased=True)
    make_patient(alice, name="B", gender="F", phone=PHONE)
    serve(subclass(filterset_class=kind))
    standard, fast = both(lambda: as_alice.get("/api/patients/?gender=F&fields=name,phone").json())
    assert fast == standard


# State that a request leaves for the next one


def test_a_validation_leaves_nothing_on_the_record_for_another_caller(
    serve: Serve, both: Both, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User
):
    def validate(self: Any, attrs: Any) -> Any:
        if attrs.get("address", "").startswith("secret"):
            self.instance.seen = attrs["address"]
        return PatientSerializer.validate(self, attrs) | {"identifier": getattr(self.instance, "seen", "")}

    of_alice, of_bob = make_patient(alice), make_patient(bob)
    serve(subclass(serializer_class=serializer(validate=validate)))

    def call() -> Any:
        as_alice.patch(f"/api/patients/{of_alice.pk}/", {"address": "secret of alice"})
        return as_bob.patch(f"/api/patients/{of_bob.pk}/", {"address": "public"}).json()["identifier"]

    assert both(call) == ("", "")


def public_doctors(get_response: Respond) -> Respond:
    """Middleware that chooses other URLs for some requests."""
    public = type("Public", (DoctorSerializer,), {"Meta": type("Meta", (DoctorSerializer.Meta,), {"fields": ["name"]})})
    urls = (path("api/doctors/", subclass(DoctorViewSet, serializer_class=public).as_view({"get": "list"})),)

    def middleware(request: HttpRequest) -> Any:
        if "X-Public" in request.headers:
            request.urlconf = urls  # type: ignore[assignment]
        return get_response(request)

    return middleware


def next_doctor(get_response: Respond) -> Any:
    """Middleware that changes what the path has captured."""

    class NextDoctor:
        def __call__(self, request: HttpRequest) -> Any:
            return get_response(request)

        def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: dict[str, Any]) -> None:
            kwargs["pk"] += 1 if "X-Public" in request.headers else 0

    return NextDoctor()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "place"), [("public_doctors", ""), ("next_doctor", "{}/")])
def test_middleware_chooses_what_a_public_answer_is_of(
    serve: Serve, both: Both, client: Any, alice: User, settings: Any, name: str, place: str
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{name}"]
    url = f"/api/doctors/{place}".format(make_doctor(alice, name="A", phone=PHONE).pk)
    make_doctor(alice, name="B")
    serve(subclass(DoctorViewSet), "doctors")

    def call() -> Any:
        return [client.get(url).json(), client.get(url).json(), client.get(url, headers={"X-Public": "1"}).json()]

    standard, fast = both(call)
    assert fast == standard


# Answers


def mask_response(get_response: Respond) -> Any:
    """Middleware that changes DRF's answers before they are rendered."""

    class MaskResponse:
        def __call__(self, request: HttpRequest) -> Any:
            return get_response(request)

        def process_template_response(self, request: HttpRequest, response: Any) -> Any:
            if isinstance(response, Response) and isinstance(response.data, dict) and "phone" in response.data:
                assert response.data.serializer is not None  # type: ignore[attr-defined]
                response.data["phone"] = "***"
            return response

    return MaskResponse()


def render_again(get_response: Respond) -> Any:
    """Middleware that sets a renderer and a type of its own."""

    class Indented(renderers.JSONRenderer):
        def render(self, data: Any, *rest: Any) -> bytes:
            return super().render({"data": data}, *rest)

    class RenderAgain:
        def __call__(self, request: HttpRequest) -> Any:
            return get_response(request)

        def process_template_response(self, request: HttpRequest, response: Any) -> Any:
            response.content_type = "application/vnd.example+json"
            if response.status_code == 200:
                response.accepted_renderer = Indented()
            return response

    return RenderAgain()


def describe(get_response: Respond) -> Respond:
    """Middleware that reads how an answer was made, and by whom."""

    def middleware(request: HttpRequest) -> Any:
        response: Any = get_response(request)
        user: Any = request.user
        view = response.renderer_context["view"] if response.status_code == 200 else None
        seen = [
            response.exception, response.is_rendered, response.accepted_media_type, user.is_authenticated,
            view and [view.action, view.kwargs, view.request.user.pk],
        ]  # fmt: skip
        response.headers["X-Seen"] = str(seen)
        return response

    return middleware


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["mask_response", "render_again", "describe"])
def test_middleware_works_on_answers_of_drf(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, settings: Any, name: str
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{name}"]
    url = f"/api/patients/{make_patient(alice, phone=PHONE).pk}/"
    serve(subclass())

    def call() -> Any:
        LoginSession.objects.update(revoked_at=None)
        answers = [as_alice.get(url), as_alice.get("/api/patients/9999999/"), APIClient().get(url)]
        LoginSession.objects.update(revoked_at=timezone.now())
        answers.append(as_alice.get(url))
        LoginSession.objects.update(revoked_at=None)
        answers.append(as_alice.get(url, headers={"If-None-Match": answers[0].headers["ETag"]}))
        return [
            (one.status_code, one.content[:60] if one.status_code < 400 else b"", one.headers.get("X-Seen"),
             one.headers.get("Content-Type"), isinstance(one, Response))
            for one in answers
        ]  # fmt: skip

    standard, fast = both(call)
    assert fast == standard


@pytest.mark.parametrize("decorator", [gzip_page, csrf_protect, cache_page(60)], ids=["gzip", "csrf", "cache"])
def test_a_decorator_of_django_takes_an_answer(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, decorator: Any
):
    patient = make_patient(alice, phone=PHONE)
    serve(subclass(), around=decorator)

    def call() -> Any:
        cache.clear()
        urls = [f"/api/patients/{patient.pk}/", f"/api/patients/{patient.pk}/", "/api/patients/9999999/"]
        answers = [as_alice.get(url, headers={"Accept-Encoding": "gzip"}) for url in urls]
        return [(one.status_code, one.headers.get("Content-Encoding"), one.headers["Cache-Control"]) for one in answers]

    standard, fast = both(call)
    assert fast == standard


# Effects


@pytest.mark.django_db(transaction=True)
def test_a_validation_has_something_done_after_the_commit(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User
):
    done: list[str] = []

    def validate_identifier(self: Any, text: str) -> str:
        transaction.on_commit(lambda: done.append(text))
        return text

    serve(subclass(serializer_class=serializer(validate_identifier=validate_identifier)))

    def call() -> Any:
        done.clear()
        missing = as_alice.patch("/api/patients/9999999/", {"identifier": "1"})
        invalid = as_alice.post("/api/patients/", {"identifier": "2"})
        created = as_alice.post("/api/patients/", {"name": "New", "identifier": "3"})
        return missing.status_code, invalid.status_code, created.status_code, [*done]

    assert both(call) == ((404, 400, 201, ["3"]),) * 2


def test_a_validation_counts_the_fields(serve: Serve, both: Both, as_alice: LoggedInClient, alice: User):
    def validate(self: Any, attrs: Any) -> Any:
        absent = sum(one.field_name not in attrs for one in self.fields.values())
        return PatientSerializer.validate(self, attrs) | {"identifier": str(absent)}

    serve(subclass(serializer_class=serializer(validate=validate)))
    standard, fast = both(lambda: stored(as_alice, "identifier"))
    assert fast == standard


@pytest.mark.django_db(transaction=True)
def test_a_view_that_no_token_may_write_by(serve: Serve, both: Both, alice: User):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(alice, name='Export', scope='write').text}")
    serve(subclass(writable_by_tokens=False))

    def call() -> Any:
        client.get("/api/patients/")  # so that the token is known
        return client.post("/api/patients/", {"name": "New"}).status_code, Patient.objects.count()

    assert both(call) == ((403, 0), (403, 0))
