"""Headers as clients and proxies send them, as bytes to the live server: Django's client sends none of these."""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from healthcare.tests.hostile_requests import Case, request, send
from healthcare.tests.live import Answer, LiveServer, serving

LOGIN = ("POST", "/api/auth/login/")


@pytest.fixture(scope="module")
def behind_proxy(live_server_process: LiveServer) -> Iterator[LiveServer]:
    """A server with HTTPS behind one proxy."""
    with serving(live_server_process.database_url, migrated=True, TRUSTED_PROXIES="1", HTTPS="True") as started:
        yield started


def call(server: LiveServer, method: str, path: str, *lines: bytes, body: Any = None, token: str = "") -> Answer:
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    answer = send(server, Case("", request(method, path, sent, *lines, token=token.encode()), set()), token)
    assert answer, "the server closed the connection"
    return answer


@pytest.fixture
def alice(live: LiveServer) -> str:
    """The access token of a user of the live server."""
    access: str = live.register()[1]["access"]
    return access


def history_reason(live: LiveServer, token: str, header: bytes) -> tuple[int, Any]:
    """The status of a change with this reason, and the reason in its history or the error."""
    patient = live.call("POST", "/api/patients/", {"name": "Ana"}, token).json["id"]
    path = f"/api/patients/{patient}/"
    answer = call(live, "PATCH", path, b"X-Change-Reason: " + header, body={"address": "Delhi"}, token=token)
    if answer.status != 200:
        return answer.status, answer.json["errors"][0]["pointer"]
    [event, *_] = live.call("GET", f"{path}history/", None, token).json
    return 200, event["reason"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"UTF-8''gr%C3%B6%C3%9Fer", "größer"),
        (b"utf-8''50%25", "50%"),
        (b"UTF-8''%E0%A4%A8%E0%A4%BE", "ना"),
        (b"50%", "50%"),
        (b"50%25", "50%25"),
        (b"UTF-8'en'gr%C3%B6", "UTF-8'en'gr%C3%B6"),
        (b"it said UTF-8''a", "it said UTF-8''a"),
    ],
)
def test_a_reason_is_plain_text_or_rfc_8187(live: LiveServer, alice: str, header: bytes, reason: str):
    assert history_reason(live, alice, header) == (200, reason)


@pytest.mark.parametrize(
    "header",
    [
        "größer".encode(), "größer".encode("latin-1"), b"\xff", b"UTF-8''gr%C3", b"UTF-8''50%", b"UTF-8''%zz",
        b"UTF-8''", b"UTF-8''%0A", b"UTF-8''%00", b"UTF-8''%20", b"UTF-8''" + b"%41" * 201,
    ],
)  # fmt: skip
def test_an_unreadable_reason_is_refused(live: LiveServer, alice: str, header: bytes):
    assert history_reason(live, alice, header) == (400, "/X-Change-Reason")


@pytest.mark.parametrize("value", ["handling=lenient; x=ü", "handling=lenient, größer", "ü"])
@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_a_prefer_with_a_byte_outside_ascii_is_refused(live: LiveServer, alice: str, value: str, coding: str):
    line = b"Prefer: " + value.encode(coding)
    path = f"/api/patients/{live.call('POST', '/api/patients/', {'name': 'A'}, alice).json['id']}/"
    for method, target in (("POST", "/api/patients/"), ("PUT", path), ("PATCH", path)):
        answer = call(live, method, target, line, body={"name": "B", "unknown": 1}, token=alice)
        assert (answer.status, answer.json["detail"]) == (
            400,
            "Write the Prefer header in ASCII as in RFC 7240, `handling=lenient` for example.",
        )


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('If-Match: "ü"', 400), ('If-None-Match: "ü"', 304), ("Authorization: Bearer ü", 401), ("Content-Type: ü", 415),
        ("Idempotency-Key: ü", 400), ("Content-Encoding: ü", 415), ("User-Agent: ü", 200), ("Accept: ü", 200),
        ("Cookie: ü", 200), ("Origin: ü", 200), ("X-Forwarded-For: ü", 200), ("Host: ü", 400),
    ],
)  # fmt: skip
@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_any_header_with_a_byte_outside_ascii_has_an_answer_that_says_so_or_does_not_matter(
    live: LiveServer, alice: str, line: str, status: int, coding: str
):
    name, sent = line.split(":")[0], line.encode(coding)
    if name == "Idempotency-Key" or name.startswith("Content-"):
        answer = call(live, "POST", "/api/patients/", sent, body={"name": "A"}, token=alice)
    elif name == "Host":
        raw = request("GET", "/api/patients/").replace(b"Host: localhost", sent)
        received = send(live, Case("", raw, set()), alice)
        assert received
        answer = received
    elif name == "Authorization":
        answer = call(live, "GET", "/api/patients/", sent)
    elif name.startswith("If-"):
        doctor = live.call("POST", "/api/doctors/", {"name": "A"}, alice).json["id"]
        answer = call(live, "GET", f"/api/doctors/{doctor}/", sent, token=alice)
        status = 400
    else:
        answer = call(live, "GET", "/api/patients/", sent, token=alice)
    assert answer.status == status, answer.body
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"


