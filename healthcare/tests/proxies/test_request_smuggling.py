"""Requests whose end two servers could see at different places (RFC 9112 sections 6 and 11.2), through a proxy.

A proxy refuses them or frames them anew. Either way the application sees as many requests as the client has answers.
"""

import re
from pathlib import Path

import pytest

from healthcare.tests.proxies.proxy import HOST, Proxy

pytestmark = pytest.mark.slow

START = f"POST /api/auth/login/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nConnection: close\r\n"
HIDDEN = "GET /api/hidden/ HTTP/1.1\r\nX: y\r\n"  # in the body for one reader, a request for another
REFUSED = {
    "a length and chunks": "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "chunks and a length": f"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1f\r\n{HIDDEN}\r\n0\r\n\r\n",
    "two lengths": f"Content-Length: 0\r\nContent-Length: 33\r\n\r\n{HIDDEN}",
    "a list of lengths": f"Content-Length: 0, 33\r\n\r\n{HIDDEN}",
    "a length with a sign": "Content-Length: +2\r\n\r\n{}",
    "a negative length": "Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": "Content-Length: 0x2\r\n\r\n{}",
    "a length with a blank inside": f"Content-Length: 3 3\r\n\r\n{HIDDEN}",
    "a blank before the colon": f"Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n1f\r\n{HIDDEN}\r\n0\r\n\r\n",
    "an unknown coding": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks twice": f"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}\r\n",
    "a control character before the coding": "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a carriage return in a header": f"X: a\rContent-Length: 33\r\n\r\n{HIDDEN}",
    "a NUL in a header": "X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": "Host: forged.example\r\nContent-Length: 2\r\n\r\n{}",
    "a negative chunk": "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk too large for a number": "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff2\r\n{}\r\n0\r\n\r\n",
    "a chunk shorter than its content": f"Transfer-Encoding: chunked\r\n\r\n1\r\n{HIDDEN}\r\n0\r\n\r\n",
}
# Lenient servers all read these alike, and a proxy that accepts one writes the request anew, with its own framing.
FRAMED_ANEW = {
    "a line feed alone": f"X: a\nContent-Length: 33\r\n\r\n{HIDDEN}",
    "line feeds alone at the end": f"Content-Length: 33\n\n{HIDDEN}",
    "a folded header": f"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 33\r\n\r\n{HIDDEN}",
    "a coding with an underscore": f"Transfer_Encoding: chunked\r\nContent-Length: 33\r\n\r\n{HIDDEN}",
    "a length with an underscore": f"Content_Length: 0\r\nContent-Length: 33\r\n\r\n{HIDDEN}",
    "the same length twice": "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk's extension with a line feed": "Transfer-Encoding: chunked\r\n\r\n2;\n{}\r\n0\r\n\r\n",
    "chunks with line feeds alone": "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "a trailer": "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Forwarded-For: 203.0.113.66\r\n\r\n",
}


def exchange(proxy: Proxy, log: Path, raw: str) -> list[int]:
    """Send bytes over one connection and return the statuses received; the application has logged no more requests."""
    before = count_requests(log)
    received = proxy.exchange(raw.encode("latin-1"))
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
    assert len(statuses) <= 1, received
    assert count_requests(log) - before <= len(statuses), received
    return statuses


def count_requests(log: Path) -> int:
    lines = log.read_text().splitlines()
    return sum("healthcare.access" in line and "readyz" not in line for line in lines)


@pytest.mark.parametrize("case", REFUSED)
def test_an_ambiguous_request_is_refused(proxy: Proxy, application_log: Path, case: str) -> None:
    statuses = exchange(proxy, application_log, START + REFUSED[case])
    assert statuses == [] or statuses[0] in {400, 411, 501, 502}, statuses  # Caddy answers 502 for malformed chunks


@pytest.mark.parametrize("case", FRAMED_ANEW)
def test_a_leniently_read_request_stays_one_request(proxy: Proxy, application_log: Path, case: str) -> None:
    statuses = exchange(proxy, application_log, START + FRAMED_ANEW[case])
    assert statuses == [] or statuses[0] in {400, 411, 415, 502}, statuses


def test_the_form_of_a_refusal_is_as_documented(proxy: Proxy) -> None:
    answer = proxy.send((START + REFUSED["a negative length"]).encode())
    assert answer
    kind = {"nginx": "application/problem+json", "caddy": "text/plain; charset=utf-8", "haproxy": "text/html"}
    assert (answer.status, answer.headers["Content-Type"]) == (400, kind[proxy.name])
    assert b"-2" not in answer.body


def test_every_request_of_a_pipeline_is_answered(proxy: Proxy, application_log: Path) -> None:
    """The check above can fail: two requests on one connection are two answers."""
    get = f"GET /api/doctors/ HTTP/1.1\r\nHost: {HOST}\r\n"
    before = count_requests(application_log)
    received = proxy.exchange(f"{get}\r\n{get}Connection: close\r\n\r\n".encode())
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert count_requests(application_log) - before == 2
