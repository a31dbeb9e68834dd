"""The cache of tokens in a process."""

from typing import Any

import pytest

from accounts.authentication import KnownToken, known_tokens, remember
from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import NewToken, create_token
from accounts.personal_tokens.tests.token_requests import (
    JANE,
    ME,
    PATIENTS,
    ids,
    using,
)
from conftest import LoggedInClient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db(transaction=True)


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
