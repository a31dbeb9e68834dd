"""The second factor in the browser, by keyboard: set up, asked for at a login and in an older session, and removed."""

import base64
import time
from typing import TYPE_CHECKING

import pytest
from django_otp.oath import TOTP

from accounts.second_factor.models import SecondFactor
from conftest import PASSWORD
from healthcare.tests.browser.harness import AdminPages, check_everywhere, log_in_by_form
from healthcare.tests.browser.test_keyboard import focused_one_by_one, tab_to

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

PAGE, PATIENTS = "/admin/second_factor/", "/admin/patients/patient/"


def code_of(secret: str) -> str:
    """What an app with this secret, in base32, shows now."""
    totp = TOTP(base64.b32decode(secret.replace(" ", "")))
    totp.time = time.time()
    return f"{totp.token():06}"


def enter(page: "Page", **fields: str) -> None:
    """Type into these fields, by their ids, and send the form, all by keys."""
    for name, text in fields.items():
        tab_to(page, f"#{name}")
        page.keyboard.type(text)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_a_second_factor_is_set_up_asked_for_and_removed(admin_page: AdminPages) -> None:
    page, earlier, visitor = admin_page("Front desk"), admin_page("Front desk"), admin_page(None)
    page.goto("/admin/")
    tab_to(page, f"a[href='{PAGE}']")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{PAGE}")
    check_everywhere(page)
    enter(page, id_password=PASSWORD)
    check_everywhere(page)
    picture = page.locator(".qr-code svg").bounding_box()
    assert picture
    assert picture["width"] == picture["height"] > 150
    secret = page.locator(".otp-secret").inner_text()
    enter(page, id_otp="no code")
    assert "This code is wrong." in page.locator(".errorlist").inner_text()
    check_everywhere(page)
    enter(page, id_otp=code_of(secret))
    recovery_codes = page.locator(".recovery-codes li").all_inner_texts()
    assert len(recovery_codes) == 10
    check_everywhere(page)

    earlier.goto(PATIENTS)
    earlier.wait_for_url(f"**{PAGE}?next=**")
    check_everywhere(earlier)
    stops = focused_one_by_one(earlier)
    assert [stop for stop in stops if not stop["seen"]] == []
    assert not any("patients" in str(stop["text"]).lower() for stop in stops)
    earlier.reload()
    enter(earlier, id_otp=recovery_codes[0])
    earlier.wait_for_url(f"**{PATIENTS}")

    log_in_by_form(visitor, "front-desk")
    assert "Enter the code that your authenticator app shows now" in visitor.locator(".errorlist").inner_text()
    check_everywhere(visitor)
    enter(visitor, id_password=PASSWORD, id_otp=recovery_codes[1])
    visitor.wait_for_url("**/admin/")

    page.goto(PAGE)
    assert "Recovery codes that are left: 8." in page.locator("#content").inner_text()
    check_everywhere(page)
    enter(page, id_password=PASSWORD, id_otp=recovery_codes[2])
    assert "The second factor was removed." in page.locator(".messagelist").inner_text()
    assert not SecondFactor.objects.exists()
