"""The previews of actions in a browser: a merge with a choice, refused choices, its undoing, and a file."""

import csv
import datetime
from pathlib import Path

import pytest

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.tests.browser.harness import AdminPages, check_everywhere
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.slow

LIST = "/admin/patients/patient/"


def test_records_merges_two_patients_and_undoes_it(admin_page: AdminPages, alice: User) -> None:
    one = make_patient(alice, name="Katarina Johansson", birth_date=datetime.date(1990, 7, 1), phone="080 5550 0100")
    other = make_patient(
        alice, name="Katarína Johanson", birth_year=1985, address="Storgatan 12\n111 22 Stockholm", gender="F"
    )
    doctor = make_doctor(alice)
    for patient in (one, other):
        make_mapping(patient, doctor, is_primary=True)
    page = admin_page("Records")
    page.goto(LIST)
    for patient in (one, other):
        page.locator(f"input[name=_selected_action][value='{patient.pk}']").check()
    page.locator("select[name=action]").select_option("merge")
    with page.expect_navigation():
        page.locator("button[name=index]").click()
    check_everywhere(page)
    page.get_by_role("row", name="Year of birth").get_by_role("radio").last.check()
    page.get_by_role("button", name="Merge the two patients").click()
    assert page.get_by_text("This contradicts the date or the year of birth.").is_visible()
    check_everywhere(page)
    page.get_by_role("row", name="Year of birth").get_by_role("radio").first.check()
    page.get_by_role("row", name="Name").get_by_role("radio").last.check()
    page.get_by_role("button", name="Merge the two patients").click()
    survivor = Patient.objects.active().get()
    assert page.url.endswith(f"{LIST}{survivor.pk}/change/")
    with page.expect_navigation():
        page.locator(".messagelist").get_by_role("link", name="Undo").click()
    check_everywhere(page)
    page.get_by_role("button", name="Undo the merge of 1 patient").click()
    assert {row.name for row in Patient.objects.active()} == {one.name, other.name}


def test_the_list_is_saved_as_a_file(admin_page: AdminPages, alice: User, tmp_path: Path) -> None:
    make_patient(alice, name="=Ana 李")
    page = admin_page("Records")
    page.goto(LIST)
    with page.expect_navigation():
        page.get_by_role("link", name="Export this list").click()
    check_everywhere(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export 1 patient").click()
    path = tmp_path / "file.csv"
    download.value.save_as(path)
    assert download.value.suggested_filename.startswith("patients-")
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["'=Ana 李"]
