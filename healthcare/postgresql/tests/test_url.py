"""A DATABASE_URL with one host or several: what is read as libpq reads it, and what is refused in one sentence."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from psycopg2.extensions import parse_dsn

from healthcare import env_settings
from healthcare.operations.database_start import ATTEMPTED_PLACE
from healthcare.operations.programs import connection_arguments
from healthcare.postgresql.base import DatabaseWrapper
from healthcare.postgresql.client import DatabaseClient
from healthcare.postgresql.url import InvalidURLError, parse_url

HOSTS_AND_PORTS = {
    "": ("", ""),
    "h1": ("h1", ""),
    "h1:6432": ("h1", "6432"),
    "h1:5432,h2:5433,h3:5434": ("h1,h2,h3", "5432,5433,5434"),
    "h1,h2": ("h1,h2", ""),
    "h1,h2:6432": ("h1,h2", "5432,6432"),
    "[::1]:1,[fe80::1%25eth0]:2,10.0.0.1:3": ("::1,fe80::1%eth0,10.0.0.1", "1,2,3"),
    "%2Frun%2FPG,h2": ("/run/PG,h2", ""),
    "/?host=h1,h2&port=1,2": ("h1,h2", "1,2"),
    "/?host=/run/pg&port=1": ("/run/pg", "1"),
    "h1,h2/?port=6432": ("h1,h2", "6432"),
}
BAD_PORT = "has a port that is not a whole number from 1 to 65535"
EMPTY_HOST = "has an empty host between commas"
UNREADABLE = "has a host that cannot be read (is an IPv6 address in brackets?)"
TWICE = "names hosts or ports both before the database and as parameters"
UNKNOWN_PARAMETER = "has a parameter that libpq does not know"
TARGET_VALUES = "any, read-write, read-only, primary, standby, prefer-standby"
REFUSED_URLS = {
    "h1:5432,h2:port/d": BAD_PORT,
    "h1:0/d": BAD_PORT,
    "h1,h2:65536/d": BAD_PORT,
    "h1:\u0663/d": BAD_PORT,
    "::1:5432/d": BAD_PORT,
    "h1:1:2/d": BAD_PORT,
    "/d?host=h1,h2&port=1,x": BAD_PORT,
    "h1,h2/d?port=1,2,3": "has 3 ports for 2 hosts",
    "h1/d?port=1,2": "has 2 ports for 1 host",
    "h1,,h2/d": EMPTY_HOST,
    "h1,h2,/d": EMPTY_HOST,
    "/d?host=h1,": EMPTY_HOST,
    "[::1,h2/d": UNREADABLE,
    "h1,h%zz/d": UNREADABLE,
    "[::xyz],h2/d": "has a host that is not an IPv6 address but holds a colon",
    "h1/d?host=h2": TWICE,
    "h1:1,h2/d?port=2": TWICE,
    "/d?host=h1&host=h2": "has a parameter twice",
    "h1,h2/d?hostaddr=10.0.0.1": "has another number of addresses in hostaddr than of hosts",
    "h1,h2/d?target_session_attrs=writer": f"has a target_session_attrs that is not one of {TARGET_VALUES}",
    "h1,h2/d?load_balance_hosts=yes": "has a load_balance_hosts that is not one of disable, random",
    "h1,h2/d?connect_timeout=soon": "has a connect_timeout that is not a whole number of seconds",
    "h1,h2/d?databse=e": UNKNOWN_PARAMETER,
    "h1/d?database=e": UNKNOWN_PARAMETER,
    "h1/d?async=1": UNKNOWN_PARAMETER,
    "h1/d?dsn=host%3Dh2": UNKNOWN_PARAMETER,
    "h1:5432, h2:5432/d": "has a space in a host",
    "/d?host=h1,%20h2": "has a space in a host",
    "h1/d%00": "has a NUL character (%00)",
    "h1/d?application_name=%00": "has a NUL character (%00)",
    "h1,h2": "names no database",
}


def url_of(rest: str) -> str:
    """`rest` is what follows the account: hosts, or a name and parameters."""
    return f"postgres://user:hidden%20word@{rest}"


@pytest.mark.parametrize("hosts", HOSTS_AND_PORTS, ids=lambda text: text or "none")
def test_hosts_and_ports_are_read_as_libpq_reads_them(hosts: str) -> None:
    place, _, query = hosts.partition("/?")
    url = url_of(f"{place}/healthcare{'?' if query else ''}{query}")
    read = parse_url(url)
    assert (read["HOST"], read["PORT"]) == HOSTS_AND_PORTS[hosts]
    assert (read["USER"], read["PASSWORD"], read["NAME"]) == ("user", "hidden word", "healthcare")
    by_libpq = parse_dsn(url)
    ports = [port or "5432" for port in by_libpq.get("port", "").split(",")]
    assert read["HOST"] == by_libpq.get("host", "")
    assert (read["PORT"] or ",".join("5432" for _ in ports)).split(",") == ports


@pytest.mark.parametrize("rest", REFUSED_URLS)
def test_a_url_that_cannot_be_used_is_refused_in_one_sentence(rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url_of(rest))
    with pytest.raises(ImproperlyConfigured) as raised:
        env_settings.database("DATABASE_URL")
    advice = "write DATABASE_URL=postgres://user:password@host:5432/healthcare, or unset it for the embedded PostgreSQL"
    assert str(raised.value) == f"DATABASE_URL {REFUSED_URLS[rest]}; {advice}."


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://user:hidden[word@h1,h2/healthcare", "cannot be read (are special characters %-encoded?)"),
        ("postgres://user:hidden%00word@h1,h2/healthcare", "has a NUL character (%00)"),
        ("postgres://user:hidden\udcffword@h1,h2/healthcare", "is not in UTF-8"),
        ("postgres://user:hidden%FFword@h1,h2/healthcare", "is not in UTF-8"),
        ("postgres://user:hidden@h1,h\udcff/healthcare", "is not in UTF-8"),
        ("postgres:user:hidden@h1/healthcare", "lacks the two slashes behind its scheme"),
    ],
    ids=["bracket", "NUL", "surrogate", "Latin-1", "host", "slashes"],
)
def test_a_password_that_cannot_be_read_is_not_repeated(url: str, expected: str) -> None:
    with pytest.raises(InvalidURLError) as raised:
        parse_url(url)
    assert str(raised.value) == expected


def options_of(url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DATABASE_URL", url)
    options: dict[str, Any] = env_settings.database("DATABASE_URL")["OPTIONS"]
    return options


def test_one_of_several_hosts_is_the_one_that_accepts_writes_unless_the_url_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    targets = {
        rest: options_of(url_of(rest), monkeypatch).get("target_session_attrs")
        for rest in ("h1/d", "h1,h2/d", "/d?hostaddr=10.0.0.1,10.0.0.2", "h1,h2/d?target_session_attrs=any")
    }
    assert [*targets.values()] == [None, "read-write", "read-write", "any"]


def test_a_host_that_vanishes_is_noticed_unless_the_url_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = options_of(url_of("h1/d?keepalives_idle=60"), monkeypatch)
    assert found == {
        "connect_timeout": 5,
        "keepalives_idle": 60,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": 30_000,
        "application_name": "healthcare",
    }


def test_psql_connects_to_the_host_that_the_application_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url_of("h1:5432,h2:5433/d"))
    command, environment = DatabaseClient.settings_to_cmd_args_env(env_settings.database("DATABASE_URL"), [])
    assert command == ["psql", "-U", "user", "-h", "h1,h2", "-p", "5432,5433", "d"]
    assert environment == {"PGPASSWORD": "hidden word", "PGTARGETSESSIONATTRS": "read-write"}


@pytest.mark.django_db
def test_pg_dump_connects_to_the_host_of_the_open_session() -> None:
    place = connection.get_connection_params()
    hosts = {"HOST": f"127.0.0.1,{place['host']}", "PORT": f"1,{place.get('port') or 5432}", "USER": place["user"]}
    options = {"target_session_attrs": "read-write", "load_balance_hosts": "random"}
    several = DatabaseWrapper({**connection.settings_dict, **hosts, "OPTIONS": options}, "several")
    several.ensure_connection()
    try:
        target, _ = connection_arguments(several)
    finally:
        several.close()
    read = parse_dsn(target)
    assert (read["host"], read["port"]) == (place["host"], str(place.get("port") or 5432))
    assert "load_balance_hosts" not in read


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        ('at "h2" (10.0.0.2), port 5433 failed', ("10.0.0.2", "5433")),
        ('at "10.0.0.2", port 5433 failed', ("10.0.0.2", "5433")),
        ('on socket "/run/pg/.s.PGSQL.5433" failed', ("/run/pg", "5433")),
    ],
    ids=["name", "address", "socket"],
)
def test_the_host_that_has_refused_a_login_is_found(attempt: str, expected: tuple[str, str]) -> None:
    place = ATTEMPTED_PLACE.match(f"connection to server {attempt}: FATAL:  the database system is starting up")
    assert place
    assert (place["address"] or place["folder"] or place["host"], place["port"]) == expected
