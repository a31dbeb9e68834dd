"""What stands in front of Django adds what the middleware would have added, and lets nobody pass whom it stops."""

import logging
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from healthcare.fastpath import door, frames
from healthcare.fastpath.routes import find
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

TEMPLATE = "api/patients/"


def environ(**headers: str) -> dict[str, Any]:
    return RequestFactory().get("/api/patients/", headers=headers).environ


def closed(get_response: Any) -> Any:
    """A middleware that answers by itself whoever says so."""

    def middleware(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=418) if "X-Teapot" in request.headers else get_response(request)

    return middleware


def noting(get_response: Any) -> Any:
    """A middleware that tells what it heard."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        response["X-Heard"] = request.headers.get("X-Said", "nothing")
        return response

    return middleware


def test_whom_the_middleware_answers_is_left_to_it(settings: Any, as_alice: LoggedInClient):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.closed"]
    assert as_alice.get("/api/patients/").status_code == 200
    assert as_alice.get("/api/patients/", headers={"X-Teapot": "yes"}).status_code == 418
    assert as_alice.get("/api/patients/").status_code == 200


def test_a_header_that_the_middleware_reads_is_answered_for_each_value(
    settings: Any, as_alice: LoggedInClient, alice: User
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.noting"]
    path = f"/api/patients/{make_patient(alice).pk}/"
    for said in ("one", "two", "one"):
        assert as_alice.get(path, headers={"X-Said": said})["X-Heard"] == said
    assert as_alice.get(path)["X-Heard"] == "nothing"


def test_a_page_of_a_known_origin_may_read_and_another_may_not(as_alice: LoggedInClient):
    for _ in range(2):
        known = as_alice.get("/api/patients/", headers={"Origin": "https://app.example.org"})
        other = as_alice.get("/api/patients/", headers={"Origin": "https://evil.example.org"})
        assert known["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert "Access-Control-Allow-Origin" not in other


def test_the_same_headers_are_asked_about_once(monkeypatch: pytest.MonkeyPatch):
    frames.forget()
    first = frames.frame_of(environ(), TEMPLATE)
    monkeypatch.setattr(frames, "ask", None)
    assert first is not None
    assert frames.frame_of(environ(Authorization="Bearer other", Traceparent="00-1"), TEMPLATE) is first


@pytest.mark.parametrize("headers", [{"Host": "evil.example.org"}, {"Content-Encoding": "gzip"}])
def test_what_is_refused_has_no_frame(headers: dict[str, str]):
    assert frames.frame_of(environ(**headers), TEMPLATE) is None


def test_a_get_with_a_body_is_left_to_django(as_alice: LoggedInClient):
    as_alice.get("/api/patients/")
    assert as_alice.generic("GET", "/api/patients/", "{}", CONTENT_LENGTH=str(2**21)).status_code == 413


def test_a_body_without_a_length_is_left_to_django(as_alice: LoggedInClient):
    for length in ("", "0", ""):
        answer = as_alice.get("/api/patients/", headers={"Transfer-Encoding": "chunked"}, CONTENT_LENGTH=length)
        assert answer.status_code == (200 if length else 411)


def test_only_so_many_frames_are_kept(monkeypatch: pytest.MonkeyPatch):
    frames.forget()
    monkeypatch.setattr(frames, "MOST", 3)
    for number in range(10):
        assert frames.frame_of(environ(Accept=str(number)), TEMPLATE)
    assert len(frames._kept) <= 3


def test_each_request_is_logged_once(as_alice: LoggedInClient, caplog: pytest.LogCaptureFixture):
    frames.forget()
    with caplog.at_level(logging.INFO, "healthcare.access"):
        answer = as_alice.get("/api/patients/?limit=7")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "healthcare.access"]
    assert line.startswith("GET /api/patients/ 200 ")
    assert line.endswith(f"request_id={answer['X-Request-Id']}")


@pytest.mark.parametrize("path", ["/api/patients", "/api/patients/x/", "/api/patients/1/2/", "/", "/api/patients/١/"])
def test_only_the_paths_of_a_viewset_lead_to_it(path: str):
    assert find(path, "GET") is None


def test_a_number_that_is_no_id_is_left_to_django():
    assert find(f"/api/patients/{9 * 10**17}/", "GET")
    assert find(f"/api/patients/{10**18}/", "GET") is None


def test_the_application_speaks_wsgi(as_alice: LoggedInClient, alice: User):
    make_patient(alice)
    started: list[Any] = []
    asked = environ(Authorization=f"Bearer {as_alice.tokens['access']}")
    application = door.Door(lambda environ, start: [b"django"])
    content = b"".join(application({**asked, "PATH_INFO": "/api/"}, lambda *line: started.append(line)))
    assert (content, started) == (b"django", [])


def test_a_defect_in_front_of_django_is_logged_and_told_in_the_one_shape(
    as_alice: LoggedInClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(PatientViewSet, "recording", lambda *_: 1 / 0)
    assert as_alice.get("/api/patients/").status_code == 200  # by Django, which has no such defect
    assert "ZeroDivisionError" in caplog.text
    answer = as_alice.post("/api/patients/", {"name": "New"})
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert (answer.json()["request_id"], answer["Cache-Control"]) == (answer["X-Request-Id"], "no-store")


def test_more_parameters_than_there_can_be_are_left_to_django(as_alice: LoggedInClient, anonymous: APIClient):
    for client, path in ((as_alice, "/api/patients/"), (anonymous, "/api/doctors/")):
        assert client.get(path + "?" + "&".join(["limit=1"] * 1001)).status_code == 413


def test_what_is_long_is_not_kept():
    frames.forget()
    assert frames.frame_of(environ(Cookie="x" * 5000), TEMPLATE)
    assert not frames._kept
