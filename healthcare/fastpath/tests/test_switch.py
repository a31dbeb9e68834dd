"""FAST_PATH=on, off and verify, and what the logs contain."""

import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.urls import path

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from healthcare.api.unknown_parameters import known_parameters
from healthcare.fastpath.creates import FastCreate
from healthcare.fastpath.lists import FastList
from healthcare.fastpath.reads import FastRead
from healthcare.fastpath.updates import FastUpdate
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

NAME = "Confidential Name"


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == logger]


@pytest.mark.parametrize(("mode", "word"), [("on", "fast"), ("off", "standard"), ("verify", "standard")])
def test_the_access_log_says_which_path_answered(
    as_alice: LoggedInClient, alice: User, settings: Any, caplog: pytest.LogCaptureFixture, mode: str, word: str
):
    settings.FAST_PATH = mode
    url = f"/api/patients/{make_patient(alice).pk}/"
    with caplog.at_level(logging.INFO):
        as_alice.get(url)
        as_alice.patch(url, {"name": "New"})
        as_alice.get("/api/auth/me/")
    served_by = [line.rpartition("path=")[2] for line in lines(caplog, "healthcare.access")]
    assert served_by == [word, word, "standard"]
    assert AccessLog.objects.count() == 2


def test_verify_records_each_access_once(as_alice: LoggedInClient, alice: User, settings: Any):
    settings.FAST_PATH = "verify"
    patient = make_patient(alice)
    for url in (f"/api/patients/{patient.pk}/", "/api/patients/", f"/api/patients/{2**40}/"):
        as_alice.get(url)
    outcomes = AccessLog.objects.order_by("pk").values_list("action", "outcome")
    assert [*outcomes] == [("patient.retrieve", 200), ("patient.list", 200), ("patient.retrieve", 404)]


def test_verify_logs_nothing_while_both_agree(
    as_alice: LoggedInClient, alice: User, settings: Any, caplog: pytest.LogCaptureFixture
):
    settings.FAST_PATH = "verify"
    url = f"/api/patients/{make_patient(alice).pk}/"
    with caplog.at_level(logging.WARNING):
        tag = as_alice.get(url)["ETag"]
        assert as_alice.get(url, headers={"If-None-Match": tag}).status_code == 304
        for query in ("", "?gender=M", "?fields=id", "?include=doctors", "?ordering=name", "?limit=1"):
            assert as_alice.get(f"/api/patients/{query}").status_code == 200
        as_alice.get("/api/doctors/")
    assert lines(caplog, "healthcare.fastpath") == []


@pytest.mark.parametrize("action", ["retrieve", "list"])
def test_verify_answers_by_standard_drf_and_names_what_differs(
    as_alice: LoggedInClient, alice: User, settings: Any, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, action: str,
):  # fmt: skip
    """A defect of the fast path is found in operation, without a value in the log."""
    known_parameters()
    compile_content = FastRead.compile_content

    def defective(self: Any, selection: Any) -> Any:
        fragment = compile_content(self, selection)
        return type(fragment)(fragment.sql.replace('"name" AS "name"', "'wrong' AS \"name\""), fragment.parameters)

    monkeypatch.setattr(FastRead, "compile_content", defective)
    detail, listing = {"get": "retrieve"}, {"get": "list"}
    settings.ROOT_URLCONF = (
        path("api/patients/<int:pk>/", PatientViewSet.as_view(detail)),
        path("api/patients/", PatientViewSet.as_view(listing)),
    )
    url = f"/api/patients/{make_patient(alice, name=NAME).pk}/" if action == "retrieve" else "/api/patients/"
    make_patient(alice, name=NAME)
    settings.FAST_PATH = "verify"
    with caplog.at_level(logging.WARNING):
        answer = as_alice.get(url)
    assert NAME in answer.content.decode()
    [line] = lines(caplog, "healthcare.fastpath")
    assert line.startswith("fast path differs: route=/api/patients/")
    assert f"action={action}" in line
    assert "name" in line.split("members=")[1]
    assert NAME not in caplog.text
    assert "wrong" not in caplog.text


def test_verify_leaves_writes_to_standard_drf(as_alice: LoggedInClient, settings: Any):
    settings.FAST_PATH = "verify"
    answer = as_alice.post("/api/patients/", {"name": "New"})
    assert (answer.status_code, Patient.objects.count()) == (201, 1)


@pytest.mark.parametrize("variable", ["FAST_PATH", "DB_PREPARED_STATEMENTS"])
@pytest.mark.parametrize("word", ["maybe", "true", "1"])
def test_an_invalid_value_prevents_the_start(variable: str, word: str):
    environment = {**os.environ, variable: word, "DEBUG": "True", "SECRET_KEY": "x" * 50}
    command = [sys.executable, "-c", "import django; django.setup()"]
    ran = subprocess.run(
        command, env=environment | {"DJANGO_SETTINGS_MODULE": "healthcare.settings"}, cwd=django_settings.BASE_DIR,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert f"{variable} must be one of these: " in ran.stderr


@pytest.mark.parametrize("method", ["get", "post", "patch"])
def test_what_cannot_be_compiled_is_answered_by_standard_drf_and_logged(
    as_alice: LoggedInClient, alice: User, settings: Any, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, method: str,
):  # fmt: skip
    known_parameters()
    actions = {"get": "list", "post": "create"}, {"patch": "partial_update"}
    settings.ROOT_URLCONF = (
        path("api/patients/", PatientViewSet.as_view(actions[0])),
        path("api/patients/<int:pk>/", PatientViewSet.as_view(actions[1])),
    )
    detail = f"/api/patients/{make_patient(alice, name=NAME).pk}/"
    as_alice.get("/api/patients/")
    as_alice.patch(detail, {"phone": "1"})

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(NAME)

    for kind in (FastList, FastCreate, FastUpdate):
        monkeypatch.setattr(kind, "compile_for" if kind is FastList else "statements", fail)
    with caplog.at_level(logging.ERROR):
        body = None if method == "get" else {"name": "New"}
        answer = getattr(as_alice, method)(detail if method == "patch" else "/api/patients/", body)
    assert answer.status_code == (201 if method == "post" else 200)
    [line] = lines(caplog, "healthcare.fastpath")
    assert "not compiled, standard DRF answers" in line
