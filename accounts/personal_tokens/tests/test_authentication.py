"""Requests with a personal access token, on the fast path and by standard Django REST framework."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.limits import user_key
from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import NewToken
from accounts.personal_tokens.tests.token_requests import (
    JANE,
    ME,
    PASSWORD_PATH,
    PATIENTS,
    SEARCH,
    code_of,
    ids,
    known,
    served_by,
    using,
)
from accounts.tests.answers import without_request_id
from audit.models import AccessLog
from conftest import PASSWORD, LoggedInClient
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)


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
