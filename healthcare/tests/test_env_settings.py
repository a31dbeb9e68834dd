"""Settings: an invalid value stops the start with one sentence that names its variable."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from healthcare import env_settings

STRONG = "Zq8-" * 20
BAD = [
    *(("DEBUG", value) for value in ("perhaps", "2")),
    ("HTTPS", "maybe"),
    *(("SECRET_KEY", value) for value in ("", "change-me", "ab" * 40, f"django-insecure-{STRONG}")),
    *(("ALLOWED_HOSTS", value) for value in ("", "*", "api.example.org,*")),
    *(("DATABASE_URL", value) for value in ("sqlite:///db.sqlite3", "mysql://u:hidden-word@h/d", "hidden-word")),
    *(("DATABASE_URL", f"postgres://u:hidden{rest}") for rest in ("-word@h:port/d", "-word@h", "[word@h/d")),
    ("JWT_SIGNING_KEY", "hidden-word"),
    *(("TRUSTED_PROXIES", value) for value in ("-1", "11", "one")),
    *(("CORS_ALLOWED_ORIGINS", value) for value in ("*", "https://a.example/path", "https://*.example")),
    *(("CSRF_TRUSTED_ORIGINS", value) for value in ("a.example", "ftp://a.example")),
    *(("ACCESS_TOKEN_MINUTES", value) for value in ("0", "1.5")),
    *(("SESSION_HOURS", value) for value in ("9" * 30, "\u0663")),
    *(("THROTTLE_SCALE", value) for value in ("0", "1e3")),
    *(("RATE_LIMIT", value) for value in ("-1", "many")),
]


def start(variable: str, value: str) -> "subprocess.CompletedProcess[str]":
    """Run `django check` with this value and otherwise valid ones."""
    good = {
        "SECRET_KEY": STRONG[1:] + "k3y",
        "DEBUG": "False",
        "ALLOWED_HOSTS": "localhost",
        "DATABASE_URL": "embedded:",
    }
    command = [sys.executable, "-m", "django", "check"]
    environment = {**os.environ, **good, "DJANGO_SETTINGS_MODULE": "healthcare.settings", variable: value}
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def starts() -> dict[tuple[str, str], "subprocess.CompletedProcess[str]"]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(BAD, pool.map(lambda pair: start(*pair), BAD), strict=True))


@pytest.mark.parametrize(("variable", "value"), BAD, ids=lambda text: text[:30] or "empty")
def test_a_bad_value_stops_the_start_with_one_sentence(
    variable: str, value: str, starts: dict[tuple[str, str], "subprocess.CompletedProcess[str]"]
) -> None:
    ended = starts[variable, value]
    assert ended.returncode != 0
    kind, _, sentence = ended.stderr.strip().splitlines()[-1].partition(": ")
    assert kind == "django.core.exceptions.ImproperlyConfigured"
    assert sentence.startswith(variable)
    assert sentence.endswith(".")
    assert len(value) < 9 or value not in sentence
    assert "hidden" not in sentence


def test_good_values_start() -> None:
    ended = start("CORS_ALLOWED_ORIGINS", "https://app.example.org, http://localhost:3000")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("value", "read"), [("True", True), ("on", True), ("1", True), (" no ", False), ("OFF", False)]
)
def test_a_yes_or_a_no_may_be_written_in_the_usual_ways(
    value: str, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARIABLE", value)
    assert env_settings.boolean("VARIABLE", default=not read) is read


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIABLE", "  ")
    assert env_settings.boolean("VARIABLE", default=True) is True
    assert env_settings.whole("VARIABLE", 7, least=1, most=9) == 7
    assert env_settings.comma_separated("VARIABLE") == env_settings.origins("VARIABLE") == []
    assert env_settings.database("VARIABLE")["ENGINE"].endswith("embedded")


def test_the_bounds_of_a_number_are_themselves_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("1", "9"):
        monkeypatch.setenv("VARIABLE", value)
        assert env_settings.whole("VARIABLE", 5, least=1, most=9) == int(value)
    monkeypatch.setenv("VARIABLE", "10")
    with pytest.raises(
        ImproperlyConfigured, match="^VARIABLE is not a whole number from 1 to 9; write VARIABLE=5, for example.$"
    ):
        env_settings.whole("VARIABLE", 5, least=1, most=9)
