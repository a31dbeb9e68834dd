"""Request ids and trace ids: taken over from trusted proxies, ignored from clients, and kept wherever a request is."""

import importlib
import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from healthcare.api.models import IdempotencyRecord
from healthcare.operations.request_ids import REQUEST_ID_KEY, TRACE_ID_KEY, assign_ids, find_trace_id
from patients.accesses import CREATE_VIEW
from patients.tests.factories import make_patient

LONG_ID = "Proxy-1.example_" + "x" * 48  # of 64 characters
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
OWN_ID = re.compile("[0-9a-f]{32}")


@pytest.fixture
def behind_proxy(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = 1


@pytest.fixture
def access_lines() -> Iterator[list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(vars(record)["fields"])  # type: ignore[method-assign]
    logger = logging.getLogger("healthcare.access")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (TRACEPARENT, TRACE),
        (f"00-{TRACE}-{PARENT}-00", TRACE),
        (f"00-{TRACE}-{PARENT}-ff", TRACE),
        (f"01-{TRACE}-{PARENT}-01", TRACE),  # a later version
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", TRACE),
        (f"00-{TRACE}-{PARENT}-01-what-the-future-will-be-like", None),
        (f"00-{TRACE}-{PARENT}-01-", None),
        (f"cc-{TRACE}-{PARENT}-01.what", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT.upper()}-01", None),
        (f"0-{TRACE}-{PARENT}-01", None),
        (f"00-{TRACE[1:]}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT[1:]}-01", None),
        (f"00-{TRACE}-{PARENT}-1", None),
        (f"00-{TRACE}-{PARENT}", None),
        (f"00-{TRACE}-{PARENT}-0g", None),
        (f" {TRACEPARENT}", None),
        (f"{TRACEPARENT}\n", None),
        (f"{TRACEPARENT},{TRACEPARENT}", None),  # sent twice
        (f"cc-{TRACE}-{PARENT}-01,{TRACEPARENT}", None),
        ("００-" + TRACEPARENT[3:], None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_in_the_recommendation_of_the_w3c(traceparent: str, trace_id: str | None):
    assert find_trace_id(traceparent) == trace_id


@pytest.mark.parametrize(
    "request_id", ["a", LONG_ID, "0f8fad5b-d9cb-469f-a165-70867728950e", "1700000000.123_a", "..."]
)
@pytest.mark.usefixtures("behind_proxy")
def test_a_request_id_of_a_trusted_proxy_is_taken_over(request_id: str):
    environ = {"HTTP_X_REQUEST_ID": request_id, "HTTP_TRACEPARENT": TRACEPARENT, "HTTP_TRACESTATE": "a=b"}
    assert assign_ids(environ) == environ[REQUEST_ID_KEY] == request_id
    assert environ[TRACE_ID_KEY] == TRACE
    assert environ["HTTP_TRACESTATE"] == "a=b"


@pytest.mark.parametrize(
    "request_id",
    ["", "a" * 65, "a b", "a,b", "a\n", "a\x00", "ä", "a/b", "<b>", "a;b", "%0A", '"', "a" * 60_000, "Ｋ"],
)
@pytest.mark.usefixtures("behind_proxy")
def test_a_malformed_request_id_is_replaced(request_id: str):
    assert OWN_ID.fullmatch(assign_ids({"HTTP_X_REQUEST_ID": request_id}))


@pytest.mark.parametrize("traceparent", [f"{TRACEPARENT},{TRACEPARENT}", "nonsense"])
@pytest.mark.usefixtures("behind_proxy")
def test_a_malformed_trace_is_not_left_for_tracing_libraries_either(traceparent: str):
    environ = {"HTTP_TRACEPARENT": traceparent, "HTTP_TRACESTATE": "a=b", "HTTP_BAGGAGE": "a=b"}
    assign_ids(environ)
    assert environ.keys() == {REQUEST_ID_KEY, TRACE_ID_KEY}
    assert environ[TRACE_ID_KEY] is None


def test_without_trusted_proxies_the_ids_of_a_client_are_ignored(settings: Settings):
    settings.TRUSTED_PROXIES = 0
    environ = {"HTTP_X_REQUEST_ID": "mine", "HTTP_TRACEPARENT": TRACEPARENT, "HTTP_TRACESTATE": "a=b"}
    assert OWN_ID.fullmatch(assign_ids(environ))
    assert environ.keys() == {"HTTP_X_REQUEST_ID", REQUEST_ID_KEY, TRACE_ID_KEY}
    assert environ[TRACE_ID_KEY] is None


@pytest.mark.parametrize("mode", ["on", "off", "verify"])
@pytest.mark.usefixtures("behind_proxy")
def test_log_history_access_log_and_idempotency_keep_the_ids_of_the_proxy(
    as_alice: LoggedInClient, settings: Settings, access_lines: list[dict[str, Any]], mode: str
):
    settings.FAST_PATH = mode
    as_alice.get("/api/auth/me/")  # checks the connection's health, which the fast path does not
    access_lines.clear()
    sent: Any = {"HTTP_X_REQUEST_ID": LONG_ID, "HTTP_TRACEPARENT": TRACEPARENT}
    created = as_alice.post("/api/patients/", {"name": "Ana"}, HTTP_IDEMPOTENCY_KEY="1", **sent)
    path = f"/api/patients/{created.json()['id']}/"
    answers = [created, as_alice.patch(path, {"name": "Eva"}, **sent), as_alice.get(path, **sent)]
    answers.append(as_alice.post("/api/patients/", {"name": "Bo"}, **sent))
    assert [answer.status_code for answer in answers] == [201, 200, 200, 201]
    answers.append(as_alice.get("/api/patients/0/", **sent))
    assert {answer["X-Request-Id"] for answer in answers} == {answers[-1].json()["request_id"]} == {LONG_ID}
    assert [(line["request_id"], line["trace_id"]) for line in access_lines] == [(LONG_ID, TRACE)] * 5
    assert [line["path"] for line in access_lines[1:4]] == ["fast" if mode == "on" else "standard"] * 3
    assert {*AccessLog.objects.values_list("request_id", flat=True)} == {LONG_ID}
    for changed, events in ((path, 2), (f"/api/patients/{answers[3].json()['id']}/", 1)):
        assert [event["request_id"] for event in as_alice.get(f"{changed}history/").json()] == [LONG_ID] * events
    assert LONG_ID in {access["request_id"] for access in as_alice.get(f"{path}access-log/").json()}
    assert IdempotencyRecord.objects.get().request_id == LONG_ID


@pytest.mark.usefixtures("behind_proxy")
def test_the_admin_keeps_the_request_id_of_the_proxy(as_staff: LoggedInClient, alice: User, staff: User):
    patient = make_patient(alice)
    client = APIClient()
    client.force_login(staff)
    answer = client.get(f"/admin/patients/patient/{patient.pk}/change/", HTTP_X_REQUEST_ID=LONG_ID)
    assert (answer.status_code, answer["X-Request-Id"]) == (200, LONG_ID)
    assert {*AccessLog.objects.values_list("request_id", flat=True)} == {LONG_ID}


@pytest.mark.django_db
def test_the_migration_grows_the_column_below_the_view_and_leaves_the_view_as_it_is():
    def described() -> tuple[Any, ...]:
        cursor.execute(
            "SELECT pg_get_viewdef(oid), relowner, reloptions FROM pg_class WHERE relname = 'audit_patientaccess'"
        )
        view = cursor.fetchone()
        cursor.execute("SELECT has_table_privilege('healthcare_api', 'audit_patientaccess', 'SELECT')")
        return (*view, *cursor.fetchone())

    with connection.cursor() as cursor:
        before = described()
        cursor.execute("DROP VIEW audit_patientaccess; ALTER TABLE audit_accesslog ALTER request_id TYPE varchar(32)")
        cursor.execute(CREATE_VIEW)
        assert described() == before
        cursor.execute("SELECT pg_relation_filenode('audit_accesslog')")
        file = cursor.fetchone()
        cursor.execute(importlib.import_module("audit.migrations.0006_longer_request_ids").GROW)
        assert described() == before
        cursor.execute("SELECT pg_relation_filenode('audit_accesslog')")
        assert cursor.fetchone() == file  # not rewritten
        cursor.execute(
            "SELECT DISTINCT character_maximum_length FROM information_schema.columns WHERE column_name = 'request_id' "
            "AND table_name IN ('audit_accesslog', 'audit_patientaccess', 'api_idempotencyrecord')"
        )
        assert cursor.fetchall() == [(64,)]


@pytest.mark.usefixtures("behind_proxy")
def test_an_erasure_finds_the_answers_to_requests_with_ids_of_the_proxy(as_alice: LoggedInClient):
    keyed: Any = {"HTTP_IDEMPOTENCY_KEY": "1", "HTTP_X_REQUEST_ID": LONG_ID}
    created = as_alice.post("/api/patients/", {"name": "Ana"}, **keyed)
    call_command("erase_patient", str(created.json()["id"]), "--reason", "Request 17", "--yes", stdout=io.StringIO())
    assert IdempotencyRecord.objects.get().body == ""
    assert as_alice.post("/api/patients/", {"name": "Ana"}, **keyed).status_code == 410
