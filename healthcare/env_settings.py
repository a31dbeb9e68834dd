"""Strict parsing of environment variables: an invalid value raises ImproperlyConfigured with one sentence."""

import itertools
import os
import re
import unicodedata
import zoneinfo
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dj_email_url
from django.core.exceptions import ImproperlyConfigured

import healthcare.embedded  # noqa: F401  (registers the scheme `embedded`)
from healthcare.generated_key import key_file, load_or_create_key
from healthcare.postgresql.url import InvalidURLError, parse_url

TRUE = {"true", "1", "yes", "on"}
FALSE = {"false", "0", "no", "off"}
# Our example, those of startproject, of jwt.io and of many tutorials, in letters and digits alone. No random key
# contains one.
PUBLISHED_KEY = re.compile(
    "change(me|it|this)|replace(me|this|with)|insecure|(your|my|super|top|very|string|bit)secret|secretkey|placeholder"
    "|password|example"
)
# Scheme, host, port and path, without a user, a query or a fragment.
PUBLIC_URL_PATTERN = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?(/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*"
)
# Of libpq, in seconds, but for tcp_user_timeout, which is in milliseconds. The kernel's defaults keep a connection to a
# host that has vanished for 15 minutes while it sends, and for two hours while it waits.
CONNECTION_LIMITS = {
    "connect_timeout": 5,  # for each host
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
LISTEN_HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%\w+)?\]|[\w.-]*", re.ASCII)


def text(name: str, default: str = "") -> str:
    """Return the variable without surrounding whitespace. An empty one counts as unset."""
    return os.environ.get(name, "").strip() or default


def key(name: str) -> str:
    """Return a signing key, or an empty string if it is unset."""
    value = text(name)
    if value and (len(value) < 32 or is_guessable(value)):
        raise ImproperlyConfigured(
            f"{name} is too short or too easily guessed; give it at least 32 random characters or unset it."
        )
    return value


def is_guessable(value: str) -> bool:
    """Whether a key is a published example in any spelling, a few characters or a part repeated, or a row such as
    `abcdef`."""
    letters = re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", value).casefold())
    steps = {ord(second) - ord(first) for first, second in itertools.pairwise(value)}
    repeated = value in (value + value)[1:-1]
    return len(set(value)) < 8 or len(steps) < 8 or repeated or bool(PUBLISHED_KEY.search(letters))


def secret_key(name: str, *, debug: bool, database: dict[str, Any]) -> tuple[str, Path | None]:
    """Return the key, and the file it comes from if this server has generated it.

    With DEBUG=True a weak key such as that of .env.example is accepted but never signs: a random one does, which is
    stored beside the database so that it survives a restart. With DEBUG=False a weak key is refused.
    """
    value = text(name)
    if not value:
        raise ImproperlyConfigured(f"{name} is not set; copy .env.example to .env or let `manage.py serve` write one.")
    if len(value) >= 50 and not is_guessable(value):
        return value, None
    if not debug:
        raise ImproperlyConfigured(
            f"{name} is too weak for DEBUG=False; give it at least 50 random characters, for example what "
            "`python3 -c 'import secrets; print(secrets.token_urlsafe(50))'` prints."
        )
    try:
        file = key_file(database)
        return load_or_create_key(file), file
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(
            f"{name} is too weak to sign with, and no generated key can be stored beside the database; give it at "
            "least 50 random characters."
        ) from error


def hosts(name: str, *, named: bool) -> list[str]:
    found = comma_separated(name)
    if named and (not found or "*" in found):
        raise ImproperlyConfigured(
            f"{name} must name the hosts with DEBUG=False; write {name}=api.example.org, for example."
        )
    return found


def boolean(name: str, default: bool) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} is not a yes or a no; write {name}=True or {name}=False.")
    return value in TRUE


def hsts_preload(name: str, *, subdomains: bool) -> bool:
    preload = boolean(name, default=False)
    if preload and not subdomains:
        raise ImproperlyConfigured(f"{name} needs HSTS_SUBDOMAINS=True, as browsers' lists require; set both or none.")
    return preload


