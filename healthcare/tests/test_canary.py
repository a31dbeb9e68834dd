"""No value of a request is logged: a canary word is sent in every place, through every error, and no log has it."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from accounts.tests.smtp_server import smtp_server
from healthcare.embedded.home import Home
from healthcare.tests.live import TIMEOUT, LiveServer, serving
from healthcare.tests.postgres import SeparatePostgres, separate_postgres

pytestmark = pytest.mark.slow

WORD = "Canaryqzx"  # letters only, so that it can be a method, a host and the name of a header too
EVERYWHERE = {
    "User-Agent": WORD, "Referer": f"http://127.0.0.1/{WORD}", "Origin": f"http://{WORD}.example", "Accept": WORD,
    "Accept-Language": WORD, "Cookie": f"sessionid={WORD}; csrftoken={WORD}; {WORD}={WORD}", "Range": WORD,
    "X-Forwarded-For": WORD, "X-Forwarded-Host": WORD, "X-Request-Id": WORD, "If-Match": f'"{WORD}"',
    "If-None-Match": f'"{WORD}"', "X-Change-Reason": WORD, WORD: WORD,
}  # fmt: skip
# Database errors whose messages contain the row. The phone of the patient selects one.
BROKEN = """
CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.phone
        WHEN '1' THEN RAISE EXCEPTION 'no %', NEW.name USING DETAIL = NEW.name, HINT = NEW.name;
        WHEN '2' THEN NEW.gender := 'X';
        WHEN '3' THEN PERFORM NEW.name::integer;
        WHEN '4' THEN PERFORM pg_sleep(60);
        WHEN '5' THEN PERFORM 1 / 0;
        WHEN '6' THEN EXECUTE 'SELECT ' || quote_ident(NEW.name);
        WHEN '7' THEN RAISE WARNING '%', NEW.name;
        ELSE NULL;
    END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER break_off BEFORE INSERT ON patients_patient FOR EACH ROW EXECUTE FUNCTION break_off();
