"""Logs contain route templates and request ids; never a path, a query, a body or an exception's text."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.limits import account_key
from accounts.models import User
from accounts.personal_tokens.format import new_token_secret, write_token
from accounts.personal_tokens.rules import create_token
from conftest import LoggedInClient
from healthcare.api.tests import views_that_fail
from healthcare.api.tests.views_that_fail import FAILURES, SECRET
from healthcare.operations.logs import JSONFormatter, SafeFormatter, SafeHandler
from patients.tests.factories import make_patient

ACCESS_KEYS = [
    "time", "level", "logger", "method", "route", "status", "duration_us", "queue_us", "bytes", "worker", "caller",
    "request_id", "trace_id", "sqlstate", "path",
]  # fmt: skip
FORMATTERS = {"text": SafeFormatter, "json": JSONFormatter}


class Log(io.StringIO):
    """Everything that reaches the root logger, through the formatter that production uses."""

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    def objects(self, logger: str = "") -> list[dict[str, Any]]:
        """The lines of a logger, which are JSON."""
        found: list[dict[str, Any]] = [json.loads(line) for line in self.lines]
        return [line for line in found if not logger or line["logger"] == logger]

    def access(self) -> dict[str, Any]:
        (line,) = self.objects("healthcare.access")
        return line


@pytest.fixture
def make_log() -> Iterator[Callable[[str], Log]]:
    root, handlers = logging.getLogger(), []

    def make(name: str) -> Log:
        log = Log()
        handler = logging.StreamHandler(log)
        handler.setFormatter(FORMATTERS[name]())
        handlers.append(handler)
        root.addHandler(handler)
        return log

    yield make
    for handler in handlers:
        root.removeHandler(handler)


@pytest.fixture
def json_log(make_log: Callable[[str], Log]) -> Log:
    return make_log("json")


@pytest.fixture(params=FORMATTERS)
def log(request: pytest.FixtureRequest, make_log: Callable[[str], Log]) -> Log:
    return make_log(request.param)


def test_a_line_of_text_has_the_template_and_neither_the_id_nor_the_query(
    as_alice: LoggedInClient, make_log: Callable[[str], Log]
) -> None:
    log = make_log("text")
    answer = as_alice.patch(f"/api/patients/424242/?name={SECRET}", {"name": SECRET})
    (line,) = log.lines
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z INFO healthcare\.access method=PATCH route=/api/patients/{id}/ "
        rf"status=400 duration_us=\d+ queue_us=- bytes={len(answer.content)} worker=\d+ caller=[0-9a-f]{{64}} "
        rf"request_id={answer.headers['X-Request-Id']} trace_id=- sqlstate=- path=standard",
        line,
    )
    assert SECRET not in line
    assert "424242" not in line


def test_a_line_of_json_has_these_members_and_no_others(as_alice: LoggedInClient, alice: User, json_log: Log) -> None:
    answer = as_alice.get("/api/patients/424242/")
    line = json_log.access()
    assert list(line) == ACCESS_KEYS
    assert datetime.fromisoformat(line["time"]).tzinfo == UTC
    assert line["time"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/patients/{id}/", 404)
    assert line["bytes"] == len(answer.content)
    assert line["caller"] == account_key("", alice)
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert type(line["duration_us"]) is type(line["worker"]) is int
    assert [line[key] for key in ("queue_us", "trace_id", "sqlstate")] == [None] * 3


@pytest.mark.django_db(transaction=True)
def test_an_answer_names_the_error_of_the_database_that_was_overcome(
    as_alice: LoggedInClient, alice: User, json_log: Log, settings: Settings
) -> None:
    settings.FAST_PATH = "on"
    path = f"/api/patients/{make_patient(alice).pk}/"
    for _ in range(3):
        assert as_alice.get(path).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")  # as a pooler does
    json_log.truncate(json_log.seek(0))
    for _ in range(2):
        assert as_alice.get(path).status_code == 200
    lines = json_log.objects("healthcare.access")
    assert [(line["status"], line["path"], line["sqlstate"]) for line in lines] == [
        (200, "fast", "26000"), (200, "fast", None),
    ]  # fmt: skip


@pytest.mark.django_db
def test_a_caller_without_a_valid_token_is_null(json_log: Log) -> None:
    APIClient().get("/api/doctors/", HTTP_AUTHORIZATION="Bearer nonsense")
    assert json_log.access()["caller"] is None


@pytest.mark.parametrize("limit", [0, 6000])
def test_the_caller_is_the_same_with_and_without_a_rate_limit(
    as_alice: LoggedInClient, alice: User, json_log: Log, settings: Settings, limit: int
) -> None:
    settings.RATE_LIMIT = limit
    as_alice.get("/api/patients/")
    assert json_log.access()["caller"] == account_key("", alice)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/patients/", "/api/auth/me/"])
def test_a_personal_access_token_names_its_user_from_the_first_request_on(
    alice: User, json_log: Log, path: str
) -> None:
    token = create_token(alice, name="Export", scope="read").text
    client = APIClient()
    for _ in range(2):
        assert client.get(path, HTTP_AUTHORIZATION=f"Bearer {token}").status_code == 200
    forged = write_token(1, alice.pk, new_token_secret())
    assert client.get(path, HTTP_AUTHORIZATION=f"Bearer {forged}").status_code == 401
    callers = [line["caller"] for line in json_log.objects("healthcare.access")]
    assert callers == [account_key("", alice)] * 2 + [None]


def test_a_caller_of_the_admin_is_named_as_one_of_the_api(staff: User, json_log: Log) -> None:
    client = Client()
    client.force_login(staff)
    json_log.truncate(json_log.seek(0))
    assert client.get("/admin/").status_code == 200
    assert json_log.access()["caller"] == account_key("", staff)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/doctors/", "/healthz", "/static/healthcare/icon.svg", "/", "/admin/login/"])
def test_the_bytes_are_those_of_the_body(json_log: Log, path: str) -> None:
    client = Client()
    answer: Any = client.get(path)
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    assert json_log.access()["bytes"] == len(body) > 0
    json_log.truncate(json_log.seek(0))
    b"".join(client.head(path))
    assert json_log.access()["bytes"] == 0


@pytest.mark.django_db
@pytest.mark.parametrize("path", [f"/{SECRET}/", f"/api/patients/{SECRET}/", f"/api/auth/login?password={SECRET}"])
def test_an_unknown_path_is_not_logged(path: str, json_log: Log) -> None:
    APIClient().get(path, HTTP_HOST="localhost", HTTP_USER_AGENT=SECRET)
    line = json_log.access()
    assert (line["method"], line["route"], line["status"]) == ("GET", "other", 404)
    assert SECRET not in json_log.getvalue()


@pytest.mark.django_db
def test_an_unknown_method_or_host_is_not_logged(json_log: Log) -> None:
    client = APIClient()
    client.generic(f"{SECRET}\n", "/api/doctors/")
    assert client.get("/api/doctors/", HTTP_HOST=SECRET).status_code == 400
    lines = json_log.objects("healthcare.access")
    assert [(line["method"], line["route"]) for line in lines] == [(None, "/api/doctors/"), ("GET", "/api/doctors/")]
    assert SECRET not in json_log.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("prefix", ["/api/fails", "/plain"])
def test_no_failure_puts_its_text_into_the_log(name: str, prefix: str, log: Log, settings: Settings) -> None:
    settings.ROOT_URLCONF = views_that_fail.__name__
    answer = APIClient(raise_request_exception=False).get(f"{prefix}/{name}/")
    assert SECRET not in log.getvalue()
    assert (answer.status_code == 500) == ("unhandled" in log.getvalue())


@pytest.mark.django_db
def test_a_defect_is_logged_with_its_types_its_frames_and_the_request_id(
    make_log: Callable[[str], Log], settings: Settings
) -> None:
    text, objects = make_log("text"), make_log("json")
    settings.ROOT_URLCONF = views_that_fail.__name__
    answer = APIClient(raise_request_exception=False).get("/api/fails/defect/")
    request_id = answer.headers["X-Request-Id"]
    assert f"ERROR healthcare.errors unhandled request_id={request_id}\nbuiltins.KeyError" in text.getvalue()
    assert re.search(r"\nbuiltins.ValueError\n  \S*views_that_fail\.py:\d+ in cause\n", text.getvalue())
    [line] = objects.objects("healthcare.errors")
    assert (line["level"], line["message"], line["request_id"]) == ("ERROR", "unhandled", request_id)
    assert [one["type"] for one in line["exception"]] == ["builtins.KeyError", "builtins.ValueError"]
    assert re.fullmatch(r"healthcare/api/tests/views_that_fail\.py:\d+ in cause", line["exception"][1]["frames"][-1])


def format_record(formatter: logging.Formatter, message: str, *arguments: object, **members: Any) -> str:
    record = logging.LogRecord("library", logging.ERROR, "", 0, message, arguments, None)
    vars(record).update(members)
    return formatter.format(record)


def raised(error: BaseException) -> Any:
    try:
        raise error
    except BaseException as caught:
        return type(caught), caught, caught.__traceback__


def test_a_text_that_another_handler_has_cached_is_not_used() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), raised(ValueError(SECRET)))
    assert SECRET in logging.Formatter().format(record)
    for formatter in FORMATTERS.values():
        assert SECRET not in formatter().format(record)


@pytest.mark.parametrize("name", FORMATTERS)
@pytest.mark.parametrize(
    "text", ["a\nERROR forged", "a\r\nb", "a\x1b[31mb", "a\x00b", "a\x85b", "a\u2028b", "a\udc80b", "a\x7fb", '"}\n{']
)
def test_a_message_cannot_break_or_forge_a_line(name: str, text: str) -> None:
    line = format_record(FORMATTERS[name](), "got %s", text)
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", line)
    line.encode()
    if name == "json":
        assert line.isascii()
        json.loads(line)["message"].encode()


def test_a_long_message_or_traceback_fits_into_a_pipe_in_one_piece() -> None:
    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise RecursionError(SECRET)

    try:
        recurse(500)
    except RecursionError as error:
        info: Any = (type(error), error, error.__traceback__)
    line = format_record(JSONFormatter(), "x" * 100_000, exc_info=info)
    assert len(line) < 4096
    assert json.loads(line)["exception"][0]["frames"][-1].endswith(" in recurse")


def test_a_group_of_exceptions_and_a_loop_of_causes_are_described_once() -> None:
    one, other = ValueError(SECRET), KeyError(SECRET)
    one.__cause__, other.__cause__ = other, one
    line = format_record(JSONFormatter(), "failed", exc_info=raised(ExceptionGroup(SECRET, [one, other])))
    types = [described["type"] for described in json.loads(line)["exception"]]
    assert types == ["builtins.ExceptionGroup", "builtins.ValueError", "builtins.KeyError"]
    assert SECRET not in line


@pytest.mark.parametrize("formatter", FORMATTERS.values())
def test_a_record_that_cannot_be_formatted_does_not_repeat_its_arguments(
    formatter: type[logging.Formatter], capsys: pytest.CaptureFixture[str]
) -> None:
    handler = SafeHandler()
    handler.setFormatter(formatter())
    handler.handle(logging.LogRecord("library", logging.INFO, "", 0, "%d patients", (SECRET,), None))
    written = capsys.readouterr().err
    assert "A record of this logger cannot be formatted." in written
    assert "library" in written
    assert SECRET not in written
    assert len(written.splitlines()) == 1
