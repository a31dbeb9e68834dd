"""Phone numbers are accepted as people and contact apps write them, and stored in ASCII."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from healthcare.search.tests.test_search import names
from healthcare.tests.admin_pages import AdminClient, errors_of
from patients.models import Patient
from patients.tests.factories import make_patient

# U+30FC is the long vowel sign of Japanese keyboards, U+05BE the Hebrew hyphen.
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d\ufe63\u30fc\uff70\u05be\u301c"
ACCEPTED = {
    "(+91) 98450 12345": "(+91) 98450 12345",
    "+91 98450 12345": "+91 98450 12345",
    "098450.12345": "098450.12345",
    "+44 (0)20 7946 0958": "+44 (0)20 7946 0958",
    "98450 12345 Ext 12": "98450 12345 Ext 12",
    "98450 12345 ext. 12": "98450 12345 ext. 12",
    "98450 12345 #12": "98450 12345 #12",
    "98450 12345#12": "98450 12345#12",
    "98450 12345 extension 12": "98450 12345 extension 12",
    "98450 12345 Extn. 12": "98450 12345 Extn. 12",
    "98450 12345 X12": "98450 12345 X12",
    "98450 12345x12": "98450 12345x12",
    "98450 12345;ext=12": "98450 12345;ext=12",
    "98450 12345, ext 12": "98450 12345, ext 12",
    "Ext 12": "Ext 12",
    "tel:+91-98450-12345": "+91-98450-12345",
    "TEL:+91-98450-12345;ext=12": "+91-98450-12345;ext=12",
    "98450\u00a012345": "98450 12345",
    "98450\u202f12345": "98450 12345",
    "98450\u300012345": "98450 12345",
    **{f"98450{dash}12345": "98450-12345" for dash in DASHES},
    "\u202a+91 98450 12345\u202c": "+91 98450 12345",
    "\u200e98450\u200b12345\ufeff": "9845012345",
    "\u2068tel:98450\u2069": "98450",
    "٩٨٤٥٠ ١٢٣٤٥": "98450 12345",
    "+۹۱ ۹۸۴۵۰ ۱۲۳۴۵": "+91 98450 12345",
    "९८४५० १२३४५": "98450 12345",
    "＋９１（０）９８４５０－１２３４５ｘ７": "+91(0)98450-12345x7",
    "๙๘๔๕๐": "98450", "᠙᠘᠔": "984", "𝟗𝟖𝟒": "984", "௯௮௪": "984",
}  # fmt: skip
REFUSED = [
    "-", "()", "+", "(+)", ".", "/ -", "x", "ext", "#", "+ x", "call me", "98450 y", "+91+98450", "98450+", "tel:",
    "98450;phone-context=+91", "98450\n12345", "98450\u202812345", "½", "①", "Ⅷ", "九", "98450 ext", "x12x13",
]  # fmt: skip


@pytest.mark.parametrize(("sent", "stored"), ACCEPTED.items())
def test_a_phone_is_stored_in_ascii_and_found_as_it_was_sent(as_alice: LoggedInClient, sent: str, stored: str) -> None:
    created = as_alice.post("/api/patients/", {"name": "Asha", "phone": sent})
    assert (created.status_code, created.json().get("phone")) == (201, stored)
    path = f"/api/patients/{created.json()['id']}/"
    assert as_alice.get(path).json()["phone"] == stored
    assert as_alice.patch(path, {"phone": ""}).json()["phone"] == ""
    assert as_alice.patch(path, {"phone": sent}).json()["phone"] == stored
    assert as_alice.put(path, {"name": "Asha", "phone": sent}).json()["phone"] == stored
    if stored != "Ext 12":  # which has no number besides the extension
        assert names(as_alice, sent) == ["Asha"]


@pytest.mark.parametrize("phone", REFUSED)
def test_what_holds_no_number_is_refused(as_alice: LoggedInClient, phone: str) -> None:
    for path in ("/api/patients/", "/api/doctors/"):
        refused = as_alice.post(path, {"name": "Asha", "phone": phone})
        assert refused.status_code == 400, refused.content
        (error,) = refused.json()["errors"]
        assert (error["pointer"], error["code"]) == ("/phone", "invalid")


def test_the_length_is_that_of_what_is_stored(as_alice: LoggedInClient) -> None:
    for digits, status in ((40, 201), (41, 400)):
        sent = "\u200b".join("٩" * digits)
        assert as_alice.post("/api/patients/", {"name": "Asha", "phone": sent}).status_code == status


def test_a_number_in_other_digits_is_the_same_for_duplicates(as_alice: LoggedInClient, alice: User) -> None:
    make_patient(alice, name="Asha Nair", phone="+91 98450 12345")
    body = {"name": "Asha Nair", "phone": "٠٩٨٤٥٠\u00a0١٢٣٤٥"}
    refused = as_alice.post("/api/patients/?on_duplicate=reject", body)
    assert (refused.status_code, refused.json()["duplicates"][0]["agrees_on"]) == (409, ["name", "phone"])


def test_anyone_finds_a_doctor_by_a_number_in_other_digits(as_alice: LoggedInClient, anonymous: APIClient) -> None:
    assert as_alice.post("/api/doctors/", {"name": "Rao", "phone": "०८० ५५५० ०१००"}).json()["phone"] == "080 5550 0100"
    assert names(anonymous, "+٩١ ٨٠ ٥٥٥٠ ٠١٠٠", "/api/doctors/") == ["Rao"]


@pytest.mark.parametrize(("sent", "stored"), [("٩٨٤ ext 1", "984 ext 1"), ("\u202a984\u202c", "984"), ("-", None)])
def test_the_admin_stores_the_same(staff: User, alice: User, sent: str, stored: str | None) -> None:
    patient = make_patient(alice, phone="1")
    response: Any = AdminClient(staff).submit(f"/admin/patients/patient/{patient.pk}/change/", phone=sent)
    if stored is None:
        assert set(errors_of(response)) == {"phone"}
    assert Patient.objects.get().phone == (stored or "1")


def test_a_long_text_is_refused_in_linear_time(as_alice: LoggedInClient) -> None:
    for phone in ("(" * 900_000, "1 " * 400_000 + "y", "x1" * 400_000):
        assert as_alice.post("/api/patients/", {"name": "Asha", "phone": phone}).status_code == 400
