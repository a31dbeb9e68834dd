"""No field of one line stores characters that nobody sees, in the API and in the admin."""

import sys
import unicodedata
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import models
from django.http import HttpRequest
from rest_framework import serializers
from rest_framework.test import APIClient

from accounts.models import User
from accounts.serializers import PasswordField
from conftest import PASSWORD, LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.fields import TextField
from healthcare.characters import INVISIBLE, visible_text
from healthcare.imports.fhir_column import FhirField
from healthcare.tests.admin_pages import AdminClient, errors_of
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

VISIBLE_FORMAT_CHARACTERS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x8E2, 0x890, 0x891, 0x110BD, 0x110CD}
# Between the two letters of each. Some separate lines, and are refused instead.
STRIPPED = [
    "\u200b", "\u2060", "\ufeff", "\u00ad", "\u202e", "\u2066", "\u3164", "\u115f", "\u1160", "\uffa0", "\u034f",
    "\u180e", "\ufe0f", "\U000e0041", "\U000e0100", "\ufff9", "\U0001d173", "\u061c", "\u17b4", "\U0001d159",
]  # fmt: skip
LINE_BREAKS = ["\u2028", "\u2029", "\n", "\r", "\x0b", "\x85", "\x1f", "\x7f"]
UNCHANGED = [
    "می\u200cخواهم", "نام\u200cخانوادگی",  # Persian
    "ශ්\u200dරී", "රාජ්\u200dය", "അവന്\u200d", "क्\u200dष", "র\u200d্য",  # Sinhala, Malayalam, Devanagari, Bengali
    "葛\U000e0100西", "神\ufe00", "ᠰᠠᠢᠨ\u180bᠠ",  # variants of Han and Mongolian letters
    "👨\u200d👩\u200d👧", "❤\ufe0f\u200d🔥", "👩🏽\u200d⚕\ufe0f", "1\ufe0f\u20e3", "☎\ufe0e",  # emoji
    "مُحَمَّد", "Zoë", "Ze\u0301", "한글", "ᄒᆞᆫ", "⠁⠝⠝⠁", "a\u00a0b", "١\u0600", "李\u3000娜",
]  # fmt: skip
ALTERED = {
    "a\u200d\u200d\u200db": "a\u200db", "\u200dab": "ab", "ab\u200d": "ab", "a\u200c b": "a b", "1\u200d2": "12",
    "J\ufe0fo": "Jo", "x\U000e0100y": "xy", "❤\u200c🔥": "❤🔥", "⠁\u2800⠃": "⠁ ⠃", "\u200e a\u200f \u200e": "a",
    "🏴\U000e0067\U000e0062\U000e007f": "🏴", "a\u180bb": "ab", "\ufdd0a\ufffe\U0010ffff": "a", "\u2800\u3164": "",
}  # fmt: skip