def verified_email(name: str, *, configured: bool) -> bool:
    """Whether logins need a verified e-mail, which nobody can have where no e-mails are sent."""
    required = boolean(name, default=False)
    if required and not configured:
        raise ImproperlyConfigured(f"{name} needs a server that sends e-mails; set EMAIL_URL as well, or unset it.")
    return required


def choice(name: str, default: str, words: set[str]) -> str:
    """One of these words, in lower case."""
    value = text(name, default).lower()
    if value not in words:
        raise ImproperlyConfigured(f"{name} must be one of these: {', '.join(sorted(words))}.")
    return value


def time_zone(name: str) -> str:
    """The name of a time zone, UTC by default."""
    value = text(name, "UTC")
    if value not in zoneinfo.available_timezones():
        raise ImproperlyConfigured(f"{name} is no time zone; write {name}=Asia/Kolkata, for example.")
    return value


def whole(name: str, default: int, least: int, most: int) -> int:
    value = text(name)
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 12 and least <= int(value) <= most):
        raise ImproperlyConfigured(
            f"{name} is not a whole number from {least} to {most}; write {name}={default}, for example."
        )
    return int(value)


def listen_address(name: str) -> str:
    """An address and port to listen on, or a port alone, which means this machine; empty if it is unset."""
    value = text(name)
    host, _, port = value.rpartition(":")
    valid_port = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
    if value and not (valid_port and LISTEN_HOST.fullmatch(host)):
        raise ImproperlyConfigured(
            f"{name} is not an address and port; write {name}=127.0.0.1:9100, {name}=[::1]:9100 or {name}=9100, for "
            "example."
        )
    return value


def days(name: str, default: int, least: int) -> timedelta:
    """A period of whole days."""
    return timedelta(days=whole(name, default, least=least, most=36_500))


def comma_separated(name: str, default: str = "") -> list[str]:
    """Parse a comma-separated list."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def origins(name: str) -> list[str]:
    """Parse comma-separated web origins (RFC 6454): scheme, host and port, no path."""
    found = comma_separated(name)
    for origin in found:
        scheme, separator, host = origin.partition("://")
        if scheme not in {"http", "https"} or not separator or not host or set(host) & set("/?#@* "):
            raise ImproperlyConfigured(
                f"{name} holds something that is not an origin; write {name}=https://app.example.org, for example."
            )
    return found


def database(name: str) -> dict[str, Any]:
    """Return Django's settings for the PostgreSQL that the variable names, by default the embedded one."""
    url = text(name, "embedded:")
    scheme = url.partition(":")[0]
    without = "the embedded PostgreSQL" if name == "DATABASE_URL" else "none"
    advice = f"write {name}=postgres://user:password@host:5432/healthcare, or unset it for {without}"
    if scheme not in {"postgres", "postgresql", "embedded"}:
        raise ImproperlyConfigured(f"{name} is not the URL of a PostgreSQL, the only database supported; {advice}.")
    try:
        # Server-side cursors do not survive PgBouncer's transaction pooling.
        config = parse_url(url, conn_max_age=600, conn_health_checks=True, disable_server_side_cursors=True)
    except InvalidURLError as error:
        raise ImproperlyConfigured(f"{name} {error}; {advice}.") from error
    if scheme != "embedded":
        config["ENGINE"] = "healthcare.postgresql"
    if not config["NAME"]:
        raise ImproperlyConfigured(f"{name} names no database; {advice}.")
    # History records application_name for changes that come from outside the API. manage.py sets it to the command.
    defaults = {**CONNECTION_LIMITS, "application_name": text("PGAPPNAME", "healthcare")}
    if "," in config["HOST"] or "," in str(config["OPTIONS"].get("hostaddr", "")):
        defaults["target_session_attrs"] = "read-write"  # libpq would take the first host, although it is a standby
    config["OPTIONS"] = defaults | config["OPTIONS"]
    return config | {"ATOMIC_REQUESTS": True}


def replica(name: str) -> dict[str, dict[str, Any]]:
    """Django's settings for the standbys that the variable names, as the database `replica`; none if it is unset."""
    url = text(name)
    if not url:
        return {}
    if url.partition(":")[0] == "embedded":
        raise ImproperlyConfigured(
            f"{name} names the embedded PostgreSQL, which has no standbys; write "
            f"{name}=postgres://user:password@host:5432/healthcare, or unset it."
        )
    config = database(name)
    given = parse_url(url)["OPTIONS"]
    # Of several standbys a session takes any.
    wanted = {"target_session_attrs": "standby", "load_balance_hosts": "random"}
    return {"replica": config | {"OPTIONS": config["OPTIONS"] | wanted | given, "ATOMIC_REQUESTS": False}}