CHARSETS = [
    "punycode", "hex", "utf-7", "utf-16", "latin-1", "us-ascii", "unicode_escape", "idna", "undefined", "klingon",
    "base64", "rot13", "zlib", '"hex"', "UTF-32", "utf-8-sig", "mbcs", "..", "../../etc", "",
]  # fmt: skip


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
)
@pytest.mark.parametrize(
    ("method", "path"), [LOGIN, ("GET", "/api/doctors/?q=" + "x" * 1000), ("POST", "/admin/login/")]
)
def test_a_charset_but_utf_8_is_refused_before_anything_is_decoded(
    live: LiveServer, charset: str, kind: str, method: str, path: str
):
    line = f"Content-Type: {kind}; charset={charset}".encode()
    answer = call(live, method, path, line, body=b'{"username": "a", "password": "b"}' if method == "POST" else None)
    assert (answer.status, answer.headers["Content-Type"]) == (415, "application/problem+json")
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_utf_8_is_accepted_under_its_names(live: LiveServer, charset: str):
    line = f"Content-Type: application/json; charset={charset}".encode()
    assert call(live, *LOGIN, line, body={"username": "nobody", "password": "x"}).status == 401


@pytest.mark.parametrize(
    "parameter", ["x*=hex''%41", "charset*=hex''%41", "x*=punycode''%ff", "x*=klingon''%41", "x*='"]
)
def test_a_parameter_in_a_charset_of_its_own_is_refused(live: LiveServer, parameter: str):
    line = f"Content-Type: application/json; {parameter}".encode()
    answer = call(live, *LOGIN, line, body={"username": "nobody", "password": "x"})
    assert (answer.status, answer.headers["Content-Type"]) == (415, "application/problem+json")


@pytest.mark.parametrize("parameter", ["filename*=hex''%41", "name*=punycode''%ff", "name*=klingon''%41"])
def test_a_part_of_a_form_in_a_charset_of_its_own_is_refused(live: LiveServer, parameter: str):
    body = f'--b\r\nContent-Disposition: form-data; name="a"; {parameter}\r\n\r\nx\r\n--b--\r\n'.encode()
    answer = call(live, "POST", "/admin/login/", b"Content-Type: multipart/form-data; boundary=b", body=body)
    assert answer.status in {400, 403}, answer.body


