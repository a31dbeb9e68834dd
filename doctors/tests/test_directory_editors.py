"""`DIRECTORY_EDITORS`: who adds, changes, deletes and restores doctors. Alice has added the doctor."""

import logging
from typing import Any

import pytest
from django.urls import path

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from doctors.views import DoctorViewSet
from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.views import FastActions

ONLY_STAFF = "Ask a member of staff: only staff may change the directory of doctors."
ONLY_CREATOR = "Ask a member of staff: only staff and the account that added this doctor may change it."


def statuses(client: LoggedInClient, doctor: Doctor) -> dict[str, int]:
    """Of every write, in an order in which each can succeed."""
    path = f"/api/doctors/{doctor.pk}/"
    answers = {
        "add": client.post("/api/doctors/", {"name": "Dr. New"}),
        "add once": client.post("/api/doctors/", {"name": "Dr. New"}, headers={"Idempotency-Key": "1"}),
        "put": client.put(path, {"name": "Dr. Put"}),
        "patch": client.patch(path, {"name": "Dr. Patch"}),
        "patch version": client.patch(path, {"name": "Dr. Patch"}, headers={"If-Match": "*"}),
        "delete": client.delete(path),
    }
    hidden = Doctor.objects.filter(pk=doctor.pk)
    if answers["delete"].status_code != 204:
        hidden.end()
    answers["restore"] = client.post(f"{path}restore/")
    hidden.restore()
    return {name: answer.status_code for name, answer in answers.items()}


EVERYTHING = {
    "add": 201, "add once": 201, "put": 200, "patch": 200, "patch version": 200, "delete": 204, "restore": 200,
}  # fmt: skip
NOTHING = dict.fromkeys(EVERYTHING, 403)
ADDS = NOTHING | {"add": 201, "add once": 201}


@pytest.mark.parametrize("fast_path", ["on", "off", "verify"])
@pytest.mark.parametrize(
    ("editors", "creator", "other"),
    [("anyone", EVERYTHING, EVERYTHING), ("creator", EVERYTHING, ADDS), ("staff", NOTHING, NOTHING)],
)
def test_the_setting_decides_who_writes_and_staff_always_may(
    settings: Any, alice: User, as_alice: LoggedInClient, as_bob: LoggedInClient, as_staff: LoggedInClient,
    fast_path: str, editors: str, creator: dict[str, int], other: dict[str, int],
) -> None:  # fmt: skip
    settings.FAST_PATH, settings.DIRECTORY_EDITORS = fast_path, editors
    doctor = make_doctor(alice)
    assert statuses(as_alice, doctor) == creator
    assert statuses(as_bob, doctor) == other
    assert statuses(as_staff, doctor) == EVERYTHING


@pytest.mark.parametrize("editors", ["anyone", "creator", "staff"])
def test_anyone_reads_and_a_write_without_a_token_is_401(
    settings: Any, alice: User, anonymous: Any, as_bob: LoggedInClient, editors: str
) -> None:
    settings.DIRECTORY_EDITORS = editors
    path = f"/api/doctors/{make_doctor(alice).pk}/"
    for client in (anonymous, as_bob):
        assert (client.get(path).status_code, client.get("/api/doctors/").status_code) == (200, 200)
    assert as_bob.get(f"{path}history/").status_code == 200
    assert anonymous.patch(path, {"name": "X"}).status_code == 401
    assert anonymous.post("/api/doctors/", {"name": "X"}).status_code == 401


def test_the_refusal_says_whom_to_ask(settings: Any, alice: User, as_bob: LoggedInClient) -> None:
    path = f"/api/doctors/{make_doctor(alice).pk}/"
    for editors, detail in (("staff", ONLY_STAFF), ("creator", ONLY_CREATOR)):
        settings.DIRECTORY_EDITORS = editors
        refused = as_bob.delete(path)
        assert refused.json() == {
            "type": "about:blank",
            "title": "Forbidden",
            "status": 403,
            "detail": detail,
            "request_id": refused["X-Request-Id"],
        }
    assert Doctor.objects.get().deleted_at is None
    assert as_bob.patch("/api/doctors/999999/", {"name": "X"}).status_code == 404


@pytest.mark.parametrize(
    ("editors", "fast"),
    [
        ("anyone", {"list", "create", "retrieve", "update", "partial_update"}),
        ("creator", {"list", "create", "retrieve"}),
        ("staff", {"list", "retrieve"}),
    ],
)
def test_reads_stay_on_the_fast_path_and_writes_where_everybody_may_write(
    settings: Any, as_alice: LoggedInClient, caplog: pytest.LogCaptureFixture, editors: str, fast: set[str]
) -> None:
    known_parameters()  # which the OpenAPI description of the product's own URLs names
    settings.DIRECTORY_EDITORS = editors  # before the first request to these URLs
    settings.ROOT_URLCONF = (path("api/doctors/", DoctorViewSet.as_view({"get": "list", "post": "create"})),)
    routes = [
        FastActions(DoctorViewSet, {"get": "list", "post": "create"}, {}),
        FastActions(DoctorViewSet, {"get": "retrieve", "put": "update", "patch": "partial_update"}, {}),
    ]
    assert {action.action for route in routes for action in route.by_method.values()} == fast
    settings.FAST_PATH = "on"
    as_alice.get("/api/doctors/")  # checks the connection's health
    caplog.clear()
    with caplog.at_level(logging.INFO, "healthcare.access"):
        as_alice.post("/api/doctors/", {"name": "Dr. New"})
        as_alice.get("/api/doctors/")
    lines = [record.getMessage() for record in caplog.records if record.name == "healthcare.access"]
    assert [line.rpartition("path=")[2] for line in lines] == ["fast" if "create" in fast else "standard", "fast"]


def test_the_creator_of_a_doctor_does_not_change_with_a_change(
    settings: Any, alice: User, as_staff: LoggedInClient
) -> None:
    settings.DIRECTORY_EDITORS = "creator"
    doctor = make_doctor(alice)
    assert as_staff.patch(f"/api/doctors/{doctor.pk}/", {"name": "Dr. New"}).status_code == 200
    doctor.refresh_from_db()
    assert doctor.created_by == alice
