"""Tokens with `acting_for`, which work on the records of one owner."""

from typing import Any

import pytest
from django.utils import timezone

from accounts.authentication import CONFINED_ELSEWHERE
from accounts.delegations.models import Delegation
from accounts.models import User
from accounts.personal_tokens.rules import NewToken, create_token
from accounts.personal_tokens.tests.token_requests import (
    JANE,
    ME,
    PATIENTS,
    SEARCH,
    body_of,
    code_of,
    ids,
    known,
    served_by,
    using,
)
from conftest import LoggedInClient
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)


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
