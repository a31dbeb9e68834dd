"""The admin by keyboard alone: every control is reached with Tab, shows that it has the focus, and works with keys."""

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Group

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.tests.browser.harness import NARROW, WIDE, AdminPages, check_page
from mappings.models import Mapping
from patients.models import Patient
from patients.tests.factories import make_patient

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

MOST_STOPS = 200  # more controls than any page has
# What has the focus: its accessible description for a failure, and whether one sees it.
FOCUS = """() => {
    const element = document.activeElement;
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const text = (element.labels?.[0]?.textContent || element.textContent || element.value || "").trim();
    return {
        tag: element.tagName.toLowerCase(), id: element.id, name: element.name || "", text: text.slice(0, 60),
        seen: outline && box.width > 0 && box.height > 0 && box.bottom > 0 && box.right > 0
            && box.left < innerWidth && box.top < innerHeight,
    };
}"""


def tab_to(page: "Page", selector: str, key: str = "Tab") -> None:
    """Press Tab until this element has the focus."""
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{page.url}: {key} does not reach {selector}")


def focused_one_by_one(page: "Page") -> list[dict[str, object]]:
    """What Tab reaches, from the top of the page until it leaves the page."""
    stops: list[dict[str, object]] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        if stop["tag"] == "body":
            return stops
        stops.append(stop)
    raise AssertionError(f"{page.url}: Tab never leaves the page")


def test_everything_that_tab_reaches_shows_that_it_has_the_focus(admin_page: AdminPages, alice: User) -> None:
    patient = make_patient(alice)
    for width in (WIDE, NARROW):
        page = admin_page(width=width)
        for path in ("", "patients/patient/", f"patients/patient/{patient.pk}/change/", "mappings/mapping/add/"):
            page.goto(f"/admin/{path}")
            stops = focused_one_by_one(page)
            assert len(stops) > 10
            assert [stop for stop in stops if not stop["seen"]] == [], page.url


def test_the_skip_link_leads_to_the_content(admin_page: AdminPages) -> None:
    page = admin_page()
    page.goto("/admin/patients/patient/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_record_is_found_opened_changed_and_saved(admin_page: AdminPages, alice: User) -> None:
    make_patient(alice, name="Bela Novak")
    patient = make_patient(alice, name="Asha Raman")
    page = admin_page("Records")
    page.goto("/admin/patients/patient/")
    tab_to(page, "#searchbar")
    page.keyboard.type("asha ramn")  # misspelt
    page.keyboard.press("Enter")
    page.wait_for_url("**q=asha*")
    tab_to(page, "#result_list tbody th a")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{patient.pk}/change/**")
    tab_to(page, "#id_phone")
    page.keyboard.type("+91 98450 12345")
    page.keyboard.press("Enter")  # in a text field, it sends the form
    page.wait_for_url("**/patients/patient/**")
    assert "was changed successfully" in page.locator(".messagelist").inner_text()
    patient.refresh_from_db()
    assert patient.phone == "+91 98450 12345"


def test_autocomplete_is_opened_searched_and_chosen_from(admin_page: AdminPages, alice: User) -> None:
    make_patient(alice, name="Bela Novak")
    patient, doctor = make_patient(alice, name="Asha Raman"), make_doctor(alice, name="Dr. Meera Rao")
    page = admin_page("Front desk")
    page.goto("/admin/mappings/mapping/add/")
    for field, text, record in (("patient", "asha", patient), ("doctor", "meera", doctor)):
        tab_to(page, f"[aria-labelledby~='select2-id_{field}-container'][role=combobox]")
        page.keyboard.press("Enter")
        page.keyboard.type(text)
        page.locator(".select2-results__option--highlighted", has_text=record.name).wait_for()
        check_page(page)
        page.keyboard.press("Enter")
        assert record.name in page.locator(f"#select2-id_{field}-container").inner_text()
    tab_to(page, "input[name=_save]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/mappings/mapping/")
    assert [*Mapping.objects.values_list("patient", "doctor")] == [(patient.pk, doctor.pk)]


def test_filters_and_the_menu_of_actions_work(admin_page: AdminPages, alice: User) -> None:
    patient = make_patient(alice, name="Asha Raman", gender="F")
    make_patient(alice, name="Bela Novak", gender="M")
    page = admin_page("Records")
    page.goto("/admin/patients/patient/")
    tab_to(page, "#changelist-filter a[href*='gender=F']")
    page.keyboard.press("Enter")
    page.wait_for_url("**gender=F**")
    assert page.locator("#result_list tbody tr").count() == 1
    tab_to(page, "input[name=_selected_action]")
    page.keyboard.press("Space")
    tab_to(page, "select[name=action]", "Shift+Tab")
    page.keyboard.type("Delete")  # chooses the option that begins so
    tab_to(page, "button[name=index]")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    tab_to(page, "#content form input[type=submit], #content form button[type=submit]")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert not Patient.objects.active().filter(pk=patient.pk).exists()


def test_theme_sidebar_and_its_filter_work_under_the_policy(admin_page: AdminPages) -> None:
    page = admin_page()
    page.goto("/admin/patients/patient/")
    tab_to(page, ".theme-toggle")
    page.keyboard.press("Enter")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    tab_to(page, "#nav-filter")
    page.keyboard.type("doct")
    assert page.locator("#nav-sidebar tr:visible th[scope=row]").all_inner_texts() == ["Doctors"]
    page.keyboard.press("Escape")
    tab_to(page, "#toggle-nav-sidebar", "Shift+Tab")
    page.keyboard.press("Enter")
    assert not page.locator("#nav-sidebar").is_visible()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert not page.locator("#nav-sidebar").is_visible()


def test_the_double_list_of_permissions_is_moved_by_keys(admin_page: AdminPages) -> None:
    page = admin_page()
    page.goto("/admin/auth/group/add/")
    tab_to(page, "#id_name")
    page.keyboard.type("Night shift")
    tab_to(page, "#id_permissions_input")
    page.keyboard.type("Can view doctor")
    page.keyboard.press("Enter")  # chooses the first that is left
    tab_to(page, "input[name=_save]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/auth/group/")
    assert Group.objects.get(name="Night shift").permissions.filter(codename="view_doctor").exists()
