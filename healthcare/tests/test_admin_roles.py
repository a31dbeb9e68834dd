"""Who may open which page of the admin and do what there: every page and action, for every role.

The pages are those of the URL conf and of the registry, and each app declares who may use those of its models, in the
`AdminModel` of its contract. What a role may not do is tried as a superuser would do it, and changes no table.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection, transaction
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from audit.admin.reads import ReadsRecordedAdmin
from healthcare.staff_roles.models import StaffRole
from healthcare.tests.admin_pages import AdminClient, in_role
from healthcare.tests.declarations import AdminModel, AdminPage, all_admin_models
from patients.models import Patient

ROLES = ["Front desk", "Clinical staff", "Records", "Auditor", "Support"]
OUTSIDERS = ["user", "anonymous"]
CALLERS = ["superuser", *ROLES, "staff without a role", *OUTSIDERS]
PATIENT_NAME = "Zebulon Nightingale"
# Django's own pages of a model. A POST to the last two changes nothing.
OWN_PAGES = {"": "view", "add/": "add", "{pk}/change/": "view", "{pk}/delete/": "delete", "{pk}/history/": "view"}
# Those of the site: for the members of staff, for a user without staff rights, and for a visitor.
SITE_PAGES = {
    "/admin/": (200, 302, 302),
    "/admin/login/": (302, 200, 200),
    "/admin/second_factor/": (200, 302, 302),
    "/admin/password_change/": (200, 302, 302),
    "/admin/password_change/done/": (200, 302, 302),
    "/admin/jsi18n/": (200, 302, 302),
    "/admin/autocomplete/": (403, 302, 302),  # without parameters
}
LOGOUT = "/admin/logout/"
WRITTEN_BY_READS = {"audit_accesslog", "django_session"}


@dataclass
class Cast:
    caller: str
    client: Client
    owner: User
    records: dict[str, Any]
    superuser: AdminClient


@pytest.fixture
def cast(request: pytest.FixtureRequest, alice: User, make_user: Any) -> Cast:
    caller = request.param
    records = {model.label: model.create(alice) for model in all_admin_models()}
    Patient.objects.update(name=PATIENT_NAME)
    user = {
        "superuser": lambda: make_user("root", is_staff=True, is_superuser=True),
        "staff without a role": lambda: make_user("newcomer", is_staff=True),
        "user": lambda: make_user("bob"),
        "anonymous": lambda: None,
    }.get(caller, lambda: in_role(make_user("member", is_staff=True), caller))()
    superuser = AdminClient(make_user("other", is_staff=True, is_superuser=True))
    return Cast(caller, AdminClient(user) if user else Client(), alice, records, superuser)


every_caller = pytest.mark.parametrize("cast", CALLERS, indirect=True)


def admin_of(model: AdminModel) -> Any:
    return admin.site.get_model_admin(apps.get_model(model.label))


def names_patients(model: AdminModel) -> bool:
    return isinstance(admin_of(model), ReadsRecordedAdmin)


def may(caller: str, model: AdminModel, verb: str) -> bool:
    """Whether the caller has the permission."""
    return caller == "superuser" or verb in model.verbs_of(caller)


def expected(caller: str, model: AdminModel, page: AdminPage) -> int:
    if caller in OUTSIDERS:
        return 302
    opens = may(caller, model, page.verb) or (page.verb == "view" and may(caller, model, "change"))
    refused = page.path in OWN_PAGES and page.verb not in model.allowed_verbs
    return page.status if opens and not refused else 403


def pages_of(model: AdminModel) -> list[AdminPage]:
    previews = [AdminPage(f"{name}/", model.actions[name]) for name in admin_of(model).previewed_actions()]
    return [*(AdminPage(path, verb) for path, verb in OWN_PAGES.items()), *previews, *model.pages]


def path_of(cast: Cast, model: AdminModel, page: AdminPage) -> str:
    record = cast.records[model.label]
    name = page.path.rstrip("/")
    query = f"?{urlencode({'id': selected(model, name, record)}, True)}" if name in model.actions else ""
    return model.path + page.path.format(pk=record.pk, **page.parameters(record)) + query


def selected(model: AdminModel, action: str, record: Any) -> list[int]:
    return [*model.selected[action](record)] if action in model.selected else [record.pk]


@contextmanager
def undone() -> Iterator[None]:
    """What happens in the block is rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@cache
