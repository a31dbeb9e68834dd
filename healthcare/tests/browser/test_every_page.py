"""Every page of the admin, at both widths and in both colour schemes: axe-core finds nothing, and nothing needs
scrolling sideways. The pages come from the URL conf, the apps' declarations and the actions of the lists.

Home, login, and each model's list and forms are checked at each width in each scheme. The other pages consist of the
same parts, and are checked at each width in one scheme."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from django.db import transaction

from accounts.models import User
from healthcare.ownership import Record
from healthcare.tests.browser.harness import AdminPages, check_crosswise, check_everywhere
from healthcare.tests.declarations import AdminModel, all_admin_models
from healthcare.tests.test_admin_site import admin_paths

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

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


def paths_of(model: AdminModel, record: Any) -> Iterator[str]:
    """Every path of the URL conf for this record, and the declared pages with what they show when all is well."""
    for path in admin_paths():
        if path.startswith(model.path):
            yield path.replace("/1/", f"/{record.pk}/")
    for page in model.pages:
        yield model.path + page.path.format(pk=record.pk, **page.parameters(record))
    yield f"{model.path}?q=nothing+like+it"
    yield f"{model.path}?_popup=1"
    yield f"{model.path}add/?_popup=1"


def previews_of(model: AdminModel, owner: User, record: Any) -> Iterator[str]:
    """The page of each declared action, for records that it applies to."""
    for action in model.actions:
        if action in model.prepare:
            if issubclass(model.model, Record):  # else there may be one only, such as a user of that name
                record = model.create(owner)
            with transaction.atomic():
                model.prepare[action](record)
        ids = model.selected[action](record) if action in model.selected else [record.pk]
        yield f"{model.path}{action}/?{urlencode({'id': ids}, doseq=True)}"


class Visits:
    """Opens paths in one page, and checks what they show. Paths that show the same page count once.

    seen: the paths that showed an HTML page.
    """

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.seen: set[str] = set()
        self.checked: set[tuple[str, str]] = set()

    def visit(self, path: str, check: "Callable[[Page], None]" = check_crosswise) -> None:
        answer = self.page.goto(path)
        assert answer
        assert answer.status < 500, path
        if not answer.headers.get("content-type", "").startswith("text/html"):
            return
        self.seen.add(path)
        # Of an error the title is enough. Of a page that redirects lead to, the messages differ.
        shown = (self.page.url, self.page.inner_text("body")) if answer.status < 400 else ("", self.page.title())
        if shown not in self.checked:
            check(self.page)
            self.checked.add(shown)


@pytest.mark.parametrize("label", MODELS)
def test_every_page_of_the_model_is_accessible_and_fits(admin_page: AdminPages, alice: User, label: str) -> None:
    model = MODELS[label]
    record = model.create(alice)
    page = admin_page()
    visits, forms = Visits(page), [f"{model.path}add/", f"{model.path}{record.pk}/change/"]
    for path in [model.path, *forms]:
        visits.visit(path, check_everywhere)
    for path in itertools.chain(paths_of(model, record), previews_of(model, alice, record)):  # one changes the record
        visits.visit(path)
    for path in forms:
        page.goto(path)
        if (save := page.locator("#content input[name=_save]")).count():
            page.evaluate(EMPTY_THE_FORM)
            with page.expect_navigation():
                save.first.click()
            check_crosswise(page)


@pytest.mark.parametrize("label", MODELS)
def test_every_filter_of_the_list_and_every_preview_of_an_action_is_too(
    admin_page: AdminPages, alice: User, label: str
) -> None:
    model = MODELS[label]
    model.create(alice)
    page = admin_page()
    page.goto(model.path)
    last_of_each_filter = page.locator("#changelist-filter li:last-child a")
    links = [str(link.get_attribute("href")) for link in last_of_each_filter.all()]
    actions = [str(option.get_attribute("value")) for option in page.locator("select[name=action] option").all()]
    visits = Visits(page)
    for link in links:
        visits.visit(model.path + link)
    for action in filter(None, actions):
        page.goto(model.path)
        page.locator("input[name=_selected_action]").first.check()
        page.locator("select[name=action]").select_option(action)
        with page.expect_navigation():
            page.locator("button[name=index]").click()
        check_crosswise(page)


def test_every_other_page_is_too(admin_page: AdminPages, alice: User) -> None:
    page = admin_page()
    others = [path for path in admin_paths() if not any(path.startswith(model.path) for model in MODELS.values())]
    visits = Visits(page)
    visits.visit("/admin/", check_everywhere)
    for path in others:
        if path != LOG_OUT:
            visits.visit(path)
    assert visits.seen >= {"/admin/", "/admin/password_change/", "/admin/patients/", "/admin/nothing/here/"}


def test_the_pages_around_the_login_are_too(admin_page: AdminPages) -> None:
    page = admin_page(None)
    Visits(page).visit("/admin/login/", check_everywhere)
    page.get_by_label("Username or e-mail").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    with page.expect_navigation():
        page.get_by_role("button", name="Log in").click()
    check_everywhere(page)
