"""Pages of the admin in Chromium: opened as a role, at a width and in a colour scheme, and checked there."""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client

from accounts.models import User
from conftest import PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

WIDE, NARROW = 1280, 390  # pixels: a desk and a phone
WIDTHS = (WIDE, NARROW)
HEIGHTS = {WIDE: 900, NARROW: 844}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")
EXECUTABLES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds that Playwright waits: for a busy machine
# A file to which `check_accessibility` appends one line a page; `.ci/run` prints it.
REPORT_FILE = "AXE_REPORT"

# No preloading: axe would fetch the style sheets again, for an experimental rule that is not among the default ones.
AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}

# Content that needs scrolling sideways: the document's, or that of an element that cuts it off.
OVERFLOWS = """() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const cutOff = (element) => {
        for (let box = element.parentElement; box; box = box.parentElement)
            if (getComputedStyle(box).overflowX !== "visible") return true;
        return false;
    };
    const wide = [...document.body.querySelectorAll("*")].filter(
        (element) => element.getBoundingClientRect().left + Math.max(element.offsetWidth ?? 0, element.scrollWidth)
            > root.clientWidth + 0.5 && !cutOff(element));
    const describe = (element) => element.tagName.toLowerCase() + (element.id && "#" + element.id)
        + [...element.classList].map((name) => "." + name).join("");
    return [`${root.scrollWidth} px instead of ${root.clientWidth}`, ...wide.slice(0, 10).map(describe)];
}"""


def what_is_missing() -> str:
    """What has to be installed for the browser tests, and how; empty if nothing."""
    missing = []
    if not (find_spec("playwright") and find_spec("axe_playwright_python")):
        installer = f"{sys.executable} -m pip" if find_spec("pip") else "uv pip"  # uv makes environments without pip
        missing.append(f"Playwright and axe: {installer} install --require-hashes -r requirements-dev.lock")
    if not browser_executable():
        missing.append("Chromium: apt-get install chromium-headless-shell")
    return f"The browser tests need {'; '.join(missing)}" if missing else ""


def browser_executable() -> str:
    return next((found for name in EXECUTABLES if (found := shutil.which(name))), "")


@contextmanager
def chromium() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root.
        browser = playwright.chromium.launch(executable_path=browser_executable(), chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@dataclass
class AdminPages:
    """Opens pages of the server at `url`; `admin_page` is the fixture.

    problems: what the browser complained about on any of these pages: violations of the content security policy,
        exceptions of scripts, errors in the console.
    """

    browser: "Browser"
    url: str
    make_user: Callable[..., User] = User.objects.create_user
    problems: list[str] = field(default_factory=list)
    contexts: list["BrowserContext"] = field(default_factory=list)

    def __call__(
        self,
        role: "str | User | None" = "superuser",
        width: int = WIDE,
        scheme: Scheme = "light",
        time_zone: str = "UTC",
    ) -> "Page":
        """A new browser window, logged in as a user, as a new user with a role, or as nobody.

        role: the name of a group, "superuser", a user, or None for a visitor who is not logged in.
        time_zone: where the browser is.
        """
        context = self.browser.new_context(
            base_url=self.url,
            viewport={"width": width, "height": HEIGHTS.get(width, 900)},
            color_scheme=scheme,
            timezone_id=time_zone,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        self.contexts.append(context)
        if role is not None:
            self.log_in(context, self.user_of(role) if isinstance(role, str) else role)
        page = context.new_page()
        self.watch(page)
        context.on("page", self.watch)  # popups
        return page

    def user_of(self, role: str) -> User:
        """The user with this role, who works in the admin. Made when first asked for."""
        username = role.lower().replace(" ", "-")
        user = User.objects.filter(username=username).first()
        if user is None:
            user = self.make_user(username, name=role, is_staff=True, is_superuser=role == "superuser")
            if role != "superuser":
                user.groups.add(Group.objects.get(name=role))
        return user

    def log_in(self, context: "BrowserContext", user: User) -> None:
        client = Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME]
        context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": self.url, "httpOnly": True}])

    def watch(self, page: "Page") -> None:
        opened: set[str] = set()

        def hear(message: "ConsoleMessage") -> None:
            # Chromium reports the status of an error page, too.
            of_a_page = message.location.get("url") in opened and "the server responded with a status" in message.text
            if message.type == "error" and not of_a_page:
                self.problems.append(f"{urlsplit(page.url).path}: {message.text} {message.location.get('url')}")

        page.on("request", lambda request: opened.add(request.url) if request.is_navigation_request() else None)
        page.on("console", hear)
        page.on("pageerror", lambda error: self.problems.append(f"{urlsplit(page.url).path}: {error}"))

    def close(self) -> None:
        for context in self.contexts:
            context.close()


def log_in_by_form(page: "Page", username: str, password: str = PASSWORD) -> None:
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Username or e-mail").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def accessibility_violations(page: "Page") -> list[str]:
    """What axe-core's default rules, best practices included, find on the page as it is now: one line an element."""
    from axe_playwright_python.base import AXE_SCRIPT

    if page.evaluate("typeof axe") == "undefined":  # once a page: it is 580 kB of script
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("options => axe.run(options)", AXE_OPTIONS)["violations"]
    lines = [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {' '.join(map(str, node['target']))}"
        f" [{'; '.join(one['message'] for kind in ('any', 'all', 'none') for one in node[kind])}]"
        for violation in found
        for node in violation["nodes"]
    ]
    write_report(page, len(lines))
    return lines


def write_report(page: "Page", violations: int) -> None:
    """One line a checked page: violations, width, colour scheme, path."""
    width = page.evaluate("innerWidth")
    scheme = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    line = f"{violations} violations, {width} px, {scheme}: {page.url.removeprefix(base_of(page))}"
    print(f"axe: {line}")
    if path := os.environ.get(REPORT_FILE):
        with Path(path).open("a", encoding="utf-8") as report:
            report.write(f"{line}\n")


def base_of(page: "Page") -> str:
    parts = urlsplit(page.url)
    return f"{parts.scheme}://{parts.netloc}"


def check_accessibility(page: "Page") -> None:
    violations = accessibility_violations(page)
    assert violations == [], "\n".join([page.url, *violations])


def check_width(page: "Page") -> None:
    """Nothing on the page needs scrolling sideways."""
    overflows = page.evaluate(OVERFLOWS)
    assert overflows == [], "\n".join([page.url, *overflows])


def check_page(page: "Page") -> None:
    check_width(page)
    check_accessibility(page)


def check_everywhere(page: "Page") -> None:
    """Check the page as it is at each width and in each colour scheme."""
    check_combinations(page, itertools.product(WIDTHS, SCHEMES))


def check_crosswise(page: "Page") -> None:
    """Check the page as it is at each width, in another colour scheme each."""
    check_combinations(page, zip(WIDTHS, SCHEMES, strict=True))


def check_combinations(page: "Page", combinations: Iterable[tuple[int, Scheme]]) -> None:
    size = page.viewport_size
    for width, scheme in combinations:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        check_page(page)
    page.emulate_media(color_scheme=SCHEMES[0])
    if size:
        page.set_viewport_size(size)
