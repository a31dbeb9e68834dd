"""The home page in a browser: accessible and complete on a wide window and on a phone, light and dark."""

import itertools

import pytest
from django.utils import timezone

from doctors.tests.factories import make_doctor
from healthcare.admin.tests.access_rows import add_accesses
from healthcare.tests.browser.harness import SCHEMES, WIDTHS, AdminPages, check_page
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

pytestmark = pytest.mark.slow


def test_home(admin_page: AdminPages, make_user) -> None:
    owner = make_user("clinic")
    for number in range(4):
        doctor = make_doctor(
            owner, name=f"Dr. Venkatanarasimharajuvaripeta {number} " + "de la Cruz y Ortega " * number
        )
        for _ in range(3 * number):
            make_mapping(make_patient(owner), doctor)
    add_accesses(timezone.now(), copies=1234)
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        page = admin_page("superuser", width=width, scheme=scheme)
        page.goto("/admin/")
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        check_page(page)
