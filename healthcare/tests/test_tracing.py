"""docs/tracing.md, followed to the letter in a copy of the project: `manage.py serve` exports spans to a collector."""

import json
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from healthcare.server.queue import CONCURRENT_REQUESTS
from healthcare.tests import migrated
from healthcare.tests.live import TIMEOUT, LiveServer, free_port, own_database, wait_until_answering
from healthcare.tests.project_copy import ROOT, ProjectCopy, blocks_of, read_guide

pytestmark = pytest.mark.slow

GUIDE = read_guide("tracing.md")
DEVELOPERS = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
WORD = "Quetzalcoatl"  # which no span may contain
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ROUTES = {
    "/api/patients/": "api/patients/",
    "/api/patients/{id}/": "api/patients/<int:pk>/",
    "/api/auth/login/": "api/auth/login/",
    "/api/auth/register/": "api/auth/register/",
}
PACKAGES = ("sdk", "exporter.otlp.proto.http", "instrumentation.django", "instrumentation.psycopg2")


class Collector:
    """Receives spans by OTLP over HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert (self.path, self.headers["Content-Encoding"]) == ("/v1/traces", None)
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in found
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[ProjectCopy]:
    """The project after the steps of the page."""
    for package in PACKAGES:
        pytest.importorskip(f"opentelemetry.{package}", reason="requirements-dev.txt has it")
    with django_db_blocker.unblock():
        migrated.ensure_template_database()
        connection.close()
        with own_database(template=migrated.DATABASE) as database:
            project = ProjectCopy(tmp_path_factory.mktemp("tracing"), database)
            steps = {"python": project.write, "diff": project.patch}
            for path, language, text in blocks_of(GUIDE, "healthcare"):
                if language in steps:
                    steps[language](path, text)
            yield project


def call_everything(server: LiveServer) -> list[str]:
    """Calls with the word in bodies and queries, and one that violates a constraint. Returns their request ids."""
    trace = {"Traceparent": f"00-{TRACE}-{PARENT}-01"}
    user, tokens = server.register(f"{WORD}{uuid.uuid4().hex[:8]}")
    patients, token = "/api/patients/", tokens["access"]
    created = server.call("POST", patients, {"name": WORD, "address": WORD}, token, **trace)
    path = f"{patients}{created.json['id']}/"
    answers = [
        created,
        *(server.call("GET", path, None, token, **trace) for _ in range(CONCURRENT_REQUESTS + 1)),
        *(
            server.call("GET", f"{patients}?search={WORD}", None, token, **trace)
            for _ in range(CONCURRENT_REQUESTS + 1)
        ),
        server.call("PATCH", path, {"address": f"{WORD}s"}, token, X_Change_Reason=WORD, **trace),
        server.call("POST", "/api/auth/login/", {"username": WORD, "password": WORD}, **trace),
        server.call("POST", "/api/auth/register/", {**user, "password": "StrongPass123"}, **trace),
    ]
    reads = 2 * (CONCURRENT_REQUESTS + 1)
    assert [answer.status for answer in answers] == [201, *[200] * reads, 200, 401, 400]
    return [answer.headers["X-Request-Id"] for answer in answers]


def serve(project: ProjectCopy, output: Path, collector: Collector, **variables: str) -> list[str]:
    """Run `manage.py serve` for the calls, and end it at once: its last spans must not be lost."""
    port = free_port()
    environment = {
        **project.environment,
        **variables,
        "LOG_FORMAT": "json",
        "DRAIN_SECONDS": "0",
        "OTEL_SERVICE_NAME": "healthcare",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", str(port), "--workers", "1"],
            cwd=project.root,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_answering(port, process)
        return call_everything(LiveServer("127.0.0.1", port, "", environment))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.mark.parametrize(("mode", "proxies"), [("on", "1"), ("off", "0")])
def test_requests_and_their_statements_are_spans_of_the_trace_in_the_log(
    project: ProjectCopy, collector: Collector, tmp_path: Path, mode: str, proxies: str
):
    output = tmp_path / "output"
    ids = serve(project, output, collector, FAST_PATH=mode, TRUSTED_PROXIES=proxies)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    by_id = {line["request_id"]: line for line in lines if line["logger"] == "healthcare.access"}
    spans = collector.spans()
    servers = [span for span in spans if span.kind == span.SPAN_KIND_SERVER]
    clients = [span for span in spans if span.kind == span.SPAN_KIND_CLIENT]
    traces = [by_id[request_id]["trace_id"] for request_id in ids]
    assert all((trace == TRACE) == (proxies == "1") for trace in traces)
    assert {span.parent_span_id.hex() for span in servers} == ({PARENT, ""} if proxies == "1" else {""})
    described = []
    for request_id, trace in zip(ids, traces, strict=True):
        line = by_id[request_id]
        named = f"{line['method']} {ROUTES[line['route']]}"
        request = next(span for span in servers if span.trace_id.hex() == trace and span.name == named)
        servers.remove(request)
        assert attributes(request) == {
            "http.method": line["method"],
            "http.route": ROUTES[line["route"]],
            "http.status_code": line["status"],
        }
        statements = [span for span in clients if span.parent_span_id == request.span_id]
        assert {span.trace_id.hex() for span in statements} == {trace}
        for statement in statements:
            assert request.start_time_unix_nano <= statement.start_time_unix_nano
            assert attributes(statement).keys() == {"db.system", "db.name", "db.statement"}
            assert attributes(statement)["db.system"] == "postgresql"
        described.append((named, line["path"], len(statements)))
    # The first request of a connection checks it, by standard DRF, and each read is sent more often than there are
    # connections.
    # A search looks up terms and hits in messages of their own.
    assert {number for _, path, number in described if path == "fast"} == ({1, 3} if mode == "on" else set())
    assert all(number > 1 for _, path, number in described if path == "standard"), described
    # The statement of the duplicate has failed; its exception's text repeats the value.
    assert any(span.status.code == span.status.STATUS_CODE_ERROR for span in clients)
    # No value, no id of a patient, and no text of an exception.
    exported = b"".join(collector.bodies).lower()
    assert WORD.lower().encode() not in exported
    assert b"/api/patients/1" not in exported
    assert {span.status.message for span in spans} == {""}
    assert not any(span.events for span in spans)


def test_the_page_names_the_versions_that_it_is_tested_with():
    named = set(re.findall(r"opentelemetry-[a-z0-9-]+[~=]=[\w.]+", GUIDE))
    assert named == set(re.findall(r"^opentelemetry-[a-z0-9-]+[~=]=[\w.]+", DEVELOPERS, re.MULTILINE))
    assert len(named) == 4
