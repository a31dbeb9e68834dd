"""The fast path checks the delegation and the role in its statement, by itself and beside row-level security."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import path

from accounts.authentication import known_owners
from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from audit.models import AccessLog
from conftest import LoggedInClient, logged_in
from doctors.views import DoctorViewSet
from healthcare import coverage
from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.views import FastActions
from healthcare.ownership import OwnedQuerySet
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

LIST, DETAIL = {"get": "list", "post": "create"}, {"get": "retrieve", "patch": "partial_update"}
ACTING = {"X-Acting-For": "alice"}


def serve(settings: Any, viewset: Any) -> None:
    """Serve a viewset that has compiled nothing yet at the paths of the patients."""
    known_parameters()
    settings.ROOT_URLCONF = (
        path("api/patients/", viewset.as_view(dict(LIST)), name="patient-list"),
        path("api/patients/<int:pk>/", viewset.as_view(dict(DETAIL)), name="patient-detail"),
    )


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


@pytest.fixture
def delegation(alice: User, bob: User) -> Delegation:
    return Delegation.objects.create(owner=alice, delegate=bob, role="write")


@pytest.fixture
def as_bob(bob: User, delegation: Delegation, patient: Patient) -> LoggedInClient:
    """Bob, who has acted for alice before."""
    client = logged_in(bob)
    assert client.get("/api/patients/", headers=ACTING).status_code == 200
    return client


def outcome(answer: Any) -> tuple[int, str]:
    return answer.status_code, getattr(answer.wsgi_request, "served_by", "standard")


@pytest.mark.parametrize("change", ["revoked", "session", "owner", "read"])
def test_a_statement_that_finds_no_delegation_writes_and_reads_nothing(
    as_bob: LoggedInClient, bob: User, patient: Patient, change: str
) -> None:
    if change == "revoked":
        Delegation.objects.all().delete()
    elif change == "session":
        LoginSession.objects.filter(user=bob).revoke()
    elif change == "owner":
        User.objects.filter(username="alice").update(is_active=False)
    else:
        Delegation.objects.update(role="read")
    before = AccessLog.objects.last()
    expected = (401 if change == "session" else 403, "standard")
    assert outcome(as_bob.patch(f"/api/patients/{patient.pk}/", {"name": "New"}, headers=ACTING)) == expected
    assert outcome(as_bob.post("/api/patients/", {"name": "New"}, headers=ACTING)) == expected
    if change != "read":
        assert outcome(as_bob.get(f"/api/patients/{patient.pk}/", headers=ACTING)) == expected
        assert outcome(as_bob.get("/api/patients/", headers=ACTING)) == expected
    assert [*Patient.objects.values_list("name", flat=True)] == ["John Smith"]
    # A refusal is recorded, but not that of a creation, nor that of a login that has ended.
    since = AccessLog.objects.filter(pk__gt=before.pk if before else 0)
    recorded = since.order_by("pk").values_list("action", "outcome")
    refused = {"session": [], "read": ["partial_update"]}.get(change, ["partial_update", "retrieve", "list"])
    assert [*recorded] == [(f"patient.{action}", 403) for action in refused]


def test_the_role_that_a_viewset_asks_for_holds_on_the_fast_path(
    settings: Any, as_bob: LoggedInClient, patient: Patient
) -> None:
    roles = {"retrieve": "manage", "create": "read", "partial_update": "manage"}
    serve(settings, type("StricterViewSet", (PatientViewSet,), {"action_roles": roles}))
    url = f"/api/patients/{patient.pk}/"
    assert outcome(as_bob.get(url, headers=ACTING)) == (403, "standard")
    assert outcome(as_bob.patch(url, {"name": "New"}, headers=ACTING)) == (403, "standard")
    assert outcome(as_bob.get("/api/patients/", headers=ACTING)) == (200, "fast")
    Delegation.objects.update(role="manage")
    assert outcome(as_bob.get(url, headers=ACTING)) == (200, "fast")
    assert outcome(as_bob.patch(url, {"name": "New"}, headers=ACTING)) == (200, "fast")


def test_a_viewset_that_does_not_act_for_owners_ignores_the_header(
    settings: Any, as_bob: LoggedInClient, patient: Patient
) -> None:
    serve(settings, type("OwnViewSet", (PatientViewSet,), {"acts_for_owner": False}))
    answer = as_bob.get("/api/patients/", headers=ACTING)
    assert (outcome(answer), answer.json(), answer.get("X-Acting-For")) == ((200, "fast"), [], None)


def test_an_answer_that_is_cached_for_everybody_acts_for_nobody() -> None:
    viewset: Any = type("ActingDoctors", (DoctorViewSet,), {"acts_for_owner": True})
    obstacles = FastActions(viewset, dict(LIST), {}).obstacles["list"]
    assert [one.member for one in obstacles] == ["ActingDoctors.cached_by_table_version"]


def test_row_level_security_alone_shows_a_delegate_the_owners_rows(
    settings: Any, monkeypatch: pytest.MonkeyPatch, as_bob: LoggedInClient, bob: User, make_user: Callable[..., User]
) -> None:
    known_parameters()
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, owner: queryset.all())
    monkeypatch.setitem(coverage._members, OwnedQuerySet, coverage.code_of(OwnedQuerySet))  # else a patch is noticed
    serve(settings, PatientViewSet)
    alices, bobs = Patient.objects.get(), make_patient(bob)
    make_patient(make_user("carol"))
    for headers, own, others in ((ACTING, alices, bobs), ({}, bobs, alices)):
        answer = as_bob.get("/api/patients/", headers=headers)
        assert (outcome(answer), [one["id"] for one in answer.json()]) == ((200, "fast"), [own.pk])
        assert outcome(as_bob.get(f"/api/patients/{own.pk}/", headers=headers)) == (200, "fast")
        assert as_bob.get(f"/api/patients/{others.pk}/", headers=headers).status_code == 404
        assert as_bob.patch(f"/api/patients/{others.pk}/", {"name": "New"}, headers=headers).status_code == 404


def test_the_owners_that_are_known_are_bounded(
    monkeypatch: pytest.MonkeyPatch, as_bob: LoggedInClient, delegation: Delegation
) -> None:
    monkeypatch.setattr("accounts.authentication.MOST_KNOWN", 3)
    for zeros in range(10):
        owner = {"X-Acting-For": "0" * zeros + str(delegation.owner_id)}
        assert as_bob.get("/api/patients/", headers=owner)["X-Acting-For"] == "alice"
    assert 0 < len(known_owners) <= 3