def digest_statement() -> str:
    tables = sorted({*connection.introspection.django_table_names(only_existing=True)} - WRITTEN_BY_READS)
    return " UNION ALL ".join(
        f"SELECT '{table}', sum(hashtextextended(row::text, 0)) FROM {table} AS row"  # noqa: S608
        for table in tables
    )


def digests() -> dict[str, Decimal | None]:
    """A digest of the rows of every table."""
    with connection.cursor() as cursor:
        cursor.execute(digest_statement())
        return dict(cursor.fetchall())


def refusal(answer: Any) -> str:
    """How the answer refuses; empty if it does not."""
    if answer.status_code == 302 and answer["Location"].startswith("/admin/login/"):
        return "login"
    return "403" if answer.status_code == 403 else ""


def patterns(entry: Any = None, before: str = "/") -> Iterator[tuple[str, str]]:
    """The paths of the admin as `AdminPage.path` writes them, each with its name."""
    for inner in entry.url_patterns if entry else get_resolver().url_patterns:
        route = re.sub(r"<(?:\w+:)?(?:object_id|id)>", "{pk}", str(inner.pattern))
        path = before + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)
        if isinstance(inner, URLResolver) and path.startswith("/admin/"):
            yield from patterns(inner, path)
        elif isinstance(inner, URLPattern) and path.startswith("/admin/"):
            yield path, inner.name or ""


def test_every_page_has_a_row(db: None):
    rows = {*SITE_PAGES, LOGOUT}
    for model in all_admin_models():
        rows |= {model.path + page.path for page in pages_of(model)}
        rows.add(f"{model.path}{{pk}}/")  # redirects to the form
    found = {path for path, name in patterns() if name not in {"app_list", ""} or "{pk}/" in path}
    assert found == rows


def test_every_action_has_a_row(staff: User):
    request = RequestFactory().get("/admin/")
    request.user = staff
    found = {model._meta.label: set(one.get_actions(request)) for model, one in admin.site._registry.items()}
    assert found == {model.label: set(model.actions) for model in all_admin_models()}


def test_the_roles_have_exactly_the_permissions_that_the_apps_declare(db: None):
    assert {role.name: role.group and role.group.name for role in StaffRole.objects.all()} == {
        role: role for role in ROLES
    }
    registered = {(model._meta.app_label, model._meta.model_name) for model in admin.site._registry}
    for role in StaffRole.objects.all():
        assert role.group is not None
        granted = {
            (app, codename)
            for app, codename in role.group.permissions.values_list("content_type__app_label", "codename")
            if (app, codename.rpartition("_")[2]) in registered
        }
        declared = {
            (model.label.split(".")[0], f"{verb}_{model.label.split('.')[1].lower()}")
            for model in all_admin_models()
            for verb in model.verbs_of(role.name)
        }
        assert granted == declared, role.name


@pytest.mark.slow
@every_caller
def test_each_page_opens_for_its_declared_roles_and_offers_what_they_may_do(cast: Cast):
    for path, statuses in SITE_PAGES.items():
        status = statuses[{"user": 1, "anonymous": 2}.get(cast.caller, 0)]
        answer = cast.client.get(path)
        assert answer.status_code == status, path
        assert protection_of(answer) == PROTECTION, path
    naming = set()
    for model in all_admin_models():
        for page in pages_of(model):
            path = path_of(cast, model, page)
            answer = cast.client.get(path)
            assert answer.status_code == expected(cast.caller, model, page), (path, answer.status_code)
            assert protection_of(answer) == PROTECTION, path
            if answer.status_code == 302:
                assert answer["Location"] == f"/admin/login/?next={quote(path)}"
            if answer.status_code == 200 and page.path in OWN_PAGES:
                assert offers(answer, model, page) == permitted(cast.caller, model, page), path
            if PATIENT_NAME in answer.content.decode():
                naming.add(model.label)
    assert naming == {
        model.label for model in all_admin_models() if names_patients(model) and may(cast.caller, model, "view")
    }


@every_caller
def test_the_index_lists_what_the_caller_may_view(cast: Cast):
    apps = (cast.client.get("/admin/").context or {"app_list": []})["app_list"]
    listed = {f"{app['app_label']}.{one['object_name']}" for app in apps for one in app["models"]}
    assert listed == {model.label for model in all_admin_models() if may(cast.caller, model, "view")}


PROTECTION = {"stored": False, "framed": "DENY", "sniffed": "nosniff", "policy": True, "referrer": "same-origin"}


