"""What a developer adds to a view, model, serializer or middleware has the same effect with FAST_PATH=on as off."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import django_filters
import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.db.models import Q
from django.db.models.query import ModelIterable
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.models import LoginSession, User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from doctors.views import DoctorViewSet
from healthcare.fastpath.tests.conftest import Both, Serve
from patients.filters import PatientFilter
from patients.models import Patient
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

PHONE = "+91 80 5550 0100"
Respond = Callable[[HttpRequest], HttpResponse]


def subclass(base: Any = PatientViewSet, **members: Any) -> Any:
    return type("OwnViewSet", (base,), members)


def doctors_of(owner: Any) -> Any:
    return Doctor.objects.filter(created_by_id=owner if hasattr(owner, "resolve_expression") else owner.pk)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "scope",
    [doctors_of, lambda owner: Doctor.objects.filter(Q(mappings__isnull=True) | Q(mappings__created_by_id__gt=0))],
    ids=["owner", "other table"],
)
def test_an_answer_that_depends_on_more_than_its_table_is_not_cached(
    serve: Serve, both: Both, as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, scope: Any
):
    make_doctor(alice)
    serve(subclass(DoctorViewSet, scope=staticmethod(scope)), "doctors")

    def call() -> Any:
        as_alice.get("/api/doctors/")
        return as_bob.get("/api/doctors/").json()

    standard, fast = both(call)
    assert fast == standard


class RememberingFilter(PatientFilter):
    birth_date_after: Any = django_filters.CharFilter(method="keep")
    gender: Any = django_filters.CharFilter(method="by_gender")

    def keep(self, rows: Any, name: str, value: str) -> Any:
        self.seen = value
        return rows

    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        return rows.exclude(gender=value) if getattr(self, "seen", "") == "not" else rows.filter(gender=value)


class FilterOfTwo(PatientFilter):
    data: Any
    gender: Any = django_filters.CharFilter(method="by_gender")
    identifier: Any = django_filters.CharFilter(method="keep")

    def keep(self, rows: Any, name: str, value: str) -> Any:
        return rows

    def by_gender(self, rows: Any, name: str, value: str) -> Any:
        return rows.exclude(gender=value) if self.data.get("identifier") == "not" else rows.filter(gender=value)


@pytest.mark.parametrize(
    ("filterset", "before"),
    [(RememberingFilter, "birth_date_after=not&gender=M"), (FilterOfTwo, "gender=F"), (FilterOfTwo, "")],
)
def test_a_filter_reads_the_parameters_of_its_own_request(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, filterset: Any, before: str
):
    make_patient(alice, name="M", gender="M")
    make_patient(alice, name="F", gender="F")
    serve(subclass(filterset_class=filterset))

    def call() -> Any:
        as_alice.get(f"/api/patients/?{before}")
        other = "&identifier=not" if filterset is FilterOfTwo else ""
        return as_alice.get(f"/api/patients/?gender=M{other}&fields=name").json()

    standard, fast = both(call)
    assert fast == standard


def test_a_proxy_model_masks_a_field(serve: Serve, both: Both, as_alice: LoggedInClient, alice: User):
    make_patient(alice, phone=PHONE)
    masked = property(lambda self: "***", lambda self, value: None)
    meta = type("Meta", (), {"proxy": True, "app_label": "patients"})
    proxy: Any = type("MaskedPatient", (Patient,), {"__module__": "patients.models", "phone": masked, "Meta": meta})
    try:
        serve(subclass(queryset=proxy.objects.none(), scope=staticmethod(lambda owner: proxy.objects.owned_by(owner))))
        assert both(lambda: as_alice.get("/api/patients/?fields=phone").json()) == ([{"phone": "***"}],) * 2
    finally:
        del apps.all_models["patients"]["maskedpatient"]
        apps.clear_cache()


class MaskingIterable(ModelIterable):
    def __iter__(self) -> Iterator[Any]:
        for row in super().__iter__():
            row.phone = "***"
            yield row


def own_iterable(owner: Any) -> Any:
    rows = Patient.objects.owned_by(owner)
    rows._iterable_class = MaskingIterable
    return rows


SCOPES: dict[str, Any] = {
    "iterable": own_iterable,
    "extra": lambda owner: Patient.objects.owned_by(owner).extra(select={"phone": "'***'"}),
    "reverse": lambda owner: Patient.objects.owned_by(owner).reverse(),
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=[*SCOPES])
def test_a_queryset_masks_or_reverses_its_rows(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, scope: Any
):
    make_patient(alice, name="A", phone=PHONE)
    make_patient(alice, name="B", phone=PHONE)
    serve(subclass(scope=staticmethod(scope)))
    standard, fast = both(lambda: as_alice.get("/api/patients/?fields=name,phone&limit=1").json())
    assert fast == standard


def test_a_model_changes_what_its_attributes_are_set_to(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: Any
):
    patient = make_patient(alice, name="low")

    def set_attribute(self: Any, name: str, value: Any) -> None:
        object.__setattr__(self, name, value.upper() if name == "name" and isinstance(value, str) else value)

    monkeypatch.setattr(Patient, "__setattr__", set_attribute, raising=False)
    serve(subclass())
    assert both(lambda: as_alice.get(f"/api/patients/{patient.pk}/").json()["name"]) == ("LOW", "LOW")


def mask_data(get_response: Respond) -> Respond:
    """Middleware that changes the data of an answer and renders it again."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: Any = get_response(request)
        if isinstance(getattr(response, "data", None), dict) and "phone" in response.data:
            response.data["phone"] = "***"
            response._is_rendered = False
            response.render()
        return response  # type: ignore[no-any-return]

    return middleware


