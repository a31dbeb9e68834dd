"""POST /api/auth/register/"""

import pytest
from rest_framework.test import APIClient

from accounts.models import Attempts, User
from accounts.tests.answers import refusals

# Not in one transaction, as in production: a refused INSERT must not spoil what comes after it.
pytestmark = pytest.mark.django_db(transaction=True)

REGISTER = "/api/auth/register/"
JOHN = {"name": "John Doe", "email": "john@example.org", "username": "john", "password": "StrongPass123"}


def test_an_account_is_answered_without_its_password(anonymous: APIClient):
    answer = anonymous.post(REGISTER, JOHN)
    user = User.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {"id": user.pk, "name": "John Doe", "email": "john@example.org", "username": "john"}
    assert (user.is_staff, user.is_superuser) == (False, False)


def test_a_username_left_out_is_the_email(anonymous: APIClient):
    answer = anonymous.post(REGISTER, {name: value for name, value in JOHN.items() if name != "username"})
    assert (answer.status_code, answer.json()["username"]) == (201, "john@example.org")


def test_the_own_email_in_another_case_as_username_is_the_email(anonymous: APIClient):
    answer = anonymous.post(REGISTER, JOHN | {"username": "JOHN@example.ORG"})
    assert (answer.status_code, answer.json()["username"]) == (201, "john@example.org")


def test_registration_cannot_create_staff(anonymous: APIClient):
    grabbed = {"is_staff": True, "is_superuser": True, "is_active": False, "id": 77}
    assert anonymous.post(REGISTER, JOHN | grabbed).status_code == 400
    anonymous.post(REGISTER, JOHN | grabbed, headers={"Prefer": "handling=lenient"})
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser, user.is_active) == (False, False, True)
    assert user.pk != 77


@pytest.mark.parametrize("username", ["john", "John", "JOHN", " john "])
def test_a_username_is_taken_in_any_case(anonymous: APIClient, username: str):
    anonymous.post(REGISTER, JOHN)
    answer = anonymous.post(REGISTER, JOHN | {"username": username, "email": "other@example.org"})
    assert refusals(answer) == {("/username", "unique")}


@pytest.mark.parametrize("email", ["john@example.org", "John@Example.ORG"])
def test_an_email_is_taken_in_any_case(anonymous: APIClient, email: str):
    anonymous.post(REGISTER, JOHN)
    answer = anonymous.post(REGISTER, JOHN | {"username": "other", "email": email})
    assert refusals(answer) == {("/email", "unique")}


def test_a_taken_email_without_a_username_is_refused_on_the_email(anonymous: APIClient):
    without_username = {name: value for name, value in JOHN.items() if name != "username"}
    anonymous.post(REGISTER, without_username)
    assert refusals(anonymous.post(REGISTER, without_username)) == {("/email", "unique")}


@pytest.mark.parametrize(
    "username",
    [
        pytest.param("jоhn", id="cyrillic o"),
        pytest.param("jo\u200bhn", id="zero-width space"),
        pytest.param("jo\u00adhn", id="soft hyphen"),
        pytest.param("ｊｏｈｎ", id="full-width"),
        pytest.param("jo\u212an", id="kelvin sign"),
        pytest.param("john\u202e", id="right-to-left override"),
        pytest.param("jo hn", id="space inside"),
        pytest.param("jane@example.org", id="an e-mail of somebody else"),
        pytest.param("@john", id="an @ without an e-mail"),
        pytest.param("j" * 255, id="too long"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param(["john"], id="a list"),
    ],
)
def test_a_username_that_could_be_mistaken_is_refused(anonymous: APIClient, username: object):
    answer = anonymous.post(REGISTER, JOHN | {"username": username})
    assert {pointer for pointer, _ in refusals(answer)} == {"/username"}
    assert not User.objects.exists()


@pytest.mark.parametrize("email", ["john", "john@", "jоhn@example.org", "john@exämple.org", "", None, 5])
def test_an_email_that_is_none_is_refused(anonymous: APIClient, email: object):
    answer = anonymous.post(REGISTER, JOHN | {"email": email})
    assert {pointer for pointer, _ in refusals(answer)} == {"/email"}


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("Kf7-ten", {"password_too_short"}),
        ("password123", {"password_too_common"}),
        ("192837465012", {"password_entirely_numeric"}),
        ("12345", {"password_too_short", "password_too_common", "password_entirely_numeric"}),
        ("johndoe1", {"password_too_similar"}),
        ("john@example.org", {"password_too_similar"}),
        ("Kf7-" + "x" * 253, {"max_length"}),
        ("", {"blank"}),
        (None, {"null"}),
        (12345678, {"invalid"}),
    ],
)
def test_a_weak_password_is_refused_with_its_reasons(anonymous: APIClient, password: object, codes: set[str]):
    answer = anonymous.post(REGISTER, JOHN | {"password": password})
    assert refusals(answer) == {("/password", code) for code in codes}
    assert not User.objects.exists()


def test_everything_missing_is_named_at_once(anonymous: APIClient):
    assert refusals(anonymous.post(REGISTER, {})) == {
        (f"/{name}", "required") for name in ("name", "email", "password")
    }


@pytest.mark.parametrize(
    ("chosen", "similar"),
    [
        pytest.param("  Kf7-twelve  ", "Kf7-twelve", id="blanks around it"),
        pytest.param("Kf7-twélve", "Kf7-twelve", id="an accent"),
        pytest.param("Kf7-twelveﬁ", "Kf7-twelvefi", id="a ligature"),
        pytest.param("Kf7-twelve", "kf7-twelve", id="case"),
    ],
)
def test_a_password_that_only_resembles_the_chosen_one_is_wrong(anonymous: APIClient, chosen: str, similar: str):
    assert anonymous.post(REGISTER, JOHN | {"password": chosen}).status_code == 201
    assert anonymous.post("/api/auth/login/", {"username": "john", "password": similar}).status_code == 401
    assert anonymous.post("/api/auth/login/", {"username": "john", "password": chosen}).status_code == 200


def test_the_sixty_first_registration_within_an_hour_has_to_wait(anonymous: APIClient):
    anonymous.post(REGISTER, JOHN)
    Attempts.objects.update(count=59)
    assert anonymous.post(REGISTER, JOHN | {"username": "sixty", "email": "60@example.org"}).status_code == 201
    late = JOHN | {"username": "late", "email": "late@example.org"}
    answer = anonymous.post(REGISTER, late)
    assert answer.status_code == 429
    assert 3500 < int(answer["Retry-After"]) <= 3600
    assert anonymous.post(REGISTER, late, REMOTE_ADDR="203.0.113.9").status_code == 201


def test_the_count_of_registrations_restarts_after_an_hour(anonymous: APIClient):
    anonymous.post(REGISTER, JOHN)
    Attempts.objects.update(count=60, until=User.objects.get().created_at)
    assert anonymous.post(REGISTER, JOHN | {"username": "next", "email": "next@example.org"}).status_code == 201
    assert Attempts.objects.get().count == 1


def test_the_throttle_scale_multiplies_registrations(anonymous: APIClient, settings):
    settings.THROTTLE_SCALE = 2
    anonymous.post(REGISTER, JOHN)
    Attempts.objects.update(count=119)
    late = JOHN | {"username": "late", "email": "late@example.org"}
    assert anonymous.post(REGISTER, JOHN | {"username": "a", "email": "a@example.org"}).status_code == 201
    assert anonymous.post(REGISTER, late).status_code == 429
