"""Hostile requests as raw bytes, each with the statuses it may be answered with, and bad values of fields.

Everything bad carries the CANARY, so that a test sees an answer that repeats what was sent. `test_hostile_input` sends
all of it.
"""

import gzip
import json
import socket
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from healthcare.tests.declarations import all_rows
from healthcare.tests.live import TIMEOUT, Answer, LiveServer, parse

CANARY = "k4n4ryk4n4ry"
CLOSED = 0  # in place of a status: the connection is closed without an answer
ACCESS_TOKEN_MARK = b"@TOKEN@"  # stands for alice's access token

# Bad values, by the kind of field that must refuse them.
LONG_AND_ODD_TEXTS: list[Any] = [5000 * CANARY, [CANARY], {"a": CANARY}, True, f"{CANARY}\t{CANARY}"]
INVISIBLE_TEXTS: list[Any] = [
    None, "", "  ", "\u200b\u200d", "\u2060", "\ufeff", "\u202e", "\u00ad", "\u3164"[:0], "\u0007",
]  # fmt: skip
BAD_NAMES: list[Any] = [*LONG_AND_ODD_TEXTS, *INVISIBLE_TEXTS, "x" * 201, "\U0001f600" * 201]
BAD_NUMBERS: list[Any] = [
    CANARY, True, [CANARY], {"a": 1}, -1, 1.5, 2**31, 2**63, 2**70, 10**4000, -(2**70), "1e3", 1e300,
]  # fmt: skip
BAD_DATES: list[Any] = [
    CANARY, "0000-00-00", "9999-12-31", "1990-02-30", "1990-13-01", "10000-01-01", "1990-01-01T00:00:00Z", "01/02/1990",
    "-1-01-01", 0, 1990, True, [CANARY], {}, "１９９０-01-01x", "today",
]  # fmt: skip
BAD_CHOICES: list[Any] = [CANARY, "", None, 0, True, [CANARY], {"M": CANARY}, "M" * 5000, "ＭＭ"]
BAD_IDS: list[Any] = [
    CANARY, "", None, True, False, 0, -1, 1.5, 1e300, 2**63, 2**70, 10**4000, [1], {}, {"id": 1}, "0x1",
]  # fmt: skip
BAD_PHONES: list[Any] = [*LONG_AND_ODD_TEXTS, "x", "1" * 41]
BAD_EMAILS: list[Any] = [
    *LONG_AND_ODD_TEXTS, CANARY, "a@b", "a b@example.org", "a@example.org\n@", "@", "a@" + "b" * 250 + ".org",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A request and the statuses it may be answered with.

    bare: the HTTP server refuses it before any Python runs, so with an empty body.
    hang_up: the client closes its side of the connection after sending.
    """

    name: str
    raw: bytes
    statuses: Set[int]
    bare: bool = False
    hang_up: bool = False


def request(
    method: str, path: str, body: bytes | None = None, *lines: bytes, token: bytes = ACCESS_TOKEN_MARK
) -> bytes:
    """A request as bytes, with the right Content-Length if there is a body. `lines` are further header lines."""
    target = path if isinstance(path, bytes) else path.encode()
    head = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
    head += [b"Authorization: Bearer " + token] if token else []
    if body is not None:
        kinds = [line for line in lines if line.lower().startswith(b"content-type")]
        head += [] if kinds else [b"Content-Type: application/json"]
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*head, *(line for line in lines if line != b"Content-Type:"), b"", body or b""])


def send(live: LiveServer, case: Case, token: str) -> Answer | None:
    """Send a request over a new connection. Return None if it is closed without an answer.

    Raises TimeoutError if the server neither answers nor closes the connection.
    """
    with socket.create_connection((live.host, live.port), timeout=TIMEOUT) as connection:
        received = b""
        try:
            connection.sendall(case.raw.replace(ACCESS_TOKEN_MARK, token.encode()))
            if case.hang_up:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server refused before it had read everything
        try:
            while block := connection.recv(65536):
                received += block
        except ConnectionResetError:
            pass
    return parse(received)


NAME = b'"name": "' + CANARY.encode() + b'"'


def malformed_json() -> dict[str, bytes]:
    return {
        "nothing but blanks": b"   ",
        "no JSON": CANARY.encode(),
        "half an object": b"{" + NAME,
        "two objects": b"{" + NAME + b"}{}",
        "a comment": b"{" + NAME + b"} // comment",
        "single quotes": b"{'name': '" + CANARY.encode() + b"'}",
        "a trailing comma": b"{" + NAME + b",}",
        "a NUL escape": b'{"name": "' + CANARY.encode() + b'\\u0000"}',
        "a NUL escape in a key": b"{" + NAME + b', "\\u0000": 1}',
        "a raw NUL": b'{"name": "' + CANARY.encode() + b'\x00"}',
        "a raw newline in a text": b'{"name": "' + CANARY.encode() + b'\n"}',
        "a lone high surrogate": b'{"name": "' + CANARY.encode() + b'\\ud800"}',
        "a lone low surrogate": b'{"name": "' + CANARY.encode() + b'\\udc00"}',
        "swapped surrogates": b'{"name": "' + CANARY.encode() + b'\\ude00\\ud83d"}',
        "a surrogate in UTF-8 bytes": b'{"name": "' + CANARY.encode() + b'\xed\xa0\x80"}',
        "invalid UTF-8": b'{"name": "' + CANARY.encode() + b'\xff"}',
        "overlong UTF-8": b'{"name": "' + CANARY.encode() + b'\xc0\xaf"}',
        "latin-1": '{"name": "é'.encode("latin-1") + CANARY.encode() + b'"}',
        "a UTF-8 byte order mark": b"\xef\xbb\xbf{" + NAME + b"}",
        "UTF-16": ('{"name": "' + CANARY + '"}').encode("utf-16"),
        "UTF-16 without a mark": ('{"name": "' + CANARY + '"}').encode("utf-16-le"),
        "UTF-32": ('{"name": "' + CANARY + '"}').encode("utf-32"),
        "gzip": gzip.compress(b"{" + NAME + b"}"),
    }


def values_that_are_refused() -> dict[str, bytes]:
    return {
        "arrays 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
        "open arrays 100,000 deep": b"[" * 100_000,
        "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "33 levels deep": b"{" + NAME + b', "deep": ' + b"[" * 32 + b"]" * 32 + b"}",
        "500 levels deep": b"{" + NAME + b', "deep": ' + b"[" * 500 + b"]" * 500 + b"}",
        "NaN": b"{" + NAME + b', "age": NaN}',
        "Infinity": b"{" + NAME + b', "age": Infinity}',
        "minus Infinity": b"{" + NAME + b', "age": -Infinity}',
        "1e999": b"{" + NAME + b', "age": 1e999}',
        "minus 1e999": b"{" + NAME + b', "x": -1e999}',
        "5,000 digits": b"{" + NAME + b', "age": ' + b"9" * 5000 + b"}",
        "a key twice": b"{" + NAME + b", " + NAME + b"}",
        "a key twice by an escape": b"{" + NAME + b', "n\\u0061me": "x"}',
        "a key twice inside": b"{" + NAME + b', "x": {"a": 1, "a": 2}}',
        "a list": b"[{" + NAME + b"}]",
        "null": b"null",
        "true": b"true",
        "a text": b'"' + CANARY.encode() + b'"',
        "a number": b"4242424242",
    }


def unreadable_bodies() -> list[Case]:
    texts = [*malformed_json().items(), *values_that_are_refused().items()]
    ways = [("POST", "/api/patients/", ACCESS_TOKEN_MARK), ("POST", "/api/auth/register/", b"")]
    return [
        Case(f"{name} to {path}", request(method, path, text, token=token), {400})
        for name, text in texts
        for method, path, token in ways
    ]


def content_types() -> list[Case]:
    body = json.dumps({"name": CANARY}).encode()
    refused = [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "",
        "application/merge-patch+json", "application/jsonx", "json", "*/*", "application/json, text/plain",
        "text/html; charset=" + CANARY, "a" * 5000, "application/\u00fcson",
    ]  # fmt: skip
    cases = [
        Case(f"type {kind[:40]!r}", request("POST", "/api/patients/", body, b"Content-Type: " + kind.encode()), {415})
        for kind in refused
    ]
    form = f"name={CANARY}&age=34".encode()
    multipart = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + CANARY.encode() + b"\r\n--x--\r\n"
    return [
        *cases,
        Case("no type", request("POST", "/api/patients/", body, b"Content-Type:"), {415}),
        Case("a form", request("POST", "/api/patients/", form, FORM), {415}),
        Case("a form to a login", request("POST", "/api/auth/login/", form, FORM, token=b""), {415}),
        Case("multipart", request("POST", "/api/patients/", multipart, MULTIPART), {415}),
        Case("broken multipart", request("POST", "/api/patients/", multipart[:30], MULTIPART), {415}),
        Case("gzip", request("POST", "/api/patients/", gzip.compress(body), b"Content-Encoding: gzip"), {400, 415}),
        Case("no gzip that says it is", request("POST", "/api/patients/", body, b"Content-Encoding: gzip"), {415}),
        Case("utf-16 by its type", request("POST", "/api/patients/", body.decode().encode("utf-16"), UTF_16), {415}),
    ]


FORM = b"Content-Type: application/x-www-form-urlencoded"
MULTIPART = b"Content-Type: multipart/form-data; boundary=x"
UTF_16 = b"Content-Type: application/json; charset=utf-16"
JSON = b"Content-Type: application/json"
BODY = json.dumps({"name": CANARY}).encode()
CHUNKED = b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"


def framed_request(name: str, statuses: set[int], *lines: bytes, body: bytes = BODY, **how: Any) -> Case:
    method = how.pop("method", "POST")
    path = "/api/patients/1/" if method in {"PUT", "PATCH"} else "/api/patients/"
    raw = request(method, path, None, JSON, *lines) + body
    return Case(name, raw, statuses, **how)


def framing() -> list[Case]:
    """Requests whose length or transfer coding is wrong. hyper refuses the bare ones before the application runs."""
    length, chunked = b"Content-Length: ", b"Transfer-Encoding: chunked"
    true = b"%d" % len(BODY)
    return [
        framed_request("2 MiB announced", {413}, length + b"2097152"),
        framed_request("2 MiB sent", {413}, length + b"2097152", body=b" " * 2097152),
        framed_request("more than announced", {400}, length + b"10"),
        framed_request("less than announced", {400, CLOSED}, length + b"1000", hang_up=True),
        framed_request("a length of 20 digits", {400, 413}, length + b"9" * 19),
        framed_request("a length beyond all", {400}, length + b"9" * 40, bare=True),
        framed_request("a negative length", {400}, length + b"-5", bare=True),
        framed_request("a length that is no number", {400}, length + b"banana", bare=True),
        framed_request("a length with a plus", {400}, length + b"+" + true, bare=True),
        framed_request("a hexadecimal length", {400}, length + b"0x10", bare=True),
        framed_request("two lengths", {400}, length + true, length + b"3", bare=True),
        framed_request("a list of lengths", {400}, length + true + b", " + true, bare=True),
        *(
            framed_request(f"chunked {method}", {411}, chunked, body=CHUNKED, method=method)
            for method in ("POST", "PUT")
        ),
        framed_request("chunked PATCH", {411}, chunked, body=CHUNKED, method="PATCH"),
        framed_request("chunked with a length", {411}, chunked, length + true, body=CHUNKED),
        framed_request("broken chunks", {411}, chunked, body=b"zz\r\n" + BODY),
        framed_request("gzip, chunked", {411}, b"Transfer-Encoding: gzip, chunked", body=CHUNKED),
        framed_request("chunked, identity", {400}, b"Transfer-Encoding: chunked, identity", length + true, bare=True),
        framed_request("identity", {400}, b"Transfer-Encoding: identity", length + true, bare=True),
        framed_request("POST without a length", {400, 411}, body=b""),
        framed_request("PUT without a length", {411}, body=b"", method="PUT"),
        framed_request("PATCH without a length", {411}, body=b"", method="PATCH"),
        framed_request("a length of 0", {400}, length + b"0", body=b""),
        framed_request("an unknown expectation", {400, 417}, b"Expect: banana", length + b"2", body=b"[]"),
    ]


def paths() -> list[Case]:
    """Paths that are all a 404: ids that no record can have, and paths that resemble a route."""
    ids = [
        "%00", "%ff", "%C3%28", "%D9%A1", "%EF%BC%91", "-1", "+1", "1.0", "1e3", "0x1", "%201", "0", str(2**63), "..",
        str(2**64), "9" * 5000, "None", "null", "true", "1;a=b", "1,2", "%2e%2e", "1%2f", "%0a1", "1%00", "me", CANARY,
        "%25", "'%20OR%201=1--", "{}", "$", "(", "1/../1",
    ]  # fmt: skip
    records = [row for row in all_rows() if row.route.endswith("/<int:pk>/")]
    methods = [(method, row) for row in records for method in ("GET", "DELETE") if method in row.methods]
    targets = [(method, "/" + row.route, key) for method, row in methods for key in ids]
    cases = [
        Case(f"{method} {path} {key[:30]}", request(method, path.replace("<int:pk>", key)), {404})
        for method, path, key in targets
    ]
    odd = [
        "/api//patients/", "//api/patients/", "/api/patients//", "/API/patients/", "/api/./patients/",
        "/api/patients/../../etc/passwd", "/api/patients/%2e%2e/doctors/", "/api/patients/.json", "/api/patients.json",
        "/api/patients/1.json", "/api/patients/1/doctors/x/", "/.env", "/static/../healthcare/settings.py",
        "/static/%2e%2e/%2e%2e/.env", "/static//etc/passwd", f"/{CANARY}", "/%00", "/%ff", "/\\", "*",
    ]  # fmt: skip
    return cases + [Case(f"GET {path}", request("GET", path), {404}) for path in odd]


def queries() -> list[Case]:
    limits = [
        "0", "-1", "501", "1e3", "abc", "", "%D9%A1", "1.5", "9" * 5000, "%00", "%ff", "true", "+5", "%205", CANARY,
    ]  # fmt: skip
    cursors = [
        "", "garbage", CANARY, "%00", "%ff", "%F0%9F%92%A9", "A" * 5000, "PA", "PDEgT1IgMT0x", "PC0x", "PNmh", "PDEK",
        "====", "PDE2%20", "PDE%3D%3D%3D%3D", "PDk5OTk5OTk5OTk5OTk5OTk5OTk5",
    ]  # fmt: skip
    counts = ["banana", "", "%00", CANARY]
    fine = [
        "limit=005", "&&&", "search=';DROP%20TABLE", "search=%F0%9F%92%A9", "search=%ff", "search=%25_%5C",
        "search=(((", "identifier=';DROP%20TABLE", "search=" + "+".join("abcdefghijklm"), "search=" + "%E1%84%80" * 200,
        "search=", "count=1", "count=TRUE",
    ]  # fmt: skip
    wrong = [
        "limit=1&limit=2", "format=api", "format=" + CANARY, "_method=DELETE", "x=" + CANARY, "&&&===", "cursor=PDE",
        "count=true&count=false", "x=" + "a" * 20_000, "%00=%ff", "search=%00", "search=" + "a" * 201,
        "search=a&search=b", "ordering=" + CANARY, "ordering=-", "fields=" + CANARY, "fields=,", "fields=__class__",
        "search=a&ordering=name",
    ]  # fmt: skip
    bad = [
        *wrong,
        *(f"limit={value}" for value in limits),
        *(f"cursor={value}" for value in cursors),
        *(f"count={value}" for value in counts),
    ]
    lists = ["/api/patients/", "/api/doctors/"]
    cases = [Case(f"GET {path}?{q[:40]}", request("GET", f"{path}?{q}"), {400}) for path in lists for q in bad]
    return cases + [Case(f"GET /api/patients/?{q[:40]}", request("GET", f"/api/patients/?{q}"), {200}) for q in fine]


def headers() -> list[Case]:
    """Invalid Authorization headers, hosts that are not allowed, headers that are too large or malformed."""
    invalid_authorizations = [
        "Bearer", "Bearer ", "Bearer a b", "Basic x", "Basic YWxpY2U6eA==", "Token x", CANARY, ",",
        "Bearer null", "Bearer ..", "Bearer a.b.c", "Bearer " + "a" * 50_000, "Bearer " + "." * 1000, "Bearer=x",
        "Digest username=x", "Bearer,Bearer", "Bearer \u00fc\u674e", "\u00fc", 'Bearer "x"',
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ]  # fmt: skip
    cases = [
        Case(f"Authorization {value[:30]!r}", request("GET", "/api/patients/", None, line(value), token=b""), {401})
        for value in invalid_authorizations
    ]
    hosts = ["evil.example", CANARY, "a b c", "localhost:banana", "localhost@evil", "[::1", "..", "localhost\u00fc", ""]
    raw = request("GET", "/api/doctors/", token=b"")
    cases += [
        Case(f"Host {host!r}", raw.replace(b"Host: localhost", b"Host: " + host.encode()), {400}) for host in hosts
    ]
    get = ("GET", "/api/patients/", None)
    return cases + [
        Case("no Host", raw.replace(b"Host: localhost\r\n", b""), {400}),
        Case("another Host by a proxy's header", request(*get, b"X-Forwarded-Host: evil"), {200}),
        Case("a method by a header", request(*get, b"X-HTTP-Method-Override: DELETE"), {200}),
        Case("a header of 100 KB", request(*get, b"X-A: " + b"a" * 100_000), {200, 431}),
        Case("a header of 600 KB", request(*get, b"X-A: " + b"a" * 600_000), {431}, bare=True),
        Case("300 headers", request(*get, *(b"X-%d: a" % number for number in range(300))), {431}, bare=True),
        Case("a NUL in a header", request(*get, b"X-A: a\0b"), {400}, bare=True),
        Case("a folded header", request(*get, b"X-A: a\r\n b"), {400}, bare=True),
        Case("a space before the colon", request(*get, b"X-A : b"), {400}, bare=True),
        Case("odd Accept", request(*get, b"Accept: " + CANARY.encode()), {200}),
        Case("odd cookies", request(*get, b"Cookie: sessionid=\xff; csrftoken=" + b"a" * 5000 + b";;;==="), {200}),
        Case("an origin that is not allowed", request(*get, b"Origin: https://evil.example"), {200}),
    ]


def line(value: str) -> bytes:
    return b"Authorization: " + value.encode()


def protocols() -> list[Case]:
    """Unknown methods and versions of HTTP."""
    close = b"Host: localhost\r\nConnection: close\r\n\r\n"
    methods = ["TRACE", "FOO", "PROPFIND", "CONNECT", "A" * 200]
    return [
        *(Case(f"{method[:20]} a list", request(method, "/api/patients/"), {405}) for method in methods),
        Case("get in small letters", request("get", "/api/patients/"), {200, 405}),
        Case("CONNECT an authority", b"CONNECT evil.example:80 HTTP/1.1\r\n" + close, {400, 404, 405}),
        Case("a method with an @", b"G@T / HTTP/1.1\r\n" + close, {400}, bare=True),
        Case("HTTP/1.0", b"GET /api/doctors/ HTTP/1.0\r\nHost: localhost\r\n\r\n", {200}),
        Case("HTTP/1.0 without a Host", b"GET /api/doctors/ HTTP/1.0\r\n\r\n", {200, 400}),
        Case("HTTP/0.9", b"GET /api/doctors/\r\n\r\n", {400}, bare=True),
        Case("HTTP/9.9", b"GET /api/doctors/ HTTP/9.9\r\n" + close, {400, 505}, bare=True),
        Case(
            "HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", {CLOSED, 400, 505}, bare=True
        ),
        Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}, bare=True),
        Case("a blank in the path", b"GET /api/ doctors/ HTTP/1.1\r\n" + close, {400}, bare=True),
        Case("a raw byte in the path", b"GET /api/\xff/ HTTP/1.1\r\n" + close, {400, 404}, bare=True),
        Case("a path of 100 KB", b"GET /" + b"9" * 100_000 + b" HTTP/1.1\r\n" + close, {414}, bare=True),
        Case("an absolute target", b"GET http://evil.example/api/nothing/ HTTP/1.1\r\n" + close, {404}),
        Case("half a request", b"GET /api/doc", {CLOSED, 400}, bare=True, hang_up=True),
        Case("nothing", b"", {CLOSED}, bare=True, hang_up=True),
        Case("a flood of blank lines", b"\r\n" * 5000, {CLOSED, 400, 431}, bare=True, hang_up=True),
    ]


def all_hostile_requests() -> list[Case]:
    return [*unreadable_bodies(), *content_types(), *framing(), *paths(), *queries(), *headers(), *protocols()]
