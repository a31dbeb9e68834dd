"""The forms of the admin in a browser: rows of lists, the owner, a patient's doctors, and a clash side by side."""

from typing import TYPE_CHECKING

import pytest

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.tests.browser.harness import AdminPages, check_everywhere
from mappings.models import Mapping
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

PATIENTS = "/admin/patients/patient/"


def save(page: "Page") -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_a_patient_is_added_by_keyboard_with_owner_numbers_and_doctor(admin_page: AdminPages, alice: User) -> None:
    doctor = make_doctor(alice)
    page = admin_page("Front desk")
    page.goto(f"{PATIENTS}add/")
    page.get_by_label("Name:", exact=True).fill("Ada Lovelace")
    page.get_by_label("Given by").first.fill("passport")
    page.get_by_label("Number", exact=True).first.fill("A1")
    page.get_by_role("button", name="Add another number").press("Enter")
    page.get_by_label("Given by").nth(2).fill("uid")
    page.get_by_label("Number", exact=True).nth(2).fill("7")
    choose(page, "id_mappings-0-doctor", "Meera", "Dr. Meera Rao")
    choose(page, "id_created_by", "AL", "alice")
    check_everywhere(page)
    save(page)
    page.wait_for_url(f"**{PATIENTS}")
    patient = Patient.objects.get()
    pairs = [{"system": "passport", "value": "A1"}, {"system": "uid", "value": "7"}]
    assert (patient.name, patient.created_by, patient.identifiers) == ("Ada Lovelace", alice, pairs)
    assert Mapping.objects.get().doctor == doctor


def choose(page: "Page", field: str, typed: str, choice: str) -> None:
    """Choose a suggestion of an autocomplete field, by keyboard."""
    page.locator(f"#{field} + .select2 [role=combobox]").focus()
    page.keyboard.press("Enter")
    page.keyboard.type(typed)
    page.get_by_role("option", name=choice).wait_for()
    page.keyboard.press("Enter")


def test_a_clash_is_corrected_side_by_side(admin_page: AdminPages, alice: User) -> None:
    patient = make_patient(
        alice, phone="111", identifiers=[{"system": "passport", "value": "A1"}], medical_history="2019 asthma"
    )
    make_mapping(patient, make_doctor(alice), is_primary=True, role="cardiologist")
    make_past_mapping(patient, make_doctor(alice, name="Dr. Past"))
    path = f"{PATIENTS}{patient.pk}/change/"
    first, second = admin_page("Records"), admin_page("Clinical staff")
    for page, phone, history in ((second, "333", "2019 asthma\n2024 fracture"), (first, "222", "none")):
        page.goto(path)
        page.get_by_label("Phone:", exact=True).fill(phone)
        page.get_by_label("History:").fill(history)
    save(first)
    first.wait_for_url(f"**{PATIENTS}")
    second.get_by_label("Given by").first.fill("")
    save(second)
    clashes = second.get_by_role("region", name="Changed by somebody else meanwhile")
    clashes.wait_for()
    assert second.get_by_text("by records, ").count() == 2
    check_everywhere(second)
    second.get_by_label("Given by").first.fill("passport")
    clashes.get_by_role("group", name="Phone").get_by_label("Use mine").check()
    clashes.get_by_role("group", name="History").get_by_label("Keep theirs").check()
    save(second)
    second.wait_for_url(f"**{PATIENTS}")
    assert Patient.objects.values_list("phone", "medical_history").get() == ("333", "none")
