"""The landing page, the documentation and the health checks."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from accounts.models import User
from healthcare.tests.live import LiveServer

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PAGES = ["/", "/api/", "/healthz", "/readyz", "/api/docs/"]
NO_DATABASE = ["/", "/api/", "/healthz", "/api/docs/", "/api/schema/"]


class Assets(HTMLParser):
    """What a page loads, and whether it brings script or style of its own."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in {"script", "img"} or (tag == "link"):
            source = named.get("src") or named.get("href")
            (self.loaded if source else self.inline).append(source or tag)
        if tag == "style" or "style" in named or any(name.startswith("on") for name in named):
            self.inline.append(tag)


@pytest.fixture
def client(db: None) -> Client:
    return Client(enforce_csrf_checks=True)


def test_a_browser_gets_a_page(client: Client):
    answer = client.get("/", HTTP_ACCEPT=BROWSER)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    for link in ("/api/docs/", "/api/schema/", "/admin/", "/readyz"):
        assert f'href="{link}"' in answer.content.decode()


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "image/png"])
def test_every_other_client_gets_the_links(client: Client, accept: str):
    answer = client.get("/", HTTP_ACCEPT=accept)
    assert answer.json() == {
        "api": {
            "register": "http://testserver/api/auth/register/",
            "login": "http://testserver/api/auth/login/",
            "patients": "http://testserver/api/patients/",
            "doctors": "http://testserver/api/doctors/",
            "mappings": "http://testserver/api/mappings/",
        },
        "docs": "http://testserver/api/docs/",
        "schema": "http://testserver/api/schema/",
        "admin": "http://testserver/admin/",
        "health": "http://testserver/healthz",
    }
    assert "Accept" in answer["Vary"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_read_only(client: Client, path: str):
    assert client.head(path).status_code == 200
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(client, method)(path, "{}", content_type="application/json")
        assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json"), method
        assert answer["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/api/docs/"])
def test_a_page_loads_local_files_only_under_a_strict_policy(live: LiveServer, path: str):
    answer = live.call("GET", path, Accept=BROWSER)
    assets = Assets(answer.body.decode())
    assert assets.inline == []
    assert assets.loaded
    for source in assets.loaded:
        assert live.call("GET", source).status == 200, source
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy


def test_the_stylesheets_load_nothing_from_elsewhere(live: LiveServer):
    for path in ("/static/healthcare/landing.css", "/static/healthcare/docs.css", "/static/healthcare/docs.js"):
        assert not re.search(rb"https?://|@import", live.call("GET", path).body)


def test_the_documentation_shows_the_schema_of_this_server(client: Client):
    assert 'data-schema="/api/schema/"' in client.get("/api/docs/").content.decode()


@pytest.mark.parametrize("path", NO_DATABASE)
def test_a_page_asks_nothing_of_the_database(client: Client, django_assert_num_queries: Callable, path: str):
    with django_assert_num_queries(0):  # not even the BEGIN of a transaction
        assert client.get(path).status_code == 200


def test_a_process_is_alive(client: Client):
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_process_is_ready(client: Client):
    assert client.get("/readyz").json() == {"status": "ok"}


def test_a_process_is_not_ready_while_a_migration_is_missing(client: Client):
    MigrationRecorder(connection).record_unapplied("patients", "0001_initial")
    answer = client.get("/readyz")
    assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")
    assert answer["Retry-After"] == "5"
    assert answer.json()["failed"] == ["migrations"]
    assert answer.json()["detail"] == "The database lacks migrations; run `python3 manage.py migrate`."
    assert answer.json()["request_id"] == answer["X-Request-Id"]


@pytest.mark.parametrize(
    ("sent", "page"),
    [
        ("/admin", "/admin/"),
        ("/admin/patients/patient?age=3&q=%C3%BC", "/admin/patients/patient/?age=3&q=%C3%BC"),
        ("/admin/login?next=/admin/", "/admin/login/?next=/admin/"),
        ("/api", "/api/"),
        ("/api/docs", "/api/docs/"),
        ("/api/schema?format=yaml", "/api/schema/?format=yaml"),
        ("/docs", "/api/docs/"),
        ("/docs/", "/api/docs/"),
        ("/swagger", "/api/docs/"),
        ("/redoc/", "/api/docs/"),
        ("/schema/", "/api/schema/"),
        ("/openapi.json", "/api/schema/?format=json"),
        ("/openapi.yaml", "/api/schema/?format=yaml"),
        ("/api/openapi.json", "/api/schema/?format=json"),
        ("/favicon.ico", "/static/healthcare/icon.svg"),
    ],
)
def test_a_browser_is_sent_to_the_page_that_it_means(client: Client, staff: User, sent: str, page: str):
    client.force_login(staff)
    for method in ("get", "head"):
        answer = getattr(client, method)(sent, HTTP_ACCEPT=BROWSER)
        assert (answer.status_code, answer["Location"]) == (302, page)
    assert client.post(sent, "{}", content_type="application/json").status_code in {403, 404}


@pytest.mark.parametrize(
    "path", ["/api/patients", "/api/doctors", "/api/doctors/1", "/api/auth/login", "/nothing", "/admin/nothing"]
)
def test_no_other_path_is_redirected(client: Client, staff: User, path: str):
    client.force_login(staff)
    answer = client.get(path, HTTP_ACCEPT=BROWSER)
    assert answer.status_code == 404
    if path.startswith("/api/"):
        assert answer.json()["detail"] == f"Every path ends in a slash: send this to {path}/ instead."


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "[2001:db8::1]:8000", "pod-7", "a_b", "", "..", "evil.example"])
def test_a_health_check_answers_for_any_host(client: Client, path: str, host: str):
    assert client.get(path, HTTP_HOST=host).status_code == 200
    assert client.get("/api/", HTTP_HOST=host).status_code == 400


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("path", ["/", "/api/doctors/", "/api/docs/"])
def test_an_unknown_host_names_the_variable_in_the_log_and_with_debug_in_the_answer(
    client: Client, settings: Any, caplog: pytest.LogCaptureFixture, path: str, debug: bool
):
    settings.DEBUG = debug
    answer = client.get(path, HTTP_HOST="k4n4ry.example")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert ("ALLOWED_HOSTS" in answer.json()["detail"]) == debug
    assert "Host" in answer.json()["detail"]
    assert "add it there if this server should answer to it" in caplog.text
    assert "k4n4ry" not in caplog.text + answer.content.decode()