CREATE FUNCTION orphan() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.doctor_id := 2 ^ 40; RETURN NEW; END $$;
CREATE TRIGGER orphan BEFORE INSERT ON mappings_mapping FOR EACH ROW WHEN (NEW.is_primary) EXECUTE FUNCTION orphan();
"""
ACCOUNT = {"name": WORD, "username": WORD, "email": f"{WORD}@example.org", "password": f"Strong{WORD}123"}
# E-mails with links, which the server that gets them refuses, and links that do not work.
ABOUT_LINKS = {
    "email": f"{WORD}@example.org", "uid": WORD, "token": f"{WORD}-{WORD}", "new_password": f"Strong{WORD}456",
    "current_password": ACCOUNT["password"],
}  # fmt: skip
LINKS = {
    "password/reset": ["email"], "password/reset/confirm": ["uid", "token", "new_password"], "email/verify": ["email"],
    "email/verify/confirm": ["uid", "token"], "email": ["email", "current_password"],
}  # fmt: skip
WRONG = dict.fromkeys(
    ["name", "age", "gender", "birth_date", "birth_year", "deceased", "deceased_on", "identifier", "identifiers",
     "phone", "alternate_phone", "email", "language", "contacts", "medical_history", WORD], [WORD]
)  # fmt: skip
HEAD = f"Host: 127.0.0.1\r\nX-{WORD}: {WORD}\r\nConnection: close\r\n"
CUT_OFF = "Content-Length: 900"
RAW = [
    f"POST /api/patients/?{WORD} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    f"{len(WORD):x}\r\n{WORD}\r\n0\r\n\r\n",
    f"POST /api/patients/ HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n{CUT_OFF}\r\n\r\n{WORD}",
    f"POST /api/patients/ HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 9000000\r\n\r\n{WORD}",
    f"PATCH /api/patients/1/ HTTP/1.1\r\n{HEAD}Content-Length: {WORD}\r\n\r\n{WORD}",
    f"{WORD} /{WORD} HTTP/1.1\r\n{HEAD}\r\n",
    f"GET /{WORD} {WORD} HTTP/1.1\r\n{HEAD}\r\n",
    f"GET /{WORD} {WORD}/9.9\r\n\r\n",
    f"GET /api/patients/%00{WORD}%ff/?cursor=%00{WORD} HTTP/1.1\r\n{HEAD}\r\n",
    f"GET /api/doctors/ HTTP/1.1\r\nHost: {WORD}.example\r\n\r\n",
    f"GET /{WORD} HTTP/1.1\r\n{WORD}\r\n\r\n",
]


@pytest.fixture(scope="module")
def postgres(migrated_home: Home) -> Iterator[SeparatePostgres]:
    with separate_postgres(migrated_home) as started:
        yield started


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "output"


@pytest.fixture(scope="module")
def server(postgres: SeparatePostgres, output: Path) -> Iterator[LiveServer]:
    # The project's own settings: the test waits for the timeouts of statements and locks.
    settings: Any = {"THROTTLE_SCALE": "1", "DJANGO_SETTINGS_MODULE": "healthcare.settings"}
    with (
        smtp_server(refuses=True) as emails,
        serving(postgres.url, output=output, migrated=True, **settings, **emails.settings) as started,
    ):
        with psycopg2.connect(postgres.url) as connection:
            connection.cursor().execute(BROKEN)
        connection.close()
        yield started


class Caller:
    """Sends the canary word in every request, and collects the statuses."""

    def __init__(self, server: LiveServer) -> None:
        self.server, self.seen = server, set[int]()
        self.call("POST", "/api/auth/register/", ACCOUNT)
        login = {"username": WORD, "password": ACCOUNT["password"]}
        self.token = self.call("POST", "/api/auth/login/", login)["access"]

    def call(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Any:
        joint = "&" if "?" in path else "?"
        sent = {**EVERYWHERE, "Idempotency-Key": f"{WORD}-{body}".replace(" ", "")[:255], **headers}
        for query in (f"{joint}{WORD}={WORD}", ""):  # with an unknown parameter, which is refused, and without
            answer = self.server.call(method, f"{path}{query}", body, token, **sent)
            self.seen.add(answer.status)
        return json.loads(answer.body) if b"json" in (answer.headers["Content-Type"] or "").encode() else answer

    def raw(self, text: str) -> None:
        with socket.create_connection((self.server.host, self.server.port), timeout=TIMEOUT) as connection:
            connection.sendall(text.encode())
            if CUT_OFF in text:  # otherwise the server may assume that nobody waits for the answer
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        if found := re.match(rb"HTTP/1.1 (\d{3})", answer):
            self.seen.add(int(found[1]))

    def send_all_bad_requests(self) -> None:
        """Send every kind of bad request. The tests below cause the failures that need a state of the database."""
        call = partial(self.call, token=self.token)
        for token in ("", WORD, f"{self.token}{WORD}", f"hcp_{WORD}", f"hcp_1_1_{WORD}"):
            self.call("GET", "/api/patients/", token=token)
        for body in (b'{"name": "%b' % WORD.encode(), WORD.encode(), b"\xff" + WORD.encode(), {**WRONG}, {WORD: WORD}):
            for path in (
                "/api/patients/",
                "/api/doctors/",
                "/api/mappings/",
                "/api/auth/password/",
                "/api/auth/tokens/",
            ):
                call("POST", path, body)
        for path in ("/api/auth/register/", "/api/auth/login/", "/api/auth/refresh/", f"/admin/login/{WORD}/"):
            self.call("POST", path, {"username": WORD, "password": WORD, "refresh": WORD, **WRONG})
        self.call("POST", "/api/auth/register/", {**ACCOUNT, "password": f"Another{WORD}1"})
        for path, fields in LINKS.items():
            call("POST", f"/api/auth/{path}/", {name: ABOUT_LINKS[name] for name in fields})
        for path in (f"/{WORD}", f"/api/patients/{WORD}/", "/api/patients/9/", f"/static/{WORD}", f"/admin/{WORD}/"):
            call("GET", path)
        call("GET", f"/api/patients/?cursor={WORD}&limit={WORD}&count={WORD}&deleted={WORD}&as_of={WORD}")
        for query in (f"search={WORD}", f"search={WORD}@{WORD}&deleted=true", f"identifier={WORD}", f"doctor={WORD}"):
            call("GET", f"/api/patients/?{query}")
        call("POST", "/api/patients/?on_duplicate=reject", {"name": WORD, "identifier": WORD})
        for method in ("PUT", WORD):
            call(method, "/api/patients/", {"name": WORD})
        call("POST", "/api/patients/", {"name": f"{WORD} in plain text"}, **{"Content-Type": f"text/{WORD}"})
        call("POST", "/api/patients/", {"name": WORD}, **{"Idempotency-Key": f"{WORD} {WORD}"})
        self.call("POST", "/admin/login/", f"username={WORD}&password={WORD}".encode(), **{"Content-Type": FORM})
        self.call("POST", "/admin/login/", f"{WORD}=1&".encode() * 1001, **{"Content-Type": FORM})
        for text in RAW:
            self.raw(text)


FORM = "application/x-www-form-urlencoded"


def test_no_log_contains_what_was_sent(postgres: SeparatePostgres, server: LiveServer, output: Path) -> None:
    caller = Caller(server)
    call = partial(caller.call, token=caller.token)
    patient = call("POST", "/api/patients/", {"name": WORD})["id"]
    doctor = call("POST", "/api/doctors/", {"name": WORD, "email": f"{WORD}@example.org"})["id"]
    caller.send_all_bad_requests()
    with ThreadPoolExecutor(8) as threads, psycopg2.connect(postgres.url) as connection:
        connection.cursor().execute("SELECT FROM patients_patient WHERE id = %s FOR UPDATE", [patient])
        late = {"name": f"{WORD} waits for a lock"}
        changed = threads.submit(call, "PATCH", f"/api/patients/{patient}/", late, **{"If-Match": "*"})
        slept = threads.submit(call, "POST", "/api/patients/", {"name": WORD, "phone": "4"})
        broken = [{"name": WORD, "identifier": WORD, "phone": str(number)} for number in (1, 2, 3, 5, 6, 7)]
        list(threads.map(lambda body: call("POST", "/api/patients/", body), broken))
        assert changed.result()["status"] == 503
        assert slept.result()["status"] == 503
    connection.close()
    call("POST", "/api/patients/", {"name": f"{WORD} again"}, **{"Idempotency-Key": f"{WORD}-1"})
    call("POST", "/api/patients/", {"name": f"{WORD} and again"}, **{"Idempotency-Key": f"{WORD}-1"})
    mapping = {"patient": patient, "doctor": doctor, "reason": WORD}
    for body in (mapping, mapping | {"role": WORD}, mapping | {"is_primary": True}):
        call("POST", "/api/mappings/", body)
    call("PATCH", f"/api/patients/{patient}/", {"name": f"{WORD} of another state"})
    call("GET", f"/api/patients/{patient}/", **{"If-Match": f"{WORD} is no tag"})
    call("DELETE", f"/api/doctors/{doctor}/", **{"If-Match": "*"})
    for number in range(12):
        caller.call("POST", "/api/auth/login/", {"username": WORD, "password": f"{WORD}{number}"})
    postgres.stop()
    caller.send_all_bad_requests()
    postgres.start()
    assert caller.seen >= {200, 201, 400, 401, 403, 404, 405, 409, 411, 412, 413, 415, 422, 429, 500, 503}
    printed, log = output.read_text(errors="replace"), postgres.home.log.read_text(errors="replace")
    assert "healthcare.access" in printed
    assert "healthcare.errors" in printed
    assert "e-mail not sent: SMTPRecipientsRefused" in printed
    assert "link not valid" in printed
    assert "database system is ready" in log
    assert [line for line in (printed + log).splitlines() if WORD.lower() in line.lower()] == []


def test_without_the_settings_of_the_embedded_server_its_log_contains_what_was_sent(
    postgres: SeparatePostgres, server: LiveServer
) -> None:
    account = {"name": WORD, "email": f"{WORD}@example.com", "password": f"Strong{WORD}123"}
    postgres.stop()
    postgres.start({})
    statuses = [server.call("POST", "/api/auth/register/", account).status for _ in range(2)]
    postgres.stop()
    log = postgres.home.log.read_text(errors="replace")
    postgres.home.log.write_text("")
    postgres.start()
    assert statuses == [201, 400]
    assert WORD.lower() in log.lower()