SMTP, CONSOLE = "django.core.mail.backends.smtp.EmailBackend", "django.core.mail.backends.console.EmailBackend"


@dataclass(frozen=True)
class MailServer:
    """Where e-mails are handed in: to a server, to standard output, or, if it is not configured, nowhere. `starttls`
    encrypts after the greeting, `tls` from the beginning (RFC 8314)."""

    host: str = ""
    port: int = 25
    user: str = ""
    password: str = ""
    starttls: bool = False
    tls: bool = False
    backend: str = SMTP

    @property
    def is_configured(self) -> bool:
        return bool(self.host) or self.backend == CONSOLE


def mail_server(name: str, *, debug: bool) -> MailServer:
    """The server of a URL such as `submission://user:password@mail.example.org`, read by dj-email-url. Unset: the
    console with DEBUG, else none."""
    value = text(name)
    if value == "console:" or (debug and not value):
        if not debug:
            raise ImproperlyConfigured(f"{name}=console: writes secret links to the log; use it with DEBUG=True only.")
        return MailServer(backend=CONSOLE)
    if not value:
        return MailServer()
    advice = (
        f"write {name}=submission://user:password@mail.example.org for STARTTLS, or "
        "smtp://user:password@mail.example.org?ssl=True for TLS from the beginning"
    )
    try:
        url = urlsplit(value)
        options = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=True)) if url.query else {}
        if url.scheme == "smtps" or url.scheme not in {"smtp", "submission", "submit"}:
            raise ImproperlyConfigured(f"{name} names no way to send e-mails that is supported; {advice}.")
        parsed = dj_email_url.parse(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is not the URL of a mail server; {advice}.") from error
    if not url.hostname or url.path.strip("/") or url.fragment:
        raise ImproperlyConfigured(f"{name} must name a host, and no path; {advice}.")
    if not (options.keys() <= {"ssl", "tls"} and len(options) < 2 and set(options.values()) <= {*dj_email_url.TRUTHY}):
        raise ImproperlyConfigured(f"{name} has an option that is not supported; {advice}.")
    starttls, tls = bool(parsed["EMAIL_USE_TLS"]), bool(parsed["EMAIL_USE_SSL"])
    user, password = parsed["EMAIL_HOST_USER"] or "", parsed["EMAIL_HOST_PASSWORD"] or ""
    if (user or password) and not (starttls or tls):
        raise ImproperlyConfigured(f"{name} would send the password without encryption; {advice}.")
    port = url.port or (465 if tls else int(parsed["EMAIL_PORT"]))  # dj-email-url knows no port for `ssl`
    return MailServer(url.hostname, port, user, password, starttls, tls)


def sender(name: str, *, needed: bool) -> str:
    """The address that e-mails come from."""
    value = text(name)
    if (needed or value) and not re.fullmatch(r"[\x21-\x7e]+@[\x21-\x7e]+", value):
        raise ImproperlyConfigured(
            f"{name} must be the address that e-mails come from; write {name}=clinic@example.org, for example."
        )
    return value or "healthcare@localhost"


def public_url(name: str, *, debug: bool) -> str:
    """The base of the front end's pages: an origin, which uses HTTPS unless DEBUG is set, and perhaps a path. Without
    a slash at the end; empty if it is unset."""
    value = text(name).rstrip("/")
    try:
        url = urlsplit(value)
        bad_port = url.port == 0
    except ValueError:
        bad_port = True
    schemes = {"https", "http"} if debug else {"https"}
    if value and (bad_port or url.scheme not in schemes or not PUBLIC_URL_PATTERN.fullmatch(value)):
        raise ImproperlyConfigured(
            f"{name} is not the address of a front end{'' if debug else ' with HTTPS'}; write "
            f"{name}=https://app.example.org or {name}=https://example.org/clinic, for example."
        )
    return value
