"""Columns of every kind that patients lack, each served by the fast path or named by its system check.

`test_adding_a_field` adds the columns to a copy of the project and runs these tests there; this project has no such
columns.
"""

import json
import logging
import sys
import types
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from accounts.models import User
from conftest import LoggedInClient
from healthcare.urls import urlpatterns
from patients.serializers import PatientSerializer
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

# By column, the value of a new patient and the value after a change, as JSON.
COLUMNS: dict[str, tuple[Any, Any]] = {
    "weight": ("72.50", "80.25"),
    "preferences": ({"language": "de", "fasting": [1.5, None, "é"]}, {}),
    "passport": ("7d0c2f39-4f9a-4c1e-8a76-0d5f1c2b3a49", None),
    "notes": ("First line\nsecond \"line\" \\ é", ""),
    "wakes_at": ("06:30:00", "07:15:30.250000"),
}  # fmt: skip


def viewset_with(column: str) -> type[PatientViewSet]:
    """The viewset of patients with one field more."""
    meta = type("Meta", (PatientSerializer.Meta,), {"fields": [*PatientSerializer.Meta.fields, column]})
    serializer = type("PatientWithColumnSerializer", (PatientSerializer,), {"Meta": meta})
    return type("PatientWithColumnViewSet", (PatientViewSet,), {"serializer_class": serializer})


@pytest.fixture(params=COLUMNS)
def column(request: pytest.FixtureRequest, settings: Any) -> str:
    """A column that the API of patients answers."""
    router = SimpleRouter(use_regex_path=False)
    router.register("patients", viewset_with(request.param), basename="patient")
    urlconf = types.ModuleType(f"urls_with_{request.param}")
    urlconf.urlpatterns = [path("api/", include(router.urls)), *urlpatterns]  # type: ignore[attr-defined]
    sys.modules[urlconf.__name__] = urlconf
    settings.ROOT_URLCONF = urlconf.__name__
    return str(request.param)


class Calls:
    """Sends calls and collects, by action, whether the fast path served them."""

    def __init__(self, client: LoggedInClient, caplog: pytest.LogCaptureFixture) -> None:
        self.client, self.caplog = client, caplog
        self.paths: dict[str, str] = {}

    def send(self, action: str, method: str, path: str, body: Any = None) -> Any:
        self.caplog.clear()
        with self.caplog.at_level(logging.INFO, "healthcare.access"):
            answer = self.client.generic(method, path, json.dumps(body) if body else "", "application/json")
        assert answer.status_code in {200, 201}, answer.content
        (line,) = [record.getMessage() for record in self.caplog.records if record.name == "healthcare.access"]
        self.paths[action] = line.rpartition("path=")[2]
        return answer


def call_everything(client: LoggedInClient, caplog: pytest.LogCaptureFixture, column: str) -> tuple[Calls, list[Any]]:
    """Create, read, list and change a patient. Returns the calls and what they answered for the column."""
    calls, (first, second) = Calls(client, caplog), COLUMNS[column]
    created = calls.send("create", "POST", "/api/patients/", {"name": "Ana", column: first}).json()
    path = f"/api/patients/{created['id']}/"
    answers = [created, calls.send("retrieve", "GET", path).json()]
    answers += [
        record for record in calls.send("list", "GET", "/api/patients/").json() if record["id"] == created["id"]
    ]
    answers.append(calls.send("partial_update", "PATCH", path, {column: second}).json())
    answers.append(calls.send("update", "PUT", path, {"name": "Ana", column: first}).json())
    return calls, [answer[column] for answer in answers]


def test_a_column_is_served_by_the_fast_path_or_named_by_the_check(
    as_alice: LoggedInClient, caplog: pytest.LogCaptureFixture, settings: Any, column: str
) -> None:
    first, second = COLUMNS[column]
    settings.FAST_PATH = "on"
    calls, answers = call_everything(as_alice, caplog, column)
    assert answers == [first, first, first, second, first]
    for action, served_by in calls.paths.items():
        assert (served_by == "standard") == bool(columns_named_by_the_check(action)), (action, served_by)


def columns_named_by_the_check(action: str) -> list[str]:
    """The warnings for an action. A write has to know every column of the table, also those that it does not write."""
    return [
        message.msg
        for message in run_checks()
        if str(message.id).startswith("fastpath.W")
        and f"PatientWithColumnViewSet.{action} " in message.msg
        and any(f".{column}" in message.msg for column in COLUMNS)
    ]


def test_both_paths_answer_the_same_bytes_for_a_column(
    as_alice: LoggedInClient, alice: User, settings: Any, column: str
) -> None:
    assert f"urls_with_{column}" == django_settings.ROOT_URLCONF
    for value in (*COLUMNS[column], None):
        settings.FAST_PATH = "off"
        body = {} if value is None else {column: value}
        created = as_alice.post("/api/patients/", {"name": "Ana", **body}).json()
        for url in (f"/api/patients/{created['id']}/", "/api/patients/", f"/api/patients/?fields=id,{column}"):
            settings.FAST_PATH = "off"
            standard = as_alice.get(url)
            settings.FAST_PATH = "on"
            fast = as_alice.get(url)
            assert (fast.content, fast.headers.get("ETag")) == (standard.content, standard.headers.get("ETag"))


def test_the_columns_are_those_of_the_copy(alice: User) -> None:
    assert all(hasattr(make_patient(alice), column) for column in COLUMNS)