@pytest.mark.parametrize(
    ("lines", "secure"),
    [
        ([b"X-Forwarded-Proto: https"], True),
        ([b"X-Forwarded-Proto: https, https"], True),
        ([b"X-Forwarded-Proto: https, http"], False),
        ([b"X-Forwarded-Proto: http, https"], False),
        ([b"X-Forwarded-Proto: https,http"], False),
        ([b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http"], False),
        ([b"X-Forwarded-Proto: https,"], False),
        ([b"X-Forwarded-Proto: http"], False),
        ([b"X_Forwarded_Proto: https"], False),
        ([b"X-Forwarded_Proto: https"], False),
        ([b"X-Forwarded-Proto: http", b"X_Forwarded_Proto: https"], False),
        ([b"X_Forwarded_Proto: https", b"X-Forwarded-Proto: http"], False),
        ([], False),
    ],
)
def test_a_request_counts_as_https_if_every_proxy_says_so(behind_proxy: LiveServer, lines: list[bytes], secure: bool):
    assert call(behind_proxy, "GET", "/api/doctors/", *lines).status == (200 if secure else 403)


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([b"X-Forwarded-For: 203.0.113.9:4711"], "203.0.113.9"),
        ([b"X-Forwarded-For: 203.0.113.9"], "203.0.113.9"),
        ([b"X-Forwarded-For: [2001:db8::9]:4711"], "2001:db8::9"),
        ([b"X-Forwarded-For: [2001:db8::9]"], "2001:db8::9"),
        ([b'X-Forwarded-For: "[2001:db8::9]:4711"'], "2001:db8::9"),
        ([b"X-Forwarded-For: 2001:db8::9"], "2001:db8::9"),
        ([b"X-Forwarded-For: ::ffff:203.0.113.9"], "203.0.113.9"),
        ([b"X-Forwarded-For: 198.51.100.1, 203.0.113.9:4711"], "203.0.113.9"),
        ([b"X-Forwarded-For: 203.0.113.9:4711", b"X_Forwarded_For: 198.51.100.1"], "203.0.113.9"),
        ([b"X_Forwarded_For: 198.51.100.1", b"X-Forwarded-For: 203.0.113.9:4711"], "203.0.113.9"),
        ([b"X_Forwarded_For: 198.51.100.1"], "127.0.0.1"),
        ([b"X-Forwarded-For: unknown"], "127.0.0.1"),
        ([b"X-Forwarded-For: 203.0.113.9:x:y"], "127.0.0.1"),
    ],
)
def test_the_address_of_a_session_is_the_one_that_the_proxy_names(
    behind_proxy: LiveServer, lines: list[bytes], address: str
):
    https = b"X-Forwarded-Proto: https"
    name = f"user{uuid.uuid4().hex[:12]}"
    account = {"name": "A", "username": name, "email": f"{name}@example.org", "password": "StrongPass123"}
    assert call(behind_proxy, "POST", "/api/auth/register/", https, body=account).status == 201
    login = {"username": name, "password": "StrongPass123"}
    tokens = call(behind_proxy, *LOGIN, https, *lines, body=login)
    assert tokens.status == 200
    [session] = call(behind_proxy, "GET", "/api/auth/sessions/", https, token=tokens.json["access"]).json
    assert session["address"] == address


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "[2001:db8::1]:8000", "pod-7.cluster.local", "a_b", "ü", ""])
def test_a_health_check_answers_for_any_host_over_plain_http(behind_proxy: LiveServer, path: str, host: str):
    for sent in (f"Host: {host}\r\n", ""):
        raw = request("GET", path, None, b"Origin: https://app.example.org", token=b"")
        answer = send(behind_proxy, Case("", raw.replace(b"Host: localhost\r\n", sent.encode()), set()), "")
        assert answer
        assert answer.status == 200, (host, answer.body)


def test_an_administrator_logs_in_with_cookies_of_this_host_alone(behind_proxy: LiveServer):
    https = b"X-Forwarded-Proto: https"
    name = f"user{uuid.uuid4().hex[:12]}"
    account = {"name": "A", "username": name, "email": f"{name}@example.org", "password": "StrongPass123"}
    assert call(behind_proxy, "POST", "/api/auth/register/", https, body=account).status == 201
    with closing(psycopg2.connect(behind_proxy.database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_staff = true, is_superuser = true WHERE username = %s", [name])
    page = call(behind_proxy, "GET", "/admin/login/", https)
    cookie = page.headers["Set-Cookie"].split(";")[0].encode()
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert token
    form = b"username=%s&password=StrongPass123&csrfmiddlewaretoken=%s" % (name.encode(), token[1])
    lines = [https, b"Cookie: " + cookie, b"Referer: https://localhost/admin/login/"]
    kind = b"Content-Type: application/x-www-form-urlencoded"
    answer = call(behind_proxy, "POST", "/admin/login/?next=/admin/", *lines, kind, body=form)
    assert (answer.status, answer.headers["Location"]) == (302, "/admin/")
    cookies = answer.headers.get_all("Set-Cookie") or []
    assert {one.split("=")[0] for one in cookies} == {"__Host-csrftoken", "__Host-sessionid"}
    sent = b"Cookie: " + b"; ".join(one.split(";")[0].encode() for one in cookies)
    assert call(behind_proxy, "GET", "/admin/", https, sent).status == 200


def test_cookies_belong_to_this_host_alone_and_hsts_to_no_other(behind_proxy: LiveServer):
    answer = call(behind_proxy, "GET", "/admin/login/", b"X-Forwarded-Proto: https")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    cookies = answer.headers.get_all("Set-Cookie") or []
    assert [cookie.split("=")[0] for cookie in cookies] == ["__Host-csrftoken"]
    for cookie in cookies:
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"secure", "path=/"} <= attributes
        assert not any(attribute.startswith("domain") for attribute in attributes)
