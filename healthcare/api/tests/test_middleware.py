"""The middleware: request ids, headers, HTTPS, CORS and the framing of bodies."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from conftest import LoggedInClient
from healthcare.api.middleware import OutsideAPI
from healthcare.tests.contract_matrix import protocol_faults

pytestmark = pytest.mark.django_db
ORIGIN = "https://app.example.org"  # the one that the tests' settings allow


def test_two_requests_have_two_ids_and_a_client_cannot_choose_one() -> None:
    answers = [APIClient().get("/api/doctors/", HTTP_X_REQUEST_ID="chosen") for _ in range(2)]
    assert len({answer.headers["X-Request-Id"] for answer in answers} | {"chosen"}) == 3


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_plain_http_is_refused_in_the_api_where_https_is_required(method: str, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    answer = getattr(APIClient(), method)("/api/doctors/", {})
    assert (answer.status_code, answer.json()["detail"]) == (403, "Use https:// for every call.")
    assert protocol_faults(answer.status_code, answer.headers, answer.content) == []
    assert getattr(APIClient(), method)("/api/doctors/", {}, secure=True).status_code != 403


def test_a_forwarded_protocol_counts_only_behind_a_trusted_proxy(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert APIClient().get("/api/doctors/", HTTP_X_FORWARDED_PROTO="https").status_code == 403
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert APIClient().get("/api/doctors/", HTTP_X_FORWARDED_PROTO="https").status_code == 200


@pytest.mark.parametrize("path", ["/api/doctors/", "/api/patients/", "/api/nothing/", "/api/doctors"])
def test_every_answer_has_a_strict_policy_and_is_not_sniffed(path: str) -> None:
    headers = APIClient().get(path).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")


@pytest.mark.parametrize("path", ["/api/doctors/", "/api/patients/", "/api/nothing/"])
def test_an_allowed_origin_may_read_answers_and_errors_alike(path: str) -> None:
    headers = APIClient().get(path, HTTP_ORIGIN=ORIGIN).headers
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Credentials" not in headers
    assert {"link", "x-total-count", "x-request-id", "etag"} <= {
        name.strip().lower() for name in headers["Access-Control-Expose-Headers"].split(",")
    }


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"{ORIGIN}.evil.example", "null", f"{ORIGIN}:444", "http://app.example.org"]
)
def test_no_other_origin_may_read_anything(origin: str) -> None:
    preflight: dict[str, Any] = {"HTTP_ORIGIN": origin, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    for answer in (
        APIClient().get("/api/doctors/", HTTP_ORIGIN=origin),
        APIClient().options("/api/doctors/", **preflight),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_admin_session_cookie_does_not_authenticate_api_requests(staff: object) -> None:
    client = Client()
    client.force_login(staff)  # type: ignore[arg-type]
    assert client.get("/admin/").status_code == 200
    assert client.get("/api/patients/").status_code == 401


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "identity, gzip"])
def test_a_compressed_body_is_refused(as_alice: LoggedInClient, coding: str) -> None:
    answer = as_alice.post("/api/patients/", {"name": "X"}, HTTP_CONTENT_ENCODING=coding)
    assert (answer.status_code, answer.json()["detail"]) == (415, "Send the body without a Content-Encoding.")
    assert as_alice.post("/api/patients/", {"name": "X"}, HTTP_CONTENT_ENCODING="identity").status_code == 201


@pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 + 1])
def test_a_body_of_1_mib_is_accepted_and_one_more_byte_is_413(as_alice: LoggedInClient, size: int) -> None:
    body = '{"name": "X"}'.ljust(size)
    answer = as_alice.generic("POST", "/api/patients/", body, content_type="application/json")
    assert answer.status_code == (201 if size == 1024 * 1024 else 413)


def seen(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A middleware of somebody else that looks like the one that follows it."""

    @wraps(get_response)
    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers["X-Seen"] = "yes"
        return response

    return middleware


@pytest.mark.parametrize("position", range(len(django_settings.MIDDLEWARE) + 1))
def test_a_middleware_among_those_that_api_requests_skip_is_not_skipped(position: int, settings: Settings) -> None:
    names = [*django_settings.MIDDLEWARE]
    settings.MIDDLEWARE = [*names[:position], f"{__name__}.seen", *names[position:]]
    assert Client().get("/api/doctors/").headers["X-Seen"] == "yes"


def test_an_api_request_meets_one_of_the_middlewares_that_it_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []
    call = OutsideAPI.__call__

    def record(middleware: OutsideAPI, request: HttpRequest) -> Any:
        met.append(type(middleware).__name__)
        return call(middleware, request)

    monkeypatch.setattr(OutsideAPI, "__call__", record)
    assert Client().get("/api/doctors/").status_code == 200
    assert met == ["WhiteNoiseMiddleware"]
    met.clear()
    assert Client().get("/admin/login/").status_code == 200
    assert met[:2] == ["WhiteNoiseMiddleware", "SessionMiddleware"]
    assert len(met) == 5