def test_every_format_character_is_invisible_but_the_signs_of_numbers() -> None:
    formats = {code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cf"}
    assert {code for code in formats if not INVISIBLE.match(chr(code))} == VISIBLE_FORMAT_CHARACTERS & formats
    visible = {chr(code) for code in range(sys.maxunicode + 1) if INVISIBLE.match(chr(code))}
    assert {unicodedata.category(one) for one in visible} <= {"Cf", "Cn", "Mn", "Lo", "So"}


@pytest.mark.parametrize("text", UNCHANGED)
def test_what_changes_how_letters_look_stays(text: str) -> None:
    assert visible_text(text) == text


@pytest.mark.parametrize(("text", "expected"), ALTERED.items())
def test_what_changes_nothing_visible_goes(text: str, expected: str) -> None:
    assert visible_text(text) == expected


FIELDS = [
    ("patients", "name"), ("patients", "identifier"), ("patients", "address"), ("patients", "phone"),
    ("patients", "email"), ("doctors", "name"), ("doctors", "specialization"), ("doctors", "license_number"),
    ("doctors", "hospital"), ("doctors", "phone"), ("doctors", "email"), ("mappings", "role"),
    ("mappings", "reason"),
]  # fmt: skip


def sample(field: str, character: str) -> tuple[str, str]:
    """A value with the character inside and at its end, and the value without it."""
    template = {"phone": "080{}555{}", "email": "a{}b@example.org{}"}.get(field, "A{}b{}")
    return template.format(character, character), template.format("", "")


def create(client: APIClient, alice: User, resource: str, body: dict[str, Any]) -> Any:
    required: dict[str, Any] = {"name": "X"}
    if resource == "mappings":
        required = {"patient": make_patient(alice).pk, "doctor": make_doctor(alice).pk}
    return client.post(f"/api/{resource}/", {**required, **body})


@pytest.mark.parametrize(("resource", "field"), FIELDS)
def test_the_api_strips_it(as_alice: LoggedInClient, alice: User, resource: str, field: str) -> None:
    for character in STRIPPED:
        sent, stored = sample(field, character)
        created = create(as_alice, alice, resource, {field: sent})
        assert (created.status_code, created.json().get(field)) == (201, stored), ascii(character)
    path = f"/api/{resource}/{created.json()['id']}/"
    changed = as_alice.patch(path, {field: sample(field, "\u200b")[0].replace("b", "c").replace("555", "777")})
    assert changed.json()[field] == stored.replace("b", "c").replace("555", "777")


@pytest.mark.parametrize(("resource", "field"), FIELDS)
def test_the_api_refuses_line_breaks(as_alice: LoggedInClient, alice: User, resource: str, field: str) -> None:
    for character in LINE_BREAKS:
        if field == "address" and character in "\r\n":
            continue  # an address may have several lines
        value = sample(field, "\u200b")[0].replace("\u200b", character, 1)
        refused = create(as_alice, alice, resource, {field: value})
        assert refused.status_code == 400, ascii(character)
        assert [error["pointer"] for error in refused.json()["errors"]] == [f"/{field}"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029"])
@pytest.mark.parametrize("email", ["a@example{}.org", "a@exa{}mple.org", "a@example.org{}b"])
def test_no_line_separator_is_in_the_domain_of_an_email(as_alice: LoggedInClient, email: str, separator: str) -> None:
    for resource in ("patients", "doctors"):
        refused = as_alice.post(f"/api/{resource}/", {"name": "X", "email": email.format(separator)})
        assert refused.status_code == 400
        assert {error["pointer"] for error in refused.json()["errors"]} == {"/email"}


NAMES_OF_NOTHING = ["\u3164", "\u2800", "\u200b\u2060", "\u0301", "\u200d", "\ufe0f", "\u00a0\u2800", "\U000e0041"]


@pytest.mark.parametrize("name", NAMES_OF_NOTHING)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/api/patients/"),
        ("post", "/api/doctors/"),
        ("patch", "/api/auth/me/"),
        ("post", "/api/auth/register/"),
    ],
)
def test_a_name_has_a_visible_character(as_alice: LoggedInClient, method: str, path: str, name: str) -> None:
    body = {"name": name}
    if "register" in path:
        body |= {"email": "new@example.org", "password": PASSWORD}
    refused = getattr(as_alice, method)(path, body)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/name"]


@pytest.mark.parametrize("name", [".", "?", "Ng", "👍", "½", "मी", "李", "X Æ A-12"])
def test_any_visible_character_is_a_name(as_alice: LoggedInClient, name: str) -> None:
    created = as_alice.post("/api/patients/", {"name": name})
    assert (created.status_code, created.json()["name"]) == (201, name)


def test_an_account_has_nothing_invisible_and_a_password_keeps_it(anonymous: APIClient) -> None:
    secret = f"\u200b{PASSWORD}\u3164"
    body = {"name": "As\u200bha\u3164", "email": "asha@example.org\u200b", "username": "asha", "password": secret}
    created = anonymous.post("/api/auth/register/", body)
    assert created.status_code == 201, created.content
    assert created.json().items() >= {"name": "Asha", "email": "asha@example.org", "username": "asha"}.items()
    for username, password, status in (
        ("asha", secret, 200), ("\u200basha@example.org", secret, 200), ("asha", PASSWORD, 401),
    ):  # fmt: skip
        answer = anonymous.post("/api/auth/login/", {"username": username, "password": password})
        assert answer.status_code == status, username