def protection_of(answer: Any) -> dict[str, Any]:
    """What the headers of an answer say about caches, frames, types, scripts and links to other hosts."""
    return {
        "stored": "no-store" not in answer["Cache-Control"],
        "framed": answer["X-Frame-Options"],
        "sniffed": answer["X-Content-Type-Options"],
        "policy": answer["Content-Security-Policy"].startswith("default-src 'self'"),
        "referrer": answer["Referrer-Policy"],
    }


def offers(answer: Any, model: AdminModel, page: AdminPage) -> set[str]:
    """The verbs and actions that a page of Django's own offers."""
    html = answer.content.decode()
    found = {"add"} if f'href="{model.path}add/' in html and page.path == "" else set()
    found |= {"save"} if 'name="_save"' in html else set()
    found |= {"delete"} if 'class="deletelink"' in html else set()
    actions = answer.context.get("action_form")
    return found | ({name for name, _ in actions.fields["action"].choices if name} if actions else set())


def permitted(caller: str, model: AdminModel, page: AdminPage) -> set[str]:
    verbs = {verb for verb in model.allowed_verbs if may(caller, model, verb)}
    if page.path == "":
        return (verbs & {"add"}) | {name for name, verb in model.actions.items() if may(caller, model, verb)}
    if page.path == "add/":
        return {"save"}
    if page.path == "{pk}/change/":
        return (verbs & {"delete"}) | ({"save"} if "change" in verbs else set())
    return set()


@pytest.mark.slow
@every_caller
def test_nobody_changes_anything_that_is_not_declared(cast: Cast):
    """Each POST is one that changes something as a superuser."""
    for allowed, build in posts(cast):
        cookies = cast.client.cookies.copy()  # an answer may set the key of a session that is rolled back
        with undone():
            path, data = build()
            before = digests()
            answer = cast.client.post(path, data)
            after = digests()
        cast.client.cookies = cookies  # type: ignore[assignment]
        changed = {table for table in before if before[table] != after[table]}
        what = (path, data.get("action"), answer.status_code, changed)
        if allowed:
            assert changed, what
            assert not refusal(answer), what
        else:
            assert not changed, what
            # Django answers an action that the list does not offer with the list.
            listed = "action" in data and answer.headers.get("Location", path).startswith(path)
            assert refusal(answer) or listed, what
            assert (refusal(answer) == "login") == (cast.caller in OUTSIDERS), what


Build = Callable[[], tuple[str, dict[str, Any]]]


def posts(cast: Cast) -> Iterator[tuple[bool, Build]]:
    """One to every page that takes a POST, and for every action one to the list and one to the action's own page:
    whether the caller may send it, and a function that prepares the record and returns path and data."""
    for model in all_admin_models():
        for verb, build in {"add": add, "change": change, "delete": delete}.items():
            yield may(cast.caller, model, verb) and verb in model.allowed_verbs, partial(build, cast, model)
        for name, verb in model.actions.items():
            previewed = [f"{name}/"] if name in admin_of(model).previewed_actions() else []
            for page in ["", *previewed]:
                yield may(cast.caller, model, verb), partial(act, cast, model, name, page)
        for other in model.pages:
            if other.posted:
                yield may(cast.caller, model, other.verb), partial(post, cast, model, other)


def add(cast: Cast, model: AdminModel) -> tuple[str, dict[str, Any]]:
    path = f"{model.path}add/"
    form = {**cast.superuser.form(path), **model.added(cast.owner)} if "add" in model.allowed_verbs else {}
    return path, sendable(form)


def change(cast: Cast, model: AdminModel) -> tuple[str, dict[str, Any]]:
    path = f"{model.path}{cast.records[model.label].pk}/change/"
    form = {**cast.superuser.form(path), **model.changed} if "change" in model.allowed_verbs else {}
    return path, sendable(form)


def delete(cast: Cast, model: AdminModel) -> tuple[str, dict[str, Any]]:
    return f"{model.path}{cast.records[model.label].pk}/delete/", {"post": "yes"}


def act(cast: Cast, model: AdminModel, name: str, page: str) -> tuple[str, dict[str, Any]]:
    record = cast.records[model.label]
    if name in model.prepare:
        model.prepare[name](record)
    ids = selected(model, name, record)
    sent = model.sent[name](cast.owner) if name in model.sent else {}
    return f"{model.path}{page}", {"action": name, "_selected_action": ids, "post": "yes", "index": "0", **sent}


def post(cast: Cast, model: AdminModel, page: AdminPage) -> tuple[str, dict[str, Any]]:
    path = path_of(cast, model, page)
    return path, page.posted(cast.owner, cast.records[model.label]) if page.posted else {}


def sendable(form: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in form.items() if value is not None}
