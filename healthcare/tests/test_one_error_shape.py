"""Whatever raises, wherever: a problem with a request id, a line in the log, and no word of the exception."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from healthcare.tests.crash import eventually
from healthcare.tests.live import LiveServer, serving
from healthcare.tests.raising_settings import CANARY, EXCEPTIONS

pytestmark = pytest.mark.slow

PLACES = [
    "signal",
    *(
        f"{place} {when}"
        for place, when in product(("outside", "inside", "innermost"), ("before", "after", "view", "stream"))
    ),
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "output"


@pytest.fixture(scope="module", params=["False", "True"], ids=["production", "debug"])
def raising(request: pytest.FixtureRequest, live_server_process: LiveServer, output: Path) -> Iterator[LiveServer]:
    with serving(
        live_server_process.database_url,
        output=output,
        migrated=True,
        DJANGO_SETTINGS_MODULE="healthcare.tests.raising_settings",
        DEBUG=request.param,
    ) as started:
        yield started


def logged_lines(output: Path, request_id: str) -> list[tuple[str, str]]:
    """The route and the status in each line of a request in the access log."""
    line = rf"healthcare\.access method=GET route=(\S+) status=(\d+) .* request_id={request_id} "
    return re.findall(line, output.read_text())


@pytest.mark.parametrize("path", ["/api/doctors/", "/admin/login/", "/nothing/"])
def test_an_exception_anywhere_is_a_problem_and_one_line_in_the_log(raising: LiveServer, output: Path, path: str):
    for place, exception in product(PLACES, EXCEPTIONS):
        if path == "/nothing/" and place.endswith("view"):
            continue  # there is no view
        answer = raising.call("GET", path, X_Raise_In=place, X_Raise=exception)
        case = f"{exception} in {place}"
        assert (answer.status, answer.headers["Content-Type"]) == (500, "application/problem+json"), case
        assert answer.json["request_id"] == answer.headers["X-Request-Id"], case
        assert answer.headers["Cache-Control"] == "no-store", case
        log = output.read_text()
        assert CANARY not in log + answer.body.decode(), case
        [logged] = re.findall(rf"ERROR healthcare.errors unhandled.* request_id={answer.json['request_id']}\n(.*)", log)
        assert logged == f"builtins.{exception}", case
        eventually(partial(logged_lines, output, answer.json["request_id"]))  # the line may follow the answer
        # The route is that of the path, as in the metrics, even if no view has been looked up.
        route = "other" if path == "/nothing/" else path
        assert logged_lines(output, answer.json["request_id"]) == [(route, "500")], case
        assert raising.call("GET", path).status in {200, 404}, case
