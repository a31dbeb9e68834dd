"""The admin as a browser uses it: tests read a form from its page, change fields, and send all of them back."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User

STATEMENT = re.compile(r'^(?:(SELECT COUNT|SELECT|INSERT|DELETE)\b.*?(?:FROM|INTO)|(UPDATE)) "(\w+)"', re.DOTALL)


class Page(HTMLParser):
    """The fields of a page's forms as a browser would send them, and everything that a strict CSP would block."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, Any] = {}
        self.blocked: list[str] = []
        self.selects: dict[str, int] = {}
        self.choosing = self.writing = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name, kind = given.get("name", ""), given.get("type", "text")
        self.blocked += [f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given and given.get("type") != "application/json"):
            self.blocked.append(f"<{tag}>")
        if tag == "input" and name and kind not in {"submit", "file"}:
            if kind == "hidden" and name in self.fields and name != "csrfmiddlewaretoken":  # in each form of the page
                earlier = self.fields[name]
                self.fields[name] = [*(earlier if isinstance(earlier, list) else [earlier]), given.get("value", "")]
            elif kind not in {"checkbox", "radio"} or "checked" in given:
                self.fields[name] = given.get("value", "on" if kind in {"checkbox", "radio"} else "")
        elif tag == "textarea":
            self.writing, self.fields[name] = name, ""
        elif tag == "select":
            self.choosing, self.selects[name] = name, 0
        elif tag == "option" and self.choosing:
            self.selects[self.choosing] += 1
            if "selected" in given:
                self.fields.setdefault(self.choosing, []).append(given.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self.writing:
            self.fields[self.writing] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.fields[self.writing] = self.fields[self.writing].removeprefix("\n")  # as browsers do
            self.writing = ""
        elif tag == "select":
            self.choosing = ""


class AdminClient(Client):
    """A client that is logged in to the admin as this user."""

    def __init__(self, user: User) -> None:
        super().__init__()
        self.force_login(user)
        ContentType.objects.get_for_models(*apps.get_models())  # read once by a process, not once by a page

    def page(self, path: str) -> str:
        response = self.get(path)
        assert response.status_code == 200, (path, response.status_code)
        return str(response.content, "utf-8")

    def form(self, path: str) -> dict[str, Any]:
        return Page(self.page(path)).fields

    def submit(self, path: str, form: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Change fields in the form of this page, or in one that was opened before, and send it."""
        sent = {**(self.form(path) if form is None else form), **changes}
        return self.post(path, {name: value for name, value in sent.items() if value is not None})

    def act(self, path: str, action: str, rows: Sequence[Any], **fields: Any) -> Any:
        """Run an action of a changelist on these rows."""
        return self.post(path, {"action": action, "_selected_action": [row.pk for row in rows], **fields})

    def confirm(self, preview: Any, **changes: Any) -> Any:
        """Send the form of the preview that an action has answered with."""
        assert preview.status_code == 200, preview.status_code
        form = PostForm(main(preview.content.decode()))
        return self.post(form.path, form.sent | changes)


class PostForm(HTMLParser):
    """The form of a preview, the last one of the page: where it goes, and each of its hidden fields and buttons."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.path = ""
        self.sent: dict[str, list[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.path, self.sent = given.get("action", ""), {}
        elif tag == "input" and "name" in given and (given.get("type") != "radio" or "checked" in given):
            self.sent.setdefault(given["name"], []).append(given.get("value", ""))


def main(page: str) -> str:
    """The main part of a page, without header, navigation and footer."""
    return page.partition('id="content-start"')[2]


def errors_of(response: Any) -> dict[str, list[str]]:
    """The errors of a form that was refused, by field; those of the whole form under `__all__`."""
    assert response.status_code == 200, response.status_code
    return {name: list(messages) for name, messages in response.context["adminform"].form.errors.items()}


def allow(user: User, *codenames: str) -> User:
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return User.objects.get(pk=user.pk)


def in_role(user: User, role: str) -> User:
    user.groups.add(Group.objects.get(name=role))
    return User.objects.get(pk=user.pk)


@contextmanager
def named_queries() -> Iterator[list[str]]:
    """Yield a list that is filled with the verb and table of each statement, in their order, without savepoints."""
    names: list[str] = []
    with CaptureQueriesContext(connection) as queries:
        yield names
    found = [STATEMENT.match(query["sql"]) for query in queries.captured_queries]
    names += [" ".join(filter(None, match.groups())).lower() for match in found if match]


LOGGED_IN = ["select django_session", "select accounts_user"]
