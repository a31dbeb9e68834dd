"""Requests with a personal access token, on the fast path and by standard Django REST framework."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.authentication import CONFINED_ELSEWHERE, KnownToken, known_tokens, remember
from accounts.delegations.models import Delegation
from accounts.limits import user_key
from accounts.models import LoginSession, User
from accounts.personal_tokens.format import checksum, new_secret, read_token, write_token
from accounts.personal_tokens.rules import NewToken, create_token
from accounts.tests.answers import without_request_id
from accounts.tokens import issue_token_pair
from audit.models import AccessLog
from conftest import PASSWORD, LoggedInClient
from healthcare.tests.cast import read_claims, sign_token
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)

PATIENTS, SEARCH, ME, PASSWORD_PATH = "/api/patients/", "/api/patients/search/", "/api/auth/me/", "/api/auth/password/"
JANE = {"name": "Jane", "age": 3, "gender": "F"}


@pytest.fixture(params=["fast", "standard"])
def path(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.FAST_PATH = "on" if request.param == "fast" else "off"
    return str(request.param)


@pytest.fixture
def token(alice: User) -> NewToken:
    return create_token(alice, name="Export", scope="write")


@pytest.fixture
def read_only(alice: User) -> NewToken:
    return create_token(alice, name="Report", scope="read")


@pytest.fixture
def delegation(alice: User, bob: User) -> Delegation:
    return Delegation.objects.create(owner=bob, delegate=alice, role="write")


@pytest.fixture
def confined(alice: User, delegation: Delegation) -> NewToken:
    return create_token(alice, name="Of bob", scope="write", acting_for="bob")


def using(text: str, scheme: str = "Bearer") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {text}")
    return client


def known(token: NewToken) -> APIClient:
    """A client with a token that this process knows."""
    client = using(token.text)
    assert client.get(ME).status_code == 200
    return client


def served_by(answer: Any) -> str:
    return getattr(answer.wsgi_request, "served_by", "standard")


def code_of(answer: Any) -> str | None:
    code: str | None = answer.json().get("code")
    return code


def body_of(answer: Any) -> Any:
    """The JSON of the answer, without the id of the request."""
    return answer.json() if answer.status_code < 400 else without_request_id(answer)


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [one["id"] for one in answer.json()]


def test_the_fast_path_serves_a_token_from_its_second_request_on(token: NewToken, alice: User, path: str) -> None:
    patient, client = make_patient(alice), using(token.text)
    first, second = (client.get(PATIENTS) for _ in range(2))
    assert [served_by(first), served_by(second)] == ["standard", path]
    assert ids(first) == ids(second) == [patient.pk]
    for method, url, body in (
        ("get", f"{PATIENTS}{patient.pk}/", None), ("patch", f"{PATIENTS}{patient.pk}/", {"name": "New"}),
        ("post", PATIENTS, JANE), ("get", "/api/doctors/", None),
    ):  # fmt: skip
        answer = getattr(client, method)(url, body)
        assert (answer.status_code < 300, served_by(answer)) == (True, path)


def test_the_log_names_the_caller_from_the_first_request_on(
    token: NewToken, alice: User, path: str, caplog: Any
) -> None:
    caplog.set_level("INFO", logger="healthcare.access")
    client = using(token.text)
    assert [client.get(PATIENTS).status_code for _ in range(2)] == [200, 200]
    assert [record.fields["caller"] for record in caplog.records] == [user_key(alice.pk)] * 2
    assert token.text.rpartition("_")[2] not in str([vars(record) for record in caplog.records])


def test_the_fast_path_answers_a_token_as_the_standard_path_does(
    token: NewToken, confined: NewToken, alice: User, bob: User, settings: Any, caplog: Any
) -> None:
    settings.FAST_PATH = "verify"
    patients = [make_patient(alice), make_patient(bob)]
    for one in (token, confined):
        client = known(one)
        for url in (PATIENTS, "/api/doctors/", "/api/mappings/", *(f"{PATIENTS}{patient.pk}/" for patient in patients)):
            assert [client.get(url).status_code for _ in range(2)] in ([200, 200], [404, 404])
    assert not [record for record in caplog.records if record.name == "healthcare.fastpath"]


def statements(client: APIClient, method: str, url: str, body: Any = None, **headers: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert getattr(client, method)(url, body, headers=headers).status_code < 300
    return len(queries)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("get", ME, None),
        ("get", PATIENTS, None),
        ("post", PATIENTS, JANE),
        ("post", SEARCH, {"search": "Jane"}),
        ("get", "/api/doctors/", None),
        ("post", "/api/doctors/", {"name": "Dr Rao"}),
    ],
)
def test_a_token_takes_no_statement_more_than_a_login(
    as_alice: LoggedInClient, token: NewToken, alice: User, path: str, method: str, url: str, body: Any
) -> None:
    """It is checked in the one statement of the authentication."""
    make_patient(alice)
    clients = as_alice, known(token)
    for client in clients:
        client.get(url.replace("search/", ""))
    assert len({statements(client, method, url, body) for client in clients}) == 1


def test_acting_for_an_owner_takes_no_statement_more_either(
    as_alice: LoggedInClient, confined: NewToken, token: NewToken, bob: User, settings: Any
) -> None:
    make_patient(bob)
    header = {"X-Acting-For": "bob"}
    calls = [(as_alice, header), (known(token), header), (known(confined), {}), (known(confined), header)]
    for fast_path, compared in (("off", calls), ("on", calls[:3])):  # standard DRF compares the header of the last one
        settings.FAST_PATH = fast_path
        for client, headers in compared:
            client.get(PATIENTS, headers=headers)
        assert len({statements(client, "get", PATIENTS, **headers) for client, headers in compared}) == 1


def end_by_change_of_password(token: NewToken) -> None:
    answer = LoggedInClient(token.session.user).post(
        PASSWORD_PATH, {"current_password": PASSWORD, "new_password": "Another-Pass-9"}
    )
    assert answer.status_code == 204


def end_by_saving(token: NewToken, **fields: Any) -> None:
    user = User.objects.get(pk=token.session.user_id)
    for name, value in fields.items():
        setattr(user, name, value)
    user.save()


ENDINGS: dict[str, Callable[[NewToken], Any]] = {
    "revoked": lambda token: LoginSession.objects.filter(pk=token.session.pk).revoke(),
    "removed": lambda token: LoginSession.objects.filter(pk=token.session.pk).delete(),
    "expired": lambda token: LoginSession.objects.filter(pk=token.session.pk).update(expires_at=Now()),
    "deactivated": lambda token: end_by_saving(token, is_active=False),
    "deactivated in the table": lambda token: connection.cursor().execute(
        "UPDATE accounts_user SET is_active = false WHERE id = %s", [token.session.user_id]
    ),
    "new password": end_by_change_of_password,
    "new password by an operator": lambda token: end_by_saving(token, password="!"),
    "logged out": lambda token: using(token.text).post("/api/auth/logout/"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_token_that_has_ended_is_refused_on_the_next_request(
    token: NewToken, alice: User, path: str, ending: str, method: str
) -> None:
    client = known(token)
    assert ids(client.get(PATIENTS)) == [ids(client.get("/api/doctors/")) for _ in range(2)][1] == []
    ENDINGS[ending](token)
    for _ in range(2):  # the first one by the cache of the process, the second one without
        answer = getattr(client, method)(PATIENTS, JANE if method == "post" else None)
        assert answer.status_code == 401
        assert without_request_id(answer)["detail"] == "The token is unknown or has ended; create a new one."
        assert answer["WWW-Authenticate"] == 'Bearer realm="api"'
    assert client.get(ME).status_code == client.get("/api/doctors/").status_code == 401
    assert not Patient.objects.exists()
    assert not AccessLog.objects.filter(outcome__gte=400).exists()


@pytest.mark.parametrize("days", [4, 300])
def test_a_token_does_not_end_for_want_of_use(token: NewToken, path: str, days: int) -> None:
    client = known(token)
    LoginSession.objects.update(last_used_at=timezone.now() - timedelta(days=days))
    assert [client.get(PATIENTS).status_code for _ in range(2)] == [200, 200]
    assert LoginSession.objects.get().last_used_at > timezone.now() - timedelta(minutes=1)
    assert LoginSession.objects.get().expires_at == token.session.expires_at


@pytest.mark.parametrize(("minutes", "recorded"), [(59, False), (61, True)])
def test_a_use_is_recorded_once_an_hour(token: NewToken, path: str, minutes: int, recorded: bool) -> None:
    client = known(token)
    before = timezone.now() - timedelta(minutes=minutes)
    LoginSession.objects.update(last_used_at=before)
    for _ in range(2):
        assert client.post(PATIENTS, JANE).status_code == 201
    assert (LoginSession.objects.get().last_used_at > before) is recorded


def test_a_read_token_writes_nothing_and_searches_by_post(read_only: NewToken, alice: User, path: str) -> None:
    patient, client = make_patient(alice), using(read_only.text)
    detail = f"{PATIENTS}{patient.pk}/"
    for _ in range(2):  # without the cache, and with it
        for method, url, body in (
            ("post", PATIENTS, JANE), ("patch", detail, {"name": "New"}), ("put", detail, JANE),
            ("delete", detail, None), ("post", "/api/mappings/", {"patient": patient.pk, "doctor": 1}),
            ("post", "/api/doctors/", {"name": "X"}), ("post", "/api/auth/logout/", None),
            ("delete", f"/api/auth/tokens/{read_only.session.pk}/", None),
        ):  # fmt: skip
            answer = getattr(client, method)(url, body)
            assert (answer.status_code, code_of(answer)) == (403, "insufficient_scope"), url
            challenge = 'Bearer realm="api", error="insufficient_scope", scope="write"'
            assert answer["WWW-Authenticate"] == challenge
        assert ids(client.get(PATIENTS)) == [patient.pk]
    assert ids(client.post(SEARCH, {"search": patient.name})) == [patient.pk]
    assert Patient.objects.get().name == patient.name
    assert using(read_only.text).get(ME).status_code == 200


def test_a_refused_write_is_refused_before_the_body_is_read(read_only: NewToken) -> None:
    for body in ("", "{", "[]", '{"nonsense": 1}'):
        answer = using(read_only.text).generic("POST", PATIENTS, body, content_type="application/json")
        assert code_of(answer) == "insufficient_scope"


CLOSED = [
    ("post", "/api/auth/tokens/", {"name": "X", "scope": "write", "current_password": PASSWORD}),
    ("post", PASSWORD_PATH, {"current_password": PASSWORD, "new_password": "Another-Pass-9"}),
    ("patch", ME, {"name": "Changed"}),
    ("post", "/api/clinics/", {"name": "Clinic", "username": "clinic"}),
    ("post", "/api/delegations/", {"delegate": "carol", "role": "manage"}),
]


@pytest.mark.parametrize(("method", "url", "body"), CLOSED)
@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_token_changes_no_account(
    token: NewToken, read_only: NewToken, make_user: Any, scope: str, method: str, url: str, body: Any
) -> None:
    make_user("carol")
    client = known(read_only if scope == "read" else token)
    answer = getattr(client, method)(url, body)
    assert (answer.status_code, code_of(answer)) == (403, "not_by_token")
    assert "WWW-Authenticate" not in answer
    assert not Delegation.objects.exists()
    assert User.objects.get(username="alice").name == "Alice"
    assert LoginSession.objects.count() == 2


def test_a_token_ends_itself_and_no_other_session(
    token: NewToken, read_only: NewToken, as_alice: LoggedInClient, as_bob: LoggedInClient
) -> None:
    client = using(token.text)
    proof = {"current_password": PASSWORD}
    for url in ("/api/auth/sessions/{}/", "/api/auth/tokens/{}/"):
        answer = client.delete(url.format(read_only.session.pk), proof)
        assert (answer.status_code, code_of(answer)) == (403, "not_by_token")
        assert client.delete(url.format(as_bob.login_session.pk), proof).status_code == 404
    assert client.delete(f"/api/auth/sessions/{as_alice.login_session.pk}/", proof).status_code == 403
    assert (
        using(read_only.text).get(ME).status_code == as_alice.get(ME).status_code == as_bob.get(ME).status_code == 200
    )
    assert client.delete(f"/api/auth/tokens/{token.session.pk}/").status_code == 204
    assert client.get(ME).status_code == 401


@pytest.mark.parametrize("url", ["/api/auth/sessions/{}/", "/api/auth/tokens/{}/"])
def test_a_token_is_ended_by_itself_without_a_password(token: NewToken, url: str) -> None:
    client = using(token.text)
    assert client.delete(url.format(token.session.pk)).status_code == 204
    assert client.get(ME).status_code == 401


@pytest.mark.parametrize("kept", [None, False, "false", True, "true"])
def test_a_new_password_ends_the_tokens_unless_they_are_kept(token: NewToken, path: str, kept: Any) -> None:
    alice, client = token.session.user, known(token)
    changing, other = LoggedInClient(alice), LoggedInClient(alice)
    body = {"current_password": PASSWORD, "new_password": "Another-Pass-9"}
    answer = changing.post(PASSWORD_PATH, body if kept is None else body | {"keep_tokens": kept})
    assert answer.status_code == 204
    assert other.get(ME).status_code == 401
    assert changing.get(ME).status_code == 200
    keeps = str(kept).lower() == "true"
    assert client.get(PATIENTS).status_code == client.get(ME).status_code == (200 if keeps else 401)


@pytest.mark.parametrize("kept", [None, "", "yes", 1, [True]])
def test_a_keep_tokens_that_is_no_boolean_changes_nothing(token: NewToken, as_alice: LoggedInClient, kept: Any) -> None:
    body = {"current_password": PASSWORD, "new_password": "Another-Pass-9", "keep_tokens": kept}
    answer = as_alice.post(PASSWORD_PATH, body)
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (400, ["/keep_tokens"])
    assert using(token.text).get(ME).status_code == 200


def test_a_login_ends_no_token_and_a_token_no_login(token: NewToken, as_alice: LoggedInClient) -> None:
    login = APIClient().post("/api/auth/login/", {"username": "alice", "password": PASSWORD}).json()
    assert using(token.text).get(ME).status_code == using(login["access"]).get(ME).status_code == 200
    assert using(token.text).post("/api/auth/logout/").status_code == 204
    assert using(login["access"]).get(ME).status_code == as_alice.get(ME).status_code == 200


# acting_for


def test_a_confined_token_acts_for_its_owner_and_no_other(
    confined: NewToken, alice: User, bob: User, make_user: Any, path: str
) -> None:
    clinic = make_user("sunrise")
    Delegation.objects.create(owner=clinic, delegate=alice, role="manage")
    of_bob = make_patient(bob)
    make_patient(alice)
    make_patient(clinic)
    client, login = using(confined.text), LoggedInClient(alice)
    login.get(PATIENTS, headers={"X-Acting-For": "sunrise"})  # the process knows this owner, too
    for number in range(3):
        listed = client.get(PATIENTS)
        assert (ids(listed), listed["X-Acting-For"]) == ([of_bob.pk], "bob")
        assert served_by(listed) == (path if number else "standard")
        for name in ("bob", " BOB ", str(bob.pk), f"00{bob.pk}"):
            named = client.get(PATIENTS, headers={"X-Acting-For": name})
            assert (ids(named), named["X-Acting-For"]) == ([of_bob.pk], "bob")
        for name in ("self", "alice", str(alice.pk), "sunrise", str(clinic.pk), "nobody", "0", "9" * 30, "b\xf6b"):
            header = {"X-Acting-For": name}
            detail = f"{PATIENTS}{of_bob.pk}/"
            for method, url, body in (
                ("get", PATIENTS, None), ("get", detail, None), ("post", PATIENTS, JANE),
                ("patch", detail, {"name": "X"}), ("delete", detail, None),
                ("get", "/api/mappings/", None), ("post", SEARCH, {"search": "Jane"}),
            ):  # fmt: skip
                answer = getattr(client, method)(url, body, headers=header)
                assert (answer.status_code, code_of(answer)) == (403, "not_a_delegate"), (name, method, url)
                assert answer.json()["detail"] == CONFINED_ELSEWHERE
        assert client.get(PATIENTS, headers={"X-Acting-For": ""}).status_code == 400
    created = client.post(PATIENTS, JANE)
    assert (created.status_code, created["X-Acting-For"], served_by(created)) == (201, "bob", path)
    assert Patient.objects.get(pk=created.json()["id"]).created_by == bob
    assert client.get(ME).json()["username"] == "alice"


@pytest.mark.parametrize("end", ["revoked", "expired", "deactivated"])
def test_a_confined_token_is_refused_when_the_delegation_ends(
    confined: NewToken, alice: User, bob: User, path: str, end: str
) -> None:
    make_patient(alice)
    client = known(confined)
    assert [ids(client.get(PATIENTS)) for _ in range(2)] == [[], []]
    if end == "deactivated":
        User.objects.filter(pk=bob.pk).update(is_active=False)
    else:
        Delegation.objects.update(**{"revoked_at" if end == "revoked" else "expires_at": timezone.now()})
    assert "Ask them for a delegation" in client.get(PATIENTS).json()["detail"]
    for headers in ({}, {"X-Acting-For": "bob"}, {"X-Acting-For": "self"}):
        for _ in range(2):
            assert code_of(client.get(PATIENTS, headers=headers)) == "not_a_delegate"
            assert code_of(client.post(PATIENTS, JANE, headers=headers)) == "not_a_delegate"
    assert not Patient.objects.filter(name="Jane").exists()
    assert client.get(ME).status_code == 200


def test_a_token_does_what_the_role_of_the_delegation_allows(
    confined: NewToken, delegation: Delegation, bob: User, path: str
) -> None:
    client, patient = known(confined), make_patient(bob)
    detail = f"{PATIENTS}{patient.pk}/"
    client.get(PATIENTS)
    assert client.patch(detail, {"name": "New"}).status_code == 200
    assert code_of(client.delete(detail)) == "role_too_low"
    Delegation.objects.update(role="read")
    assert code_of(client.patch(detail, {"name": "Newer"})) == "role_too_low"
    assert ids(client.get(PATIENTS)) == [patient.pk]


def test_a_read_token_writes_nothing_for_an_owner_whom_it_manages(alice: User, bob: User, path: str) -> None:
    Delegation.objects.create(owner=bob, delegate=alice, role="manage")
    patient = make_patient(bob)
    for acting_for, headers in (("bob", {}), (None, {"X-Acting-For": "bob"})):
        client = using(create_token(alice, name="Report", scope="read", acting_for=acting_for).text)
        for _ in range(2):
            assert ids(client.get(PATIENTS, headers=headers)) == [patient.pk]
            assert code_of(client.post(PATIENTS, JANE, headers=headers)) == "insufficient_scope"
            assert code_of(client.delete(f"{PATIENTS}{patient.pk}/", headers=headers)) == "insufficient_scope"
    assert Patient.objects.get() == patient


def test_row_level_security_alone_lets_a_read_token_write_nothing_of_another_owner(
    alice: User, bob: User, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Delegation.objects.create(owner=bob, delegate=alice, role="manage")
    patient = make_patient(bob)
    clients = {
        scope: using(create_token(alice, name="X", scope=scope, acting_for="bob").text) for scope in ("read", "write")
    }
    for client in clients.values():
        assert [ids(client.get(PATIENTS)) for _ in range(2)] == [[patient.pk]] * 2
    monkeypatch.setattr("accounts.authentication.check_token", lambda view, method, scope: None)
    monkeypatch.setattr("accounts.authentication.WRITE", "read")
    for scope, client in clients.items():
        for method, url, body in (
            ("post", PATIENTS, JANE), ("patch", f"{PATIENTS}{patient.pk}/", {"name": "New"}),
            ("delete", f"{PATIENTS}{patient.pk}/", None),
        ):  # fmt: skip
            client.raise_request_exception = False
            answer = getattr(client, method)(url, body)
            assert (answer.status_code < 300) is (scope == "write"), (scope, method)
        assert Patient.objects.filter(name="Jane").exists() is (scope == "write")


def test_a_token_without_acting_for_works_as_a_login_does(
    as_alice: LoggedInClient, token: NewToken, delegation: Delegation, alice: User, bob: User, path: str
) -> None:
    make_patient(alice)
    make_patient(bob)
    clients = as_alice, using(token.text)
    for name in ("bob", str(bob.pk), "self", "alice", "nobody", None, ""):
        headers = {} if name is None else {"X-Acting-For": name}
        for _ in range(2):
            answers = [client.get(PATIENTS, headers=headers) for client in clients]
            seen = [(one.status_code, one.get("X-Acting-For"), body_of(one)) for one in answers]
            assert seen[0] == seen[1], name
        assert served_by(answers[0]) == served_by(answers[1])


# Invalid tokens


def parts_altered(text: str) -> dict[str, str]:
    """Each part of the token altered, with the checksum of the result."""
    prefix, session_id, user_id, secret = text[:-8].split("_")
    other = f"{int(secret, 16) ^ 1:064x}"
    return {
        name: altered + checksum(altered)
        for name, altered in {
            "session": f"{prefix}_{int(session_id) + 1}_{user_id}_{secret}",
            "unknown session": f"{prefix}_{10**17}_{user_id}_{secret}",
            "user": f"{prefix}_{session_id}_{int(user_id) + 1}_{secret}",
            "swapped ids": f"{prefix}_{user_id}_{session_id}_{secret}",
            "secret": f"{prefix}_{session_id}_{user_id}_{other}",
            "no secret": f"{prefix}_{session_id}_{user_id}_{'0' * 64}",
        }.items()
    }


def test_a_wrong_secret_and_an_unknown_token_are_refused_with_the_same_bytes(
    token: NewToken, alice: User, bob: User, path: str
) -> None:
    LoggedInClient(alice)  # a login whose session has the next id
    client = known(token)
    altered = parts_altered(token.text) | {"unknown": write_token(10**17, 10**17, new_secret())}
    bodies = []
    for text in altered.values():
        assert read_token(text) is not None
        for url in (ME, PATIENTS):
            answer = using(text).get(url)
            assert answer.status_code == 401
            bodies.append((without_request_id(answer), answer["WWW-Authenticate"]))
        assert using(text).post(PATIENTS, JANE).status_code == 401
    assert bodies == [bodies[0]] * len(bodies)
    assert client.get(PATIENTS).status_code == 200


def malformed(text: str) -> dict[str, str]:
    wrong_digit = text[:-1] + ("0" if text[-1] != "0" else "1")
    parts = text.split("_")
    long = f"hcp_{'9' * 18}_{parts[2]}_{parts[3]}"
    return {
        "wrong checksum": wrong_digit,
        "a missing character": text[:-1],
        "a character too many": text + "0",
        "prefix alone": "hcp_",
        "no prefix": text.removeprefix("hcp_"),
        "other prefix": "ghp_" + text.removeprefix("hcp_"),
        "upper case": text.upper(),
        "upper-case secret": f"hcp_{parts[1]}_{parts[2]}_{parts[3].upper()}",
        "a zero in front": f"hcp_0{parts[1]}_{parts[2]}_{parts[3]}",
        "a negative id": f"hcp_-{parts[1]}_{parts[2]}_{parts[3]}",
        "an id of a hundred digits": f"hcp_{'9' * 100}_{parts[2]}_{parts[3]}",
        "the longest id": long[:-8] + checksum(long[:-8]),
        "another separator": text.replace("_", "-"),
        "whitespace within": text.replace("_", " _", 1),
        "a tab within": text.replace("_", "_\t", 2),
        "two tokens": f"{text} {text}",
        "a NUL": text + "\0",
        "a line feed": text + "\n0",
        "Latin-1": text + "\xe9",
        "digits of another script": text.replace(parts[1], "\xb2\xb3"),
        "100 kB": "hcp_" + "1" * 100_000,
        "100 kB of parts": "hcp_" + "1_" * 50_000,
        "100 kB after a token": text + "0" * 100_000,
    }


@pytest.mark.parametrize("case", malformed(write_token(1, 1, new_secret())))
def test_a_malformed_token_is_refused(token: NewToken, path: str, case: str) -> None:
    client = known(token)
    text = malformed(token.text)[case]
    for url in (ME, PATIENTS, "/api/doctors/"):
        answer = using(text).get(url)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="api"'), url
        assert token.session.secret_hash not in answer.content.decode()
        assert using(text).post(PATIENTS, JANE).status_code == 401
    assert client.get(PATIENTS).status_code == 200
    assert len(known_tokens) == 1


@pytest.mark.parametrize(
    ("scheme", "status"),
    [("bearer", 200), ("BEARER", 200), ("Bearer ", 200), ("Token", 401), ("Basic", 401), ("JWT", 401), ("", 401)],
)
def test_the_scheme_is_bearer_in_any_case(token: NewToken, path: str, scheme: str, status: int) -> None:
    for _ in range(2):
        assert using(token.text, scheme).get(PATIENTS).status_code == status


def test_a_token_in_the_body_or_the_query_or_a_cookie_is_not_looked_at(token: NewToken) -> None:
    client = APIClient()
    client.cookies["token"] = client.cookies["access_token"] = token.text
    assert client.get(PATIENTS).status_code == 401
    assert client.get(f"{PATIENTS}?access_token={token.text}").status_code == 401
    assert client.post(PATIENTS, JANE | {"access_token": token.text}).status_code == 401


def test_a_signed_token_of_a_personal_access_tokens_session_is_refused(token: NewToken, path: str) -> None:
    """As if its session were a login: signed by this server, with the ids of the row."""
    pair = issue_token_pair(LoginSession.objects.get(pk=token.session.pk))
    for text in (pair["access"], sign_token({**read_claims(pair["access"]), "jti": "0" * 32})):
        assert using(text).get(ME).status_code == using(text).get(PATIENTS).status_code == 401
        assert using(text).post(PATIENTS, JANE).status_code == 401
    refreshed = APIClient().post("/api/auth/refresh/", {"refresh": pair["refresh"]})
    assert refreshed.status_code == 401
    session = LoginSession.objects.get(pk=token.session.pk)
    assert LoginSession.rotate(session.pk, session.user_id, session.token_id) is None
    session.refresh_from_db()
    assert (session.token_id, session.revoked_at) == (token.session.token_id, None)
    for text in (token.text, pair["access"]):
        assert APIClient().post("/api/auth/refresh/", {"refresh": text}).status_code == 401
    assert using(token.text).get(ME).status_code == 200


def test_a_token_cannot_be_made_of_a_logins_session(as_alice: LoggedInClient, alice: User) -> None:
    session = as_alice.login_session
    for secret in (new_secret(), session.token_id * 2, "0" * 64):
        assert using(write_token(session.pk, alice.pk, secret)).get(ME).status_code == 401


# The cache of the process


def test_what_the_cache_holds_of_a_token_grants_nothing(token: NewToken, read_only: NewToken, path: str) -> None:
    """An entry that is wrong, or of a token that another one replaced, is compared with the database."""
    client = using(token.text)
    secret_hash = str(token.session.secret_hash)
    LoginSession.objects.filter(pk=token.session.pk).revoke()
    remember(known_tokens, secret_hash, KnownToken(token.session.user_id, "write", None))
    assert client.get(PATIENTS).status_code == client.post(PATIENTS, JANE).status_code == 401
    assert secret_hash not in known_tokens


def test_a_wrong_owner_in_the_cache_gets_a_confined_token_nowhere_else(
    confined: NewToken, alice: User, bob: User, make_user: Any, path: str
) -> None:
    clinic, of_bob = make_user("sunrise"), make_patient(bob)
    Delegation.objects.create(owner=clinic, delegate=alice, role="manage")
    make_patient(clinic)
    LoggedInClient(alice).get(PATIENTS, headers={"X-Acting-For": str(clinic.pk)})  # the process knows this owner
    remember(known_tokens, str(confined.session.secret_hash), KnownToken(alice.pk, "write", clinic.pk))
    assert ids(using(confined.text).get(PATIENTS)) == [of_bob.pk]


def test_the_tokens_that_are_known_are_bounded(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.authentication.MOST_KNOWN", 3)
    for number in range(10):
        assert using(create_token(alice, name=str(number), scope="read").text).get(ME).status_code == 200
    assert 0 < len(known_tokens) <= 3


def test_a_refused_token_is_not_known(token: NewToken) -> None:
    for text in parts_altered(token.text).values():
        using(text).get(PATIENTS)
    assert known_tokens == {}


# Rows of a server of the last release


def test_a_row_without_the_new_columns_is_a_login(alice: User, path: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_loginsession (user_id, token_id, previous_token_id, user_agent, address, created_at,"
            " rotated_at, last_used_at, expires_at) VALUES (%s, %s, '', 'old', NULL, now(), now(), now(), now() +"
            " interval '1 day') RETURNING id",
            [alice.pk, "a" * 32],
        )
    session = LoginSession.objects.get()
    assert (session.kind, session.name, session.scope, session.secret_hash) == ("session", "", "", None)
    pair = issue_token_pair(session)
    assert using(pair["access"]).get(PATIENTS).status_code == 200
    refreshed = APIClient().post("/api/auth/refresh/", {"refresh": pair["refresh"]})
    assert refreshed.status_code == 200
    assert using(refreshed.json()["access"]).post(PATIENTS, JANE).status_code == 201
    LoginSession.objects.update(last_used_at=F("last_used_at") - timedelta(days=4))
    assert using(refreshed.json()["access"]).get(PATIENTS).status_code == 401


def test_a_row_that_is_half_a_token_is_refused_by_the_table(alice: User) -> None:
    for change in ("kind = 'token'", "scope = 'read'", "secret_hash = repeat('0', 64)", "kind = 'other'"):
        LoggedInClient(alice)
        with connection.cursor() as cursor, pytest.raises(IntegrityError, match="session_kind"):
            cursor.execute(f"UPDATE accounts_loginsession SET {change}")  # noqa: S608


def test_a_forged_token_gets_no_stored_answer_of_the_token_that_it_names(token: NewToken, alice: User) -> None:
    key: dict[str, Any] = {"HTTP_IDEMPOTENCY_KEY": "once"}
    ended = APIClient().post("/api/auth/logout/", HTTP_AUTHORIZATION=f"Bearer {token.text}", **key)
    assert ended.status_code == 204
    forged = write_token(token.session.pk, alice.pk, new_secret())
    answer = APIClient().post("/api/auth/logout/", HTTP_AUTHORIZATION=f"Bearer {forged}", **key)
    assert answer.status_code == 401