def test_a_reason_in_the_history_has_nothing_invisible(as_alice: LoggedInClient, alice: User) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"

    def change(reason: str, address: str) -> Any:
        header = reason.encode().decode("latin-1")
        return as_alice.patch(path, {"address": address}, headers={"X-Change-Reason": header})

    assert change("mo\u200bved\u202e", "A").status_code == 200
    assert as_alice.get(f"{path}history/").json()[0]["reason"] == "moved"
    for reason in ("\u3164", "\u2800", "a\u2028b"):
        assert change(reason, "B").status_code == 400, ascii(reason)


def test_filters_find_what_was_copied_with_something_invisible(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, name="Asha", identifier="M-1")
    make_doctor(alice, name="Rao", hospital="City Hospital")
    for path, query in (
        ("patients", {"identifier": "\u200bM-1\u202c"}),
        ("doctors", {"hospital": "City\u200b Hospital"}),
    ):
        assert [row["name"] for row in as_alice.get(f"/api/{path}/", query).json()] in (["Asha"], ["Rao"])


@pytest.mark.slow
def test_the_admin_strips_or_refuses_it(staff: User, alice: User) -> None:
    client = AdminClient(staff)
    patient, doctor = make_patient(alice), make_doctor(alice)
    mapping = make_mapping(patient, doctor)
    for path, record, names in (
        ("patients/patient", patient, ["name", "identifier", "address", "phone", "email"]),
        ("doctors/doctor", doctor, ["name", "specialization", "license_number", "hospital", "phone", "email"]),
        ("mappings/mapping", mapping, ["role", "reason"]),
        ("accounts/user", alice, ["name", "username", "email"]),
    ):
        page = f"/admin/{path}/{record.pk}/change/"
        for field in names:
            for character in ("\u200b", "\u3164", "\u202e"):
                sent, stored = sample(field, character)
                response = client.submit(page, form={**client.form(page), field: sent})
                record.refresh_from_db()
                assert response.status_code == 302 or set(errors_of(response)) == {field}, (path, field)
                assert not INVISIBLE.search(getattr(record, field)), (path, field)
                if response.status_code == 302:
                    assert getattr(record, field) == stored
            response = client.submit(page, form={**client.form(page), field: sample(field, "\u2028")[0]})
            assert response.status_code == 302 or set(errors_of(response)) == {field}, (path, field)
            record.refresh_from_db()
            assert "\u2028" not in getattr(record, field), (path, field)


def own_serializers(base: type[Any] = serializers.BaseSerializer) -> Iterator[type[Any]]:
    for serializer in base.__subclasses__():
        if serializer.__module__.partition(".")[0] in {"accounts", "patients", "doctors", "mappings"} and (
            ".tests." not in serializer.__module__
        ):
            yield serializer
        yield from own_serializers(serializer)


def test_every_text_that_a_client_may_write_is_cleaned() -> None:
    """A new serializer uses the fields of `healthcare.api.fields`, which strip."""
    import_module(settings.ROOT_URLCONF)
    assert len({*own_serializers()}) > 10
    for serializer in own_serializers():
        for name, field in serializer().fields.items():
            if isinstance(field, serializers.CharField) and not field.read_only:
                assert isinstance(field, TextField), (serializer, name)
                # What FHIR clients sent is JSON, and is given back as it was sent.
                assert field.trim_whitespace or isinstance(field, PasswordField | FhirField), (serializer, name)


def test_every_line_that_staff_may_write_is_cleaned(staff: User) -> None:
    """A new model uses the fields of `healthcare.model_fields`, which strip."""
    request = HttpRequest()
    request.user = staff
    cleaned = []
    for model, model_admin in admin.site._registry.items():
        if model is Group or not model_admin.has_add_permission(request):
            continue
        for name in model_admin.get_form(request).base_fields:
            field = next((one for one in model._meta.concrete_fields if one.name == name), None)
            if isinstance(field, models.CharField) and not field.choices and name not in {"password", "username"}:
                assert field.to_python("a\u200bb\u3164") in {"ab"}, (model, name)
                cleaned.append(name)
    assert {"name", "email", "identifier", "hospital", "role", "reason"} <= set(cleaned)
