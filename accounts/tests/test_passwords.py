"""Unicode passwords (RFC 8265), and passwords that are guessed because of where they are used."""

import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.db import models
from rest_framework.test import APIClient

from accounts.hashers import Argon2idHasher
from accounts.models import User
from accounts.passwords import spellings
from accounts.tests.answers import refusals
from conftest import PASSWORD, LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

NFC = "Zo\u00eb-fianc\u00e9-\u1e69trong"
NFD = unicodedata.normalize("NFD", NFC)
MIXED = "Zo\u00eb-fiance\u0301-\u1e61\u0323trong"
NEW = {"name": "Zoe", "email": "zoe@example.org", "username": "zoe"}


def login(client: APIClient, password: str, username: str = "zoe") -> int:
    return client.post("/api/auth/login/", {"username": username, "password": password}).status_code


def test_the_spellings_differ_and_normalize_alike():
    assert len({NFC, NFD, MIXED}) == 3
    assert {unicodedata.normalize("NFC", text) for text in (NFC, NFD, MIXED)} == {NFC}


@pytest.mark.parametrize("registered", [NFC, NFD, MIXED])
def test_a_password_works_from_every_keyboard(anonymous: APIClient, registered: str):
    assert anonymous.post("/api/auth/register/", NEW | {"password": registered}).status_code == 201
    assert [login(anonymous, typed) for typed in (NFC, NFD, MIXED)] == [200] * 3
    assert User.objects.get().check_password(NFC)
    wrong = [NFC.replace("\u00eb", "e"), NFC.upper(), NFC + " ", unicodedata.normalize("NFKC", NFC + "\u2460")]
    assert [login(anonymous, typed) for typed in wrong] == [401] * 4


@pytest.mark.parametrize("stored", [NFC, NFD, MIXED, "mit\u00a0Leerzeichen-\u00e9"])
def test_passwords_from_before_still_work(make_user: Callable[..., User], anonymous: APIClient, stored: str):
    zoe = make_user("zoe")
    models.QuerySet(User).filter(pk=zoe.pk).update(password=make_password(stored))  # hashed as it was typed
    assert login(anonymous, stored) == 200
    client = LoggedInClient(User.objects.get(pk=zoe.pk))
    change = {"current_password": stored, "new_password": "Kf7-\u00e9-twelve"}
    assert client.post("/api/auth/password/", change).status_code == 204
    assert login(anonymous, unicodedata.normalize("NFD", "Kf7-\u00e9-twelve")) == 200


def test_a_password_hashed_decomposed_works_composed(make_user: Callable[..., User], anonymous: APIClient):
    zoe = make_user("zoe")
    models.QuerySet(User).filter(pk=zoe.pk).update(password=make_password(NFD))
    assert [login(anonymous, typed) for typed in (NFC, NFD, MIXED)] == [200] * 3


def test_every_space_is_the_same_and_spaces_are_not_trimmed(anonymous: APIClient):
    typed = " Kf7\u00a0pass\u3000word "
    assert anonymous.post("/api/auth/register/", NEW | {"password": typed}).status_code == 201
    assert [login(anonymous, text) for text in (typed, " Kf7 pass word ", typed.strip())] == [200, 200, 401]


@pytest.mark.parametrize("password", [PASSWORD, NFC, NFD, MIXED, "\u043f\u0430\u0440\u043e\u043b\u044c-1"])
def test_the_work_for_a_password_depends_on_no_account(
    make_user: Callable[..., User], anonymous: APIClient, monkeypatch: pytest.MonkeyPatch, password: str
):
    make_user("zoe", password="Kf7-another")
    make_user("gone", password="Kf7-another", is_active=False)
    make_user("unusable", password=None)
    hashed: list[str] = []
    for name in ("encode", "verify"):
        real = getattr(Argon2idHasher, name)

        def count(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            hashed.append("")
            return real(*args, **kwargs)

        monkeypatch.setattr(Argon2idHasher, name, count)
    work = set()
    for username in ("zoe", "gone", "unusable", "nobody"):
        hashed.clear()
        assert login(anonymous, password, username) == 401
        work.add(len(hashed))
    assert work == {len(spellings(password))}


def test_an_ascii_password_is_hashed_once():
    assert spellings(PASSWORD) == [PASSWORD]


OBVIOUS = [
    "healthcare", "hospital", "HOSPITAL", "Clinic24", "clinic2024", "Patient1", "doctor99", "doctors1", "2024hospital",
    "hospital-2024", "Hospital_1!", "1hospital1", "\uff28ospital12", "healthcare 1", "patient.2024",
]  # fmt: skip
FINE = ["hospital12345", "myhospital7", "hospitality9", "clinicdoctor", "patients-are-people", PASSWORD]


@pytest.mark.parametrize("password", OBVIOUS)
def test_a_context_word_with_up_to_four_digits_is_refused(
    anonymous: APIClient, as_alice: LoggedInClient, password: str
):
    registered = anonymous.post("/api/auth/register/", NEW | {"password": password})
    assert ("/password", "password_context_word") in refusals(registered)
    changed = as_alice.post("/api/auth/password/", {"current_password": PASSWORD, "new_password": password})
    assert ("/new_password", "password_context_word") in refusals(changed)


@pytest.mark.parametrize("password", FINE)
def test_a_password_that_holds_more_is_accepted(anonymous: APIClient, password: str):
    assert anonymous.post("/api/auth/register/", NEW | {"password": password}).status_code == 201


def test_the_admin_refuses_a_context_word(staff: User, alice: User):
    from healthcare.tests.admin_pages import AdminClient  # noqa: PLC0415

    path = f"/admin/accounts/user/{alice.pk}/password/"
    answer = AdminClient(staff).submit(path, password1="hospital2024", password2="hospital2024")
    assert "easily guessed here" in answer.content.decode()


# Normalizing takes time that grows with the square of the combining marks that have to be sorted: minutes here.
MANY_MARKS = "\u0300" * 60_000 + "\u0327" * 60_000


@pytest.mark.parametrize("field", ["username", "password"])
def test_many_combining_marks_do_not_occupy_the_processor(
    make_user: Callable[..., User], anonymous: APIClient, field: str
):
    make_user("zoe")
    started = time.process_time()
    answer = anonymous.post("/api/auth/login/", {"username": "zoe", "password": "wrong", field: MANY_MARKS})
    assert answer.status_code == 401
    assert time.process_time() - started < 10


def test_a_longer_password_works_as_it_was_typed(make_user: Callable[..., User], anonymous: APIClient):
    zoe = make_user("zoe")
    long = "e\u0301" * 600
    zoe.set_password(long)
    zoe.save()
    assert login(anonymous, long) == 200
    assert login(anonymous, "wrong") == login(anonymous, long + "x") == 401
