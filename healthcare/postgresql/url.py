"""The URL of a PostgreSQL, or of several hosts that have the same database, with the syntax of libpq.

`postgres://user:password@h1:5432,h2:5432/name?target_session_attrs=read-write`. dj-database-url parses the URL without
the hosts, since it supports one port at most; libpq parses those.
"""

import ipaddress
import re
from typing import Any
from urllib.parse import unquote

import dj_database_url
import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

URL_PARTS = re.compile(r"(?P<scheme>postgres(?:ql)?://)(?P<account>[^/?#]*@)?(?P<hosts>[^/?#]*)(?P<rest>.*)", re.DOTALL)
DEFAULT_PORT = "5432"
PARAMETER_VALUES = {
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
}
DJANGO_PARAMETERS = {"assume_role", "isolation_level", "server_side_binding"}  # which libpq does not know


class InvalidURLError(ValueError):
    """The URL cannot be used. The text is a predicate, for after the setting's name, and repeats no part of the URL."""


def parse_url(url: str, **settings: Any) -> dict[str, Any]:
    """Return Django's settings of the database, including the given ones.

    HOST and PORT are separated by commas if there are several hosts. Raises InvalidURLError.
    """
    try:
        has_nul = b"\0" in unquote(url, errors="strict").encode()
    except UnicodeError as error:
        raise InvalidURLError("is not in UTF-8") from error
    if has_nul:
        raise InvalidURLError("has a NUL character (%00)")
    hosts, ports = "", ""
    if parts := URL_PARTS.fullmatch(url):
        hosts, ports = split_hosts(parts["hosts"])
        url = parts["scheme"] + (parts["account"] or "") + parts["rest"]
    elif not url.startswith("embedded:"):
        raise InvalidURLError("lacks the two slashes behind its scheme")
    try:
        config: dict[str, Any] = {**dj_database_url.parse(url, **settings)}
    except ValueError as error:
        raise InvalidURLError("cannot be read (are special characters %-encoded?)") from error
    options: dict[str, Any] = config.setdefault("OPTIONS", {})
    if any(isinstance(value, list) for value in options.values()):
        raise InvalidURLError("has a parameter twice")
    check_parameter_names({*options} - DJANGO_PARAMETERS)
    if (hosts and "host" in options) or (ports.strip(",") and "port" in options):
        raise InvalidURLError("names hosts or ports both before the database and as parameters")
    for name, values in PARAMETER_VALUES.items():
        if options.get(name, values[0]) not in values:
            raise InvalidURLError(f"has a {name} that is not one of {', '.join(values)}")
    if not str(options.get("connect_timeout", 0)).isdigit():
        raise InvalidURLError("has a connect_timeout that is not a whole number of seconds")
    config["HOST"] = str(options.pop("host", hosts))
    config["PORT"] = check_ports(
        str(options.pop("port", ports)), check_hosts(config["HOST"], str(options.get("hostaddr", "")))
    )
    return config


def check_parameter_names(parameters: set[str]) -> None:
    try:
        make_dsn(**dict.fromkeys(parameters | {"dbname"}, "x"))
    except (psycopg2.Error, TypeError) as error:  # TypeError: `database` beside `dbname`
        raise InvalidURLError("has a parameter that libpq does not know") from error


def split_hosts(text: str) -> tuple[str, str]:
    """The hosts and their ports, each separated by commas. Raises InvalidURLError."""
    try:
        found = parse_dsn(f"postgresql://{text}/")
    except psycopg2.Error as error:
        raise InvalidURLError("has a host that cannot be read (is an IPv6 address in brackets?)") from error
    return found.get("host", ""), found.get("port", "")


def check_hosts(hosts: str, addresses: str) -> int:
    """Return the number of hosts. Raises InvalidURLError."""
    lists = [part.split(",") for part in (hosts, addresses) if part]
    if any("" in part for part in lists):
        raise InvalidURLError("has an empty host between commas")
    if len({len(part) for part in lists}) > 1:
        raise InvalidURLError("has another number of addresses in hostaddr than of hosts")
    for host in sum(lists, []):
        if any(map(str.isspace, host)) and not host.startswith("/"):
            raise InvalidURLError("has a space in a host")
        if ":" in host and not host.startswith("/"):
            try:
                ipaddress.IPv6Address(host)
            except ValueError as error:
                raise InvalidURLError("has a host that is not an IPv6 address but holds a colon") from error
    return max((len(part) for part in lists), default=1)


def check_ports(ports: str, hosts: int) -> str:
    """Return the ports: empty if none is given, one for all hosts, or one for each. Raises InvalidURLError."""
    found = ports.split(",")
    if not any(found):
        return ""
    found = [port or DEFAULT_PORT for port in found]
    if not all(port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536 for port in found):
        raise InvalidURLError("has a port that is not a whole number from 1 to 65535")
    if len(found) not in {1, hosts}:
        raise InvalidURLError(f"has {len(found)} ports for {hosts} host{'s' if hosts > 1 else ''}")
    return ",".join(found)
