"""A day of a member of staff with the role Records, from finding a patient to looking up who read the record."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Group

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.tests.browser.harness import AdminPages, check_accessibility
from mappings.models import Mapping
from patients.models import Patient
from patients.tests.factories import make_patient

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

ROLE = "Records"
PATIENTS, MAPPINGS = "/admin/patients/patient/", "/admin/mappings/mapping/"


def choose(page: "Page", field: str, text: str, option: str) -> None:
    """Choose the option that the autocomplete of this field suggests for the text."""
    page.locator(f"[role=combobox][aria-labelledby~='select2-id_{field}-container']").click()
    page.keyboard.type(text)
    page.locator(".select2-results__option", has_text=option).click()


def send(page: "Page", button: str) -> str:
    """Press the button that sends the form. Return the message on the next page."""
    with page.expect_navigation():
        page.get_by_role("button", name=button, exact=True).click()
    return page.locator(".messagelist").inner_text()


def find(page: "Page", text: str, name: str) -> int:
    """Search from the home page and open the patient of this name. Return the id."""
    page.goto("/admin/")
    page.get_by_label("Find a patient").fill(text)
    page.get_by_label("Find a patient").press("Enter")
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("heading", level=1, name="Change patient").wait_for()
    return int(page.url.split("/change/")[0].rpartition("/")[2])


def add_patient(page: "Page", name: str, owner: User) -> int:
    page.goto(f"{PATIENTS}add/")
    page.get_by_label("Name:", exact=True).fill(name)
    page.get_by_label("Gender:").select_option("F")
    page.get_by_label("Year of birth:").fill("1984")
    choose(page, "created_by", owner.username[:3], owner.username)
    assert "was added successfully" in send(page, "Save")
    added = Patient.objects.get(name=name)
    assert added.created_by == owner
    return added.pk


def assign_doctor(page: "Page", patient: str, doctor: str) -> None:
    page.goto(f"{MAPPINGS}add/")
    choose(page, "patient", patient, patient)
    choose(page, "doctor", doctor[:6], doctor)
    assert "was added successfully" in send(page, "Save")
    assert Mapping.objects.active().filter(patient__name=patient, doctor__name=doctor).exists()


def change_at_once(page: "Page", other: "Page", patient_id: int) -> None:
    """Two members of staff open the form. One field was changed by both, another by one of them alone."""
    for one in (page, other):
        one.goto(f"{PATIENTS}{patient_id}/change/")
    other.get_by_label("Phone:", exact=True).fill("+46 8 111 11 11")
    other.get_by_label("E-mail:").fill("katarina@example.org")
    send(other, "Save")
    page.get_by_label("Phone:", exact=True).fill("+46 8 222 22 22")
    with page.expect_navigation():
        page.get_by_role("button", name="Save", exact=True).click()
    row = page.locator(".clashes tbody tr")
    assert row.count() == 1
    for shown in ("+46 8 111 11 11", "+46 8 222 22 22"):
        assert shown in row.inner_text()
    check_accessibility(page)
    row.get_by_label("Use mine").check()
    assert "was changed successfully" in send(page, "Save")
    saved = Patient.objects.get(pk=patient_id)
    assert (saved.phone, saved.email) == ("+46 8 222 22 22", "katarina@example.org")


def merge(page: "Page", survivor: int, duplicate: int) -> None:
    page.goto(PATIENTS)
    for key in (survivor, duplicate):
        page.locator(f"input[name=_selected_action][value='{key}']").check()
    page.get_by_label("Action:").select_option("merge")
    with page.expect_navigation():
        page.get_by_role("button", name="Go").click()
    check_accessibility(page)
    send(page, "Merge the two patients")
    merged = {one.pk: one for one in Patient.objects.filter(pk__in=[survivor, duplicate])}
    assert sorted(one.merged_into_id or 0 for one in merged.values()) in ([0, survivor], [0, duplicate])


def look_up_readers(page: "Page", patient_id: int) -> str:
    """Open the history of the patient. Return the text of the part that says who read it."""
    page.goto(f"{PATIENTS}{patient_id}/change/")
    page.get_by_role("link", name="History").click()
    readers = page.get_by_role("region", name="Who read this")
    readers.wait_for()
    return readers.inner_text()


def test_a_days_work(admin_page: AdminPages, alice: User, make_user: Callable[..., User]) -> None:
    make_doctor(alice, name="Dr. Meera Rao")
    make_patient(alice, name="Katarina Johansson", birth_year=1984)
    make_patient(alice, name="Bela Novak")
    colleague = make_user("colleague", is_staff=True)
    colleague.groups.add(Group.objects.get(name=ROLE))
    page, other = admin_page(ROLE), admin_page(colleague)
    patient_id = find(page, "katharina johanson", "Katarina Johansson")
    duplicate_id = add_patient(page, "Catarina Johansson", alice)
    assign_doctor(page, "Katarina Johansson", "Dr. Meera Rao")
    change_at_once(page, other, patient_id)
    merge(page, patient_id, duplicate_id)
    readers = look_up_readers(page, patient_id)
    patient, duplicate = Patient.objects.get(pk=patient_id), Patient.objects.get(pk=duplicate_id)
    assert (patient.name, patient.phone, patient.email) == (
        "Katarina Johansson", "+46 8 222 22 22", "katarina@example.org",
    )  # fmt: skip
    assert (patient.deleted_at, duplicate.merged_into_id) == (None, patient_id)
    assert [(one.patient.name, one.doctor.name) for one in Mapping.objects.active()] == [
        ("Katarina Johansson", "Dr. Meera Rao")
    ]
    assert {name for name in ("records", "colleague") if f"{name}: opened" in readers} == {"records", "colleague"}
