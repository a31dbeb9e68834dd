"""The harness finds what it is there to find."""

import pytest

from healthcare.api.middleware import CONTENT_SECURITY_POLICY
from healthcare.tests.browser.harness import (
    NARROW,
    AdminPages,
    accessibility_violations,
    check_page,
    check_width,
    log_in_by_form,
)

pytestmark = pytest.mark.slow

PAGE = """<!DOCTYPE html><html lang="en"><head><title>A page</title></head>
<body><main><h1>A page</h1>{}</main></body></html>"""
SCRIPT = '<script>document.title = "run"</script>'


def serve_page(page, content: str) -> None:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Content-Type": "text/html; charset=utf-8"}
    page.route("**/admin/", lambda route: route.fulfill(body=PAGE.format(content), headers=headers))
    page.goto("/admin/")


def test_staff_log_in_and_see_the_home_page(admin_page: AdminPages) -> None:
    admin_page.user_of("superuser")
    page = admin_page(None)
    log_in_by_form(page, "superuser")
    page.wait_for_url("**/admin/")
    assert page.get_by_role("heading", level=1).is_visible()


def test_a_violation_of_the_policy_and_an_exception_are_problems(admin_page: AdminPages) -> None:
    page = admin_page(None)
    serve_page(page, f'<p style="color: red">text</p>{SCRIPT}')
    assert page.title() == "A page"
    page.evaluate("setTimeout(() => { throw new Error('broken') })")
    page.wait_for_function("true")
    complaints = "\n".join(admin_page.problems)
    for complaint in ("inline style", "inline script", "broken"):
        assert complaint in complaints
    admin_page.problems.clear()


def test_axe_reports_the_element_and_how_to_help(admin_page: AdminPages) -> None:
    page = admin_page(None)
    serve_page(page, '<label>Name <input></label><input id="unlabelled"><h4>Too deep</h4>')
    found = "\n".join(accessibility_violations(page))
    assert "label (critical): Form elements must have labels: #unlabelled" in found
    assert "heading-order (moderate)" in found  # a best practice


def test_content_wider_than_the_window_is_reported_with_its_element(admin_page: AdminPages) -> None:
    page = admin_page(None, width=NARROW)
    serve_page(page, '<p id="long">' + "x" * 200 + "</p>")
    with pytest.raises(AssertionError, match="p#long"):
        check_width(page)
    serve_page(page, "<p>short</p>")
    check_page(page)
