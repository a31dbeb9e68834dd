"""Settings: an invalid value stops the start with one sentence that names its variable."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from healthcare import env_settings
from healthcare.env_settings import MailServer

pytestmark = pytest.mark.slow

STRONG = "qX7mVd2_Lk9Rt4BzYc1NwHs8-Gf6JpEa3UoTi5QvMbKxDnWyZ0rC"
BAD = [
    *(("DEBUG", value) for value in ("perhaps", "2")),
    ("HTTPS", "maybe"),
    *(("SECRET_KEY", value) for value in ("", "change-me", "ab" * 40, f"django-insecure-{STRONG}")),
    *(("ALLOWED_HOSTS", value) for value in ("", "*", "api.example.org,*")),
    *(("DATABASE_URL", value) for value in ("sqlite:///db.sqlite3", "mysql://u:hidden-word@h/d", "hidden-word")),
    *(
        ("DATABASE_URL", f"postgres://u:hidden{rest}")
        for rest in ("-word@h:port/d", "-word@h1:1,h2:port/d", "-word@h", "[word@h/d")
    ),
    *(
        ("DATABASE_REPLICA_URL", value)
        for value in ("sqlite:///db.sqlite3", "hidden-word", "embedded:", "embedded:///x")
    ),
    *(("DATABASE_REPLICA_URL", f"postgres://u:hidden-word@{rest}") for rest in ("h:port/d", "h1:1,h2:port/d", "h")),
    ("JWT_SIGNING_KEY", "hidden-word"),
    ("OTP_KEY", "hidden-word"),
    *(("TRUSTED_PROXIES", value) for value in ("-1", "11", "one")),
    *(("CORS_ALLOWED_ORIGINS", value) for value in ("*", "https://a.example/path", "https://*.example")),
    *(("CSRF_TRUSTED_ORIGINS", value) for value in ("a.example", "ftp://a.example")),
    *(("ACCESS_TOKEN_MINUTES", value) for value in ("0", "1.5")),
    *(("SESSION_HOURS", value) for value in ("9" * 30, "\u0663")),
    *(("SESSION_IDLE_HOURS", value) for value in ("0", "2161", "-1")),
    ("HSTS_SUBDOMAINS", "maybe"),
    *(("HSTS_PRELOAD", value) for value in ("maybe", "True")),
    *(("BODY_SECONDS", value) for value in ("0", "601", "1.5")),
    *(("METRICS", value) for value in ("yes", "0", "65536", "::1:9100", "[::1", "10.0.0.1:", "a b:9100", "\u0663")),
    *(("THROTTLE_SCALE", value) for value in ("0", "1e3")),
    *(("LOG_FORMAT", value) for value in ("xml", "text,json")),
    *(("RATE_LIMIT", value) for value in ("-1", "many")),
    ("REGISTRATION", "invited"),
    ("CLINICS", "nobody"),
    *(
        ("EMAIL_URL", value)
        for value in (
            "hidden-word",
            "imap://h",
            "smtp://",
            "smtp://h:port",
            "smtp://h/hidden-word",
            "console:",
            "file:",
        )
    ),
    *(("EMAIL_URL", f"smtp{rest}://user:hidden-word@h") for rest in ("", "s", "+tls")),
    *(
        ("EMAIL_URL", f"submission://h?{options}")
        for options in ("ssl=hidden-word", "ssl=False", "timeout=5", "ssl=True&tls=True", "_default_from_email=a@b")
    ),
    *(("REQUIRE_VERIFIED_EMAIL", value) for value in ("maybe", "True")),
    ("PASSWORD_RESET_ENDS_TOKENS", "maybe"),
    *(("PASSWORD_RESET_MINUTES", value) for value in ("4", "1441")),
    *(("EMAIL_VERIFY_HOURS", value) for value in ("0", "721")),
    *(("PUBLIC_URL", value) for value in ("a.example.org", "http://a.example.org", "ftp://h", "https://")),
    *(("PUBLIC_URL", f"https://h{rest}") for rest in ("?a=hidden", "#hidden", ":0", ":port", "/a b", "/a//b", "@h")),
]


# Runs `django check` once for each pair of a variable and a value that it reads, and prints the exit statuses. The
# packages that the settings import are loaded once and inherited by the forks; each reads the settings anew.
CHECKS = """
import json, os, sys
import corsheaders.defaults, dj_database_url, dotenv, pghistory, tomllib
from django.core.management import execute_from_command_line
import healthcare.env_settings

