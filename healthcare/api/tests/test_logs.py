"""Logs contain route templates and request ids; never a path, a query, a body or an exception's text."""

import io
import logging
import re
from collections.abc import Iterator

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from conftest import LoggedInClient
from healthcare.api.logs import SafeFormatter
from healthcare.api.tests import views_that_fail
from healthcare.api.tests.views_that_fail import FAILURES, SECRET


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that reaches the root logger, through the formatter that production uses."""
    written, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(written)
    handler.setFormatter(SafeFormatter())
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)


def test_the_access_log_has_the_template_and_neither_the_id_nor_the_query(
    as_alice: LoggedInClient, log: io.StringIO
) -> None:
    answer = as_alice.patch(f"/api/patients/424242/?name={SECRET}", {"name": SECRET})
    (line,) = log.getvalue().splitlines()
    end = re.escape(f"path=standard request_id={answer.headers['X-Request-Id']}")
    assert re.search(rf"INFO healthcare\.access PATCH /api/patients/<int:pk>/ 400 \d+ ms {end}$", line)
    assert SECRET not in line
    assert "424242" not in line


@pytest.mark.django_db
@pytest.mark.parametrize("path", [f"/{SECRET}/", f"/api/patients/{SECRET}/", f"/api/auth/login?password={SECRET}"])
def test_an_unknown_path_is_not_logged(path: str, log: io.StringIO) -> None:
    APIClient().get(path, HTTP_HOST="localhost", HTTP_USER_AGENT=SECRET)
    assert re.search(r"INFO healthcare\.access GET /- 404 ", log.getvalue())
    assert SECRET not in log.getvalue()


@pytest.mark.django_db
def test_an_unknown_method_or_host_is_not_logged(log: io.StringIO) -> None:
    client = APIClient()
    client.generic(f"{SECRET}\n", "/api/doctors/")
    assert client.get("/api/doctors/", HTTP_HOST=SECRET).status_code == 400
    accesses = [line.partition("healthcare.access ")[2][:5] for line in log.getvalue().splitlines()]
    assert [access for access in accesses if access] == ["- /ap", "GET /"]
    assert SECRET not in log.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("prefix", ["/api/fails", "/plain"])
def test_no_failure_puts_its_text_into_the_log(name: str, prefix: str, log: io.StringIO, settings: Settings) -> None:
    settings.ROOT_URLCONF = views_that_fail.__name__
    answer = APIClient(raise_request_exception=False).get(f"{prefix}/{name}/")
    assert SECRET not in log.getvalue()
    assert (answer.status_code == 500) == ("unhandled" in log.getvalue())


@pytest.mark.django_db
def test_a_defect_is_logged_with_its_types_its_frames_and_the_request_id(log: io.StringIO, settings: Settings) -> None:
    settings.ROOT_URLCONF = views_that_fail.__name__
    answer = APIClient(raise_request_exception=False).get("/api/fails/defect/")
    text = log.getvalue()
    assert f"ERROR healthcare.errors unhandled request_id={answer.headers['X-Request-Id']}" in text
    assert text.index("builtins.KeyError") < text.index("builtins.ValueError")
    assert re.search(r"views_that_fail\.py:\d+ in cause", text)


def test_a_text_that_another_handler_has_cached_is_not_used(log: io.StringIO) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), (ValueError, error, error.__traceback__))
    assert SECRET in logging.Formatter().format(record)
    assert SECRET not in SafeFormatter().format(record)
