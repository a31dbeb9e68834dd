"""Where a request comes from: the address of the client behind the trusted proxies, and the block that it controls."""

import ipaddress

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle


def client_address(request: HttpRequest | Request) -> str:
    """The client's address, by TRUSTED_PROXIES entries of X-Forwarded-For; empty when there is none."""
    claimed = BaseThrottle().get_ident(request)  # type: ignore[arg-type]
    for written in (claimed, request.META.get("REMOTE_ADDR")):
        try:
            address = ipaddress.ip_address(without_port(written or "").partition("%")[0])  # without the zone (RFC 4007)
        except ValueError:
            continue
        return str(getattr(address, "ipv4_mapped", None) or address)
    return ""


def without_port(written: str) -> str:
    """The address in an entry of X-Forwarded-For: proxies also write `203.0.113.9:4711` and `[2001:db8::1]:4711`."""
    written = written.strip(' \t"')
    if written.startswith("["):
        return written[1:].partition("]")[0]
    return written.partition(":")[0] if written.count(":") == 1 else written


def client_network(address: str) -> str:
    """The address block that one client controls: an IPv4 address, or a /64 of IPv6."""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address
