"""What a proxy compresses, and the entity tags of what it has compressed."""

import gzip
import json

import pytest

from healthcare.tests.proxies.proxy import Proxy

pytestmark = pytest.mark.slow

LONG_NAME = "Dr. Ada " + "Longname " * 20  # Caddy compresses from 512 bytes on


@pytest.fixture
def token(proxy: Proxy) -> str:
    return proxy.register()[1]["access"]


def create_doctor(proxy: Proxy, token: str) -> str:
    doctor = {"name": LONG_NAME, "hospital": "St. Mary " * 20, "specialization": "Cardiology"}
    answer = proxy.call("POST", "/api/doctors/", doctor, token)
    assert answer.status == 201, answer.body
    return f"/api/doctors/{answer.json['id']}/"


def test_the_tag_of_a_compressed_answer_works_as_a_precondition(proxy: Proxy, token: str) -> None:
    path = create_doctor(proxy, token)
    compressed = proxy.call("GET", path, accept_encoding="gzip")
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(compressed.body))["name"] == LONG_NAME.strip()
    vary = ",".join(compressed.headers.get_all("Vary") or []).lower()
    assert {"accept-encoding", "origin"} <= {name.strip() for name in vary.split(",")}
    plain = proxy.call("GET", path, accept_encoding="identity")
    assert "Content-Encoding" not in plain.headers

    for tag in (compressed.headers["ETag"], plain.headers["ETag"]):
        for accepted in ("gzip", "identity"):
            unchanged = proxy.call("GET", path, accept_encoding=accepted, if_none_match=tag)
            assert (unchanged.status, unchanged.body) == (304, b"")
            assert proxy.call("GET", path, accept_encoding=accepted, if_match=tag).status == 200
    tag = compressed.headers["ETag"]
    changed = proxy.call("PATCH", path, {"hospital": "General"}, token, if_match=tag)
    assert changed.status == 200, changed.body
    assert proxy.call("PATCH", path, {"hospital": "Third"}, token, if_match=tag).status == 412
    assert proxy.call("DELETE", path, None, token, if_match=tag).status == 412
    assert proxy.call("GET", path, accept_encoding="gzip", if_none_match=tag).status == 200
    assert proxy.call("DELETE", path, None, token, if_match=changed.headers["ETag"]).status == 204


def test_only_what_is_the_same_for_everyone_is_compressed(proxy: Proxy, token: str) -> None:
    doctor = create_doctor(proxy, token)
    long = {"name": "Ana " + "Longname " * 20, "address": "Street " * 60}
    created = proxy.call("POST", "/api/patients/", long, token, accept_encoding="gzip")
    patient = f"/api/patients/{created.json['id']}/"
    mapping = {"patient": created.json["id"], "doctor": int(doctor.split("/")[-2])}
    assert proxy.call("POST", "/api/mappings/", mapping, token, accept_encoding="gzip").status == 201
    secrets = ["/api/patients/", patient, f"{patient}history/", f"{patient}doctors/", f"{doctor}patients/",
               f"{doctor}history/", "/api/mappings/", "/api/auth/sessions/", "/api/auth/me/", "/admin/login/",
               f"{doctor}../../patients/", f"/static/..{patient}", f"/api/doctors/%2e%2e/..{patient}"]  # fmt: skip
    for path in secrets:
        answer = proxy.call("GET", path, None, token, accept_encoding="gzip, br, deflate")
        assert "Content-Encoding" not in answer.headers, path
    assert created.status == 201
    assert not created.headers["ETag"].startswith("W/")
    for path in ("/api/doctors/", doctor, "/api/docs/", "/api/schema/?format=json", "/static/admin/css/base.css"):
        answer = proxy.call("GET", path, accept_encoding="gzip, br, deflate")
        assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip"), path


def test_tokens_are_not_compressed(proxy: Proxy) -> None:
    account = {"username": "nobody", "password": "wrong"}
    for path in ("/api/auth/login/", "/api/auth/register/", "/api/auth/refresh/"):
        assert "Content-Encoding" not in proxy.call("POST", path, account, accept_encoding="gzip").headers