statuses = []
for number, (variable, value) in enumerate(json.load(sys.stdin)):
    if not os.fork():
        assert "healthcare.settings" not in sys.modules
        os.environ[variable] = value
        os.dup2(os.open(os.path.join(sys.argv[1], str(number)), os.O_CREAT | os.O_WRONLY), 2)
        execute_from_command_line(["django", "check"])
        sys.exit()
    statuses.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(json.dumps(statuses))
"""
GOOD = ("CORS_ALLOWED_ORIGINS", "https://app.example.org, http://localhost:3000")


@dataclass
class Ended:
    status: int
    errors: str


def test_hsts_covers_subdomains_and_preload_lists_when_both_are_set() -> None:
    print_settings = (
        "from healthcare import settings as s; print(s.SECURE_HSTS_INCLUDE_SUBDOMAINS, s.SECURE_HSTS_PRELOAD)"
    )
    for subdomains, preload in (("True", "True"), ("True", "False"), ("False", "False")):
        environment = os.environ | {"HSTS_SUBDOMAINS": subdomains, "HSTS_PRELOAD": preload, "HTTPS": "True"}
        command = [sys.executable, "-c", print_settings]
        shown = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)
        assert shown.stdout == f"{subdomains} {preload}\n", shown.stderr


def test_the_earlier_secret_key_as_otp_key_keeps_the_second_factors() -> None:
    print_key = "from healthcare import settings as s; print(s.OTP_KEY.hex())"

    def key(**environment: str) -> str:
        command = [sys.executable, "-c", print_key]
        variables = os.environ | environment
        shown = subprocess.run(command, cwd=settings.BASE_DIR, env=variables, capture_output=True, text=True)
        return shown.stdout.strip()

    earlier, later = STRONG + "k3y", STRONG[::-1] + "k3y"
    kept = key(SECRET_KEY=earlier, OTP_KEY="")
    assert len(kept) == 128
    assert key(SECRET_KEY=later, OTP_KEY=earlier) == kept
    assert key(SECRET_KEY=later, OTP_KEY="") != kept


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Ended]:
    """How Django ended that was started with one of these values and otherwise valid ones."""
    folder = tmp_path_factory.mktemp("starts")
    valid = {
        "SECRET_KEY": STRONG[1:] + "k3y",
        "DEBUG": "False",
        "ALLOWED_HOSTS": "localhost",
        "DATABASE_URL": "embedded:",
        "DJANGO_SETTINGS_MODULE": "healthcare.settings",
    }
    pairs = [*BAD, GOOD]
    done = subprocess.run(
        [sys.executable, "-c", CHECKS, folder],
        cwd=settings.BASE_DIR, env={**os.environ, **valid}, input=json.dumps(pairs), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout.splitlines()[-1])
    errors = [(folder / str(number)).read_text(encoding="utf-8") for number in range(len(pairs))]
    return {pair: Ended(*ended) for pair, *ended in zip(pairs, statuses, errors, strict=True)}


@pytest.mark.parametrize(("variable", "value"), BAD, ids=lambda text: text[:30] or "empty")
def test_a_bad_value_stops_the_start_with_one_sentence(
    variable: str, value: str, starts: dict[tuple[str, str], Ended]
) -> None:
    ended = starts[variable, value]
    assert ended.status != 0
    kind, _, sentence = ended.errors.strip().splitlines()[-1].partition(": ")
    assert kind == "django.core.exceptions.ImproperlyConfigured"
    assert sentence.startswith(variable)
    assert sentence.endswith(".")
    assert len(value) < 9 or value not in sentence
    assert "hidden" not in sentence


def test_good_values_start(starts: dict[tuple[str, str], Ended]) -> None:
    assert starts[GOOD] == Ended(0, "")


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


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://ada:p%40ss@mail.example.org?ssl=True", MailServer("mail.example.org", 465, "ada", "p@ss", tls=True)),
        ("smtp://ada:pw@mail.example.org:4465?ssl=1", MailServer("mail.example.org", 4465, "ada", "pw", tls=True)),
        ("smtp://ada:pw@mail.example.org?tls=True", MailServer("mail.example.org", 25, "ada", "pw", starttls=True)),
        ("submission://mail.example.org", MailServer("mail.example.org", 587, starttls=True)),
        ("smtp://10.0.0.1:2525/", MailServer("10.0.0.1", 2525)),
        ("", MailServer()),
    ],
)
def test_a_mail_server_is_written_as_a_url(url: str, expected: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_URL", url)
    read = env_settings.mail_server("EMAIL_URL", debug=False)
    assert read == expected
    assert read.is_configured is bool(url)


@pytest.mark.parametrize("url", ["", "console:"])
def test_while_developing_emails_are_written_to_the_console(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_URL", url)
    read = env_settings.mail_server("EMAIL_URL", debug=True)
    assert read.is_configured
    assert read.backend == "django.core.mail.backends.console.EmailBackend"


def test_smtps_which_mail_programs_disagree_about_names_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_URL", "smtps://user:hidden@mail.example.org")
    with pytest.raises(ImproperlyConfigured) as raised:
        env_settings.mail_server("EMAIL_URL", debug=True)
    assert "submission://user:password@mail.example.org for STARTTLS" in str(raised.value)
    assert "smtp://user:password@mail.example.org?ssl=True" in str(raised.value)


def test_a_verified_email_can_be_required_where_emails_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_VERIFIED_EMAIL", "True")
    assert env_settings.verified_email("REQUIRE_VERIFIED_EMAIL", configured=True) is True
    with pytest.raises(ImproperlyConfigured, match="^REQUIRE_VERIFIED_EMAIL needs a server that sends e-mails; set"):
        env_settings.verified_email("REQUIRE_VERIFIED_EMAIL", configured=False)


@pytest.mark.parametrize(
    ("url", "debug", "expected"),
    [
        ("https://app.example.org", False, "https://app.example.org"),
        ("https://example.org:8443/clinic/a/", False, "https://example.org:8443/clinic/a"),
        ("http://localhost:3000/", True, "http://localhost:3000"),
        ("http://[::1]:3000", True, "http://[::1]:3000"),
        ("", False, ""),
    ],
)
def test_the_front_end_is_an_address_with_an_optional_path(
    url: str, debug: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_URL", url)
    assert env_settings.public_url("PUBLIC_URL", debug=debug) == expected


@pytest.mark.parametrize(
    ("sender", "needed"),
    [("", True), ("clinic", True), ("a@b\nBcc: c@example.org", True), ("clinic", False)],
)
def test_a_sender_is_an_address_and_a_mail_server_needs_one(
    sender: str, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAIL_FROM", sender)
    with pytest.raises(ImproperlyConfigured, match="EMAIL_FROM must be the address"):
        env_settings.sender("EMAIL_FROM", needed=needed)


@pytest.mark.parametrize("sender", ["", "clinic@example.org"])
def test_without_a_mail_server_the_sender_may_be_set_or_not(sender: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_FROM", sender)
    assert env_settings.sender("EMAIL_FROM", needed=False) == (sender or "healthcare@localhost")


def test_a_session_takes_any_standby(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICA", "")
    assert env_settings.replica("REPLICA") == {}
    monkeypatch.setenv("REPLICA", "postgres://u:p@h1:5433,h2/d")
    config = env_settings.replica("REPLICA")["replica"]
    assert (config["HOST"], config["PORT"], config["ATOMIC_REQUESTS"]) == ("h1,h2", "5433,5432", False)
    assert (config["OPTIONS"]["target_session_attrs"], config["OPTIONS"]["load_balance_hosts"]) == ("standby", "random")
    monkeypatch.setenv(
        "REPLICA", "postgres://u:p@h1,h2/d?target_session_attrs=prefer-standby&load_balance_hosts=disable"
    )
    options = env_settings.replica("REPLICA")["replica"]["OPTIONS"]
    assert (options["target_session_attrs"], options["load_balance_hosts"]) == ("prefer-standby", "disable")
