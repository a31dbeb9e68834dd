"""Every page of the admin, at both widths and in both colour schemes: axe-core finds nothing, and nothing needs
scrolling sideways. The pages come from the URL conf, the apps' declarations and the actions of the lists."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from accounts.models import User
from healthcare.tests.browser.harness import AdminPages, check_everywhere
from healthcare.tests.declarations import AdminModel, all_admin_models
from healthcare.tests.test_admin_site import admin_paths

if TYPE_CHECKING:
    from playwright.sync_api import Page

LOG_OUT = "/admin/logout/"
MODELS = {model.label: model for model in all_admin_models()}
# Errors of a form: what staff forget.
EMPTY_THE_FORM = """() => {
    const form = document.querySelector("#content form:not(#logout-form)");
    form.noValidate = true;
    for (const field of form.querySelectorAll("input:not([type=hidden], [type=submit]), textarea"))
        if (["checkbox", "radio"].includes(field.type)) field.checked = false; else field.value = "";
    for (const field of form.querySelectorAll("select")) field.selectedIndex = -1;
}"""


def paths_of(model: AdminModel, key: object) -> Iterator[str]:
    for path in admin_paths():
        if path.startswith(model.path):
            yield path.replace("/1/", f"/{key}/")
    yield f"{model.path}?q=nothing+like+it"
    yield f"{model.path}?_popup=1"
    yield f"{model.path}add/?_popup=1"


def visit(page: "Page", path: str) -> bool:
    """Open the path and check what it shows. False if it is no HTML page."""
    answer = page.goto(path)
    assert answer
    assert answer.status < 500, path
    if not answer.headers.get("content-type", "").startswith("text/html"):
        return False
    check_everywhere(page)
    return True


@pytest.mark.parametrize("label", MODELS)
def test_every_page_of_the_model_is_accessible_and_fits(admin_page: AdminPages, alice: User, label: str) -> None:
    model = MODELS[label]
    record = model.create(alice)
    page = admin_page()
    for path in paths_of(model, record.pk):
        visit(page, path)
    for path in (f"{model.path}add/", f"{model.path}{record.pk}/change/"):
        page.goto(path)
        if (save := page.locator("#content input[name=_save]")).count():
            page.evaluate(EMPTY_THE_FORM)
            save.first.click()
            check_everywhere(page)


@pytest.mark.parametrize("label", MODELS)
def test_every_filter_of_the_list_and_every_preview_of_an_action_is_too(
    admin_page: AdminPages, alice: User, label: str
) -> None:
    model = MODELS[label]
    model.create(alice)
    page = admin_page()
    page.goto(model.path)
    filters = page.locator("#changelist-filter a")
    last_of_each_filter = page.locator("#changelist-filter li:last-child a")
    links = [str(link.get_attribute("href")) for link in last_of_each_filter.all()] if filters.count() else []
    actions = [str(option.get_attribute("value")) for option in page.locator("select[name=action] option").all()]
    for link in links:
        visit(page, model.path + link)
    for action in filter(None, actions):
        page.goto(model.path)
        page.locator("input[name=_selected_action]").first.check()
        page.locator("select[name=action]").select_option(action)
        with page.expect_navigation():
            page.locator("button[name=index]").click()
        check_everywhere(page)


def test_every_other_page_is_too(admin_page: AdminPages, alice: User) -> None:
    page = admin_page()
    others = [path for path in admin_paths() if not any(path.startswith(model.path) for model in MODELS.values())]
    seen = [path for path in others if path != LOG_OUT and visit(page, path)]
    assert {"/admin/", "/admin/password_change/", "/admin/patients/", "/admin/nothing/here/"} <= {*seen}


def test_the_pages_around_the_login_are_too(admin_page: AdminPages) -> None:
    page = admin_page(None)
    visit(page, "/admin/login/")
    page.get_by_label("Username or e-mail").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    check_everywhere(page)