def wrap_data(get_response: Respond) -> Any:
    """Middleware, made by a function, that changes the data of an answer before it is rendered."""

    class WrapData:
        def __call__(self, request: HttpRequest) -> HttpResponse:
            return get_response(request)

        def process_template_response(self, request: HttpRequest, response: Any) -> Any:
            response.data = {"data": response.data}
            return response

    return WrapData()


def name_session(get_response: Respond) -> Respond:
    """Middleware that reads the session by which a request was authenticated."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        session: Any = getattr(request, "auth", None)
        response.headers["X-Session"] = f"{session.pk} {session.kind}" if isinstance(session, LoginSession) else "none"
        return response

    return middleware


def send_as_text(get_response: Respond) -> Respond:
    """Middleware that states another type of a body."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            request.META["CONTENT_TYPE"] = "text/plain"
        return get_response(request)

    return middleware


def shape(problem: Any) -> Any:
    """The body of an error, but for the id of its request."""
    body = problem.json()
    body.get("data", body).pop("request_id")
    return body


@pytest.mark.parametrize("name", ["mask_data", "wrap_data", "name_session", "send_as_text"])
def test_middleware_works_on_request_and_answer(
    serve: Serve, both: Both, settings: Any, as_alice: LoggedInClient, client: Any, alice: User, name: str
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{name}"]
    patient = make_patient(alice, phone=PHONE)
    serve(subclass())

    def call() -> Any:
        read = as_alice.get(f"/api/patients/{patient.pk}/")
        created = as_alice.post("/api/patients/", {"name": "New"})
        anonymous = client.get(f"/api/patients/{patient.pk}/")
        missing = as_alice.get("/api/patients/999999/")
        unchanged = as_alice.get(f"/api/patients/{patient.pk}/", headers={"If-None-Match": "*"})
        return [
            (missing.status_code, missing.headers["Content-Type"], shape(missing)),
            (anonymous.headers["Content-Type"], shape(anonymous)),
            (unchanged.status_code, unchanged.content),
            (read.json(), read.headers.get("X-Session")),
            (created.status_code, created.headers.get("X-Session")),
            (anonymous.status_code, anonymous.headers.get("X-Session")),
        ]

    standard, fast = both(call)
    assert fast == standard


def test_a_decorator_removes_a_member(serve: Serve, both: Both, as_alice: LoggedInClient, alice: User):
    patient = make_patient(alice, phone=PHONE)

    def without_phone(view: Any) -> Any:
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            response = view(request, *args, **kwargs)
            response.data.pop("phone")
            return response

        return inner

    serve(subclass(), around=without_phone)
    standard, fast = both(lambda: as_alice.get(f"/api/patients/{patient.pk}/").json())
    assert fast == standard
    assert "phone" not in fast


@pytest.mark.django_db(transaction=True)
def test_a_model_that_completes_itself_queries_as_the_caller(
    serve: Serve, both: Both, as_alice: LoggedInClient, bob: User, monkeypatch: Any
):
    make_patient(bob)

    def complete(self: Any) -> None:
        self.identifier = str(Patient.objects.exclude(name="New").count())

    serve(subclass())
    monkeypatch.setattr(Patient, "complete", complete)
    assert both(lambda: as_alice.post("/api/patients/", {"name": "New"}).json()["identifier"]) == ("0", "0")


CONDITIONS: dict[str, Callable[[Any], Any]] = {
    "initial_data": lambda serializer: "phone" in serializer.initial_data,
    "fields": lambda serializer: "address" in serializer.fields,
    "number of fields": lambda serializer: len(serializer.fields) > 10,
    "instance": lambda serializer: isinstance(serializer.instance, Patient),
    "truth of the instance": lambda serializer: bool(serializer.instance),
    "context": lambda serializer: isinstance(serializer.context, dict),
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=[*CONDITIONS])
def test_a_validation_finds_what_standard_drf_gives_it(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, condition: Callable[[Any], Any]
):
    patient = make_patient(alice)

    class OwnSerializer(PatientSerializer):
        def validate(self, attrs: Any) -> Any:
            return super().validate(attrs) | {"identifier": str(bool(condition(self)))}

    serve(subclass(serializer_class=OwnSerializer))
    body = {"name": "New", "phone": "12345"}
    standard, fast = both(
        lambda: [
            as_alice.post("/api/patients/", body).json()["identifier"],
            as_alice.patch(f"/api/patients/{patient.pk}/", body).json()["identifier"],
        ]
    )
    assert fast == standard


FLAG: ContextVar[bool] = ContextVar("flag", default=False)
CHANGING_SCOPES: dict[str, Any] = {
    "branch": lambda owner: (
        Patient.objects.owned_by(owner).filter(deceased=False) if FLAG.get() else Patient.objects.owned_by(owner)
    ),
    "value": lambda owner: Patient.objects.owned_by(owner).filter(deceased=FLAG.get()),
    "clock": lambda owner: (
        Patient.objects.owned_by(owner)
        if timezone.now().year < 2000
        else Patient.objects.owned_by(owner).filter(deceased=False)
    ),
}


@pytest.mark.parametrize("scope", CHANGING_SCOPES.values(), ids=[*CHANGING_SCOPES])
def test_a_scope_that_changes_while_the_process_runs_is_evaluated_for_each_request(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User, monkeypatch: Any, scope: Any
):
    make_patient(alice, name="Dead", deceased=True)
    make_patient(alice, name="Alive", deceased=False)
    serve(subclass(scope=staticmethod(scope)))
    real = timezone.now

    def call() -> Any:
        found = []
        for flag in (False, True):
            token = FLAG.set(flag)
            monkeypatch.setattr(timezone, "now", (lambda: real().replace(year=1999)) if flag else real)
            found.append(as_alice.get("/api/patients/?fields=name").json())
            FLAG.reset(token)
        monkeypatch.setattr(timezone, "now", real)
        return found

    standard, fast = both(call)
    assert fast == standard


class ShortSerializer(PatientSerializer):
    class Meta(PatientSerializer.Meta):
        fields = ["id", "name"]


class ShortestSerializer(PatientSerializer):
    class Meta(PatientSerializer.Meta):
        fields = ["id"]


def test_the_serializer_of_an_action_comes_before_that_of_as_view(
    serve: Serve, both: Both, as_alice: LoggedInClient, alice: User
):
    make_patient(alice)
    serve(subclass(serializer_classes={"list": ShortSerializer}), serializer_class=ShortestSerializer)
    assert both(lambda: [*as_alice.get("/api/patients/").json()[0]]) == (["id", "name"], ["id", "name"])


def test_method_names_that_only_an_instance_has(serve: Serve, both: Both, as_alice: LoggedInClient, alice: User):
    serve(subclass(http_method_names=property(lambda self: ["get"])))
    assert both(lambda: as_alice.get("/api/patients/").status_code) == (200, 200)


PATCHED_BEFORE = """
import django
from rest_framework import fields, mixins, serializers

def masked(self, *arguments):
    return original(self, *arguments)

original = {kind}.{name}
{kind}.{name} = masked
django.setup()
from healthcare.fastpath.views import fast_views
print(*sorted({{obstacle.member for one in fast_views() for found in one.obstacles.values() for obstacle in found}}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("serializers.Serializer", "to_representation"),
        ("mixins.CreateModelMixin", "create"),
        ("fields.DateField", "to_representation"),
    ],
)
def test_what_another_package_has_patched_into_a_library_before_the_project_is_imported(kind: str, name: str):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "healthcare.settings",
        "DEBUG": "True",
        "SECRET_KEY": "x" * 50,
    }
    ran = subprocess.run(
        [sys.executable, "-c", PATCHED_BEFORE.format(kind=kind, name=name)],
        env=environment, cwd=django_settings.BASE_DIR, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{kind.partition('.')[2]}.{name}" in ran.stdout.split()
