"""The admin as a whole: logging in, the index, errors, and every page of every model that the apps declare.

What concerns one app alone is tested there.
"""

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db import connection
from django.db.models import Field, Model, Transform
from django.template import engines
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from conftest import PASSWORD
from healthcare.tests.admin_pages import AdminClient, Page, allow
from healthcare.tests.declarations import AdminModel, all_admin_models
from healthcare.tests.live import LiveServer, environment_of, free_port, server_command, wait_until_answering

LOGIN = "/admin/login/"


def admin_paths() -> list[str]:
    """Every path of the admin, with 1 for each of its parameters."""
    [site] = [entry for entry in get_resolver().url_patterns if str(entry.pattern) == "admin/"]
    assert isinstance(site, URLResolver)
    return sorted({*walk(site, "/"), "/admin/patients/", "/admin/nothing/here/"})


def walk(entry: URLPattern | URLResolver, before: str) -> Iterator[str]:
    path = before + re.sub(r"<[^>]+>", "1", str(entry.pattern))
    if isinstance(entry, URLResolver):
        for inner in entry.url_patterns:
            yield from walk(inner, path)
    elif "^" not in path and "(" not in path:
        yield path


def log_in(client: Client, username: str, password: str = PASSWORD) -> Any:
    return client.post(f"{LOGIN}?next=/admin/", {"username": username, "password": password})


@pytest.fixture
def records(alice: User) -> list[tuple[AdminModel, Any]]:
    """Every model of the admin, each with a record of alice's."""
    return [(model, model.create(alice)) for model in all_admin_models()]


def test_every_page_redirects_an_anonymous_visitor_to_the_login(anonymous: Client):
    paths = admin_paths()
    assert len(paths) > 40
    for path in paths:
        answer = anonymous.get(path)
        if path == LOGIN:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 302, path
            assert answer["Location"] == "/admin/" if path == "/admin/logout/" else f"{LOGIN}?next={path}", path


def test_staff_without_permissions_see_nothing(make_user, records: list[tuple[AdminModel, Any]]):
    client = AdminClient(make_user("newcomer", is_staff=True))
    assert "You don’t have permission to view or edit anything." in client.page("/admin/")
    for model, record in records:
        for page in ("", "add/", f"{record.pk}/change/", f"{record.pk}/delete/", f"{record.pk}/history/"):
            answer = client.get(f"{model.path}{page}")
            assert (answer.status_code, answer["Content-Type"]) == (403, "text/html; charset=utf-8"), (model, page)


def test_the_index_lists_every_model_and_has_the_projects_title(staff: User):
    answer = AdminClient(staff).get("/admin/")
    listed = [
        f"{app['app_label']}.{model['object_name']}" for app in answer.context["app_list"] for model in app["models"]
    ]
    assert sorted(listed) == sorted(model.label for model in all_admin_models())
    assert "<title>Records and accounts | Healthcare admin</title>" in answer.content.decode()


def test_no_page_has_markup_that_the_content_security_policy_blocks(staff: User, records: list[tuple[AdminModel, Any]]):
    client = AdminClient(staff)
    paths = ["/admin/", "/admin/password_change/", LOGIN]
    for model, record in records:
        paths += [model.path, f"{model.path}{record.pk}/change/"]
        pages = {"add": "add/", "delete": f"{record.pk}/delete/", "view": f"{record.pk}/history/"}
        paths += [model.path + page for verb, page in pages.items() if verb in model.allowed_verbs]
        if model.label == "accounts.User":
            paths.append(f"{model.path}{record.pk}/password/")
    for path in paths:
        html = Client().get(path).content.decode() if path == LOGIN else client.page(path)
        assert Page(html).blocked == [], path
    assert "default-src 'self'" in client.get("/admin/")["Content-Security-Policy"]


def test_the_admin_answers_errors_with_html_pages(staff: User):
    client = AdminClient(staff)
    for path, status in (("/admin/nothing/", 404), ("/admin/accounts/attempts/add/", 403)):
        answer = client.get(path)
        assert (answer.status_code, answer["Content-Type"]) == (status, "text/html; charset=utf-8")
    strict = Client(enforce_csrf_checks=True)
    answer = log_in(strict, "staff")
    assert (answer.status_code, answer["Content-Type"].split(";")[0]) == (403, "text/html")


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "?q=%00", "?q=" + "x" * 5000, "?state=%00", "?state=nonsense", "?p=-1", "?p=x", "?p=99999999999999999999",
        "?o=x", "?o=99.-99", "?all=", "?gender__exact=%00", "?is_active__exact=x", "?created_at__gte=x", "?pk=%00",
        "?id__in=x", "?id__exact=99999999999999999999", "?created_by__password__startswith=a", "?nothing=1", "?e=1",
        "?_facets=True", "?_popup=1", "?_to_field=name", "?started_at__year=0",
    ],
)  # fmt: skip
def test_no_query_breaks_a_list(staff: User, records: list[tuple[AdminModel, Any]], query: str):
    client = AdminClient(staff)
    for model, _ in records:
        assert client.get(f"{model.path}{query}").status_code < 500, model


LOOKUP_VALUES = ["(", "1", "2147483648"]  # the hostile values of all kinds are above


def lookups_of(model: type[Model]) -> Iterator[tuple[str, str, str]]:
    """Every lookup of every column, also after a transform such as `__year`: the class of the column, its name and the
    lookup."""
    for field in model._meta.get_fields():
        if not isinstance(field, Field):
            continue
        for name, lookup in field.get_lookups().items():
            yield type(field).__name__, field.name, name
            if issubclass(lookup, Transform):
                for inner in ("exact", "gt", "in", "range", "regex"):
                    yield type(field).__name__, field.name, f"{name}__{inner}"


@pytest.mark.slow
def test_no_lookup_in_the_query_string_breaks_a_list(
    staff: User, records: list[tuple[AdminModel, Any]], monkeypatch: pytest.MonkeyPatch
):
    """Of each class of column, one column stands for all. A page that reads the rows and shows none is enough."""
    rows_alone = engines["django"].from_string("{{ cl.result_count }}{% for row in cl.result_list %}.{% endfor %}")
    monkeypatch.setattr(ModelAdmin, "change_list_template", rows_alone)
    client, tried = AdminClient(staff), set[tuple[str, str]]()
    for model, record in records:
        for kind, name, lookup in lookups_of(type(record)):
            if (kind, lookup) in tried:
                continue
            tried.add((kind, lookup))
            for value in LOOKUP_VALUES:
                query = f"{name}__{lookup}={value}"
                answer = client.get(f"{model.path}?{query}")
                assert answer.status_code < 500, (model.path, query)
                if b"This list has no filter" in answer.content:  # whatever the value
                    break
    assert len(tried) > 200


@pytest.mark.parametrize(
    "query", ["started_at__year=2147483648", "role__regex=(", "id__range=1", "patient__name__regex=("]
)
def test_a_lookup_that_the_list_does_not_offer_is_refused_with_a_page(
    staff: User, records: list[tuple[AdminModel, Any]], query: str
):
    client = AdminClient(staff)
    answer = client.get(f"/admin/mappings/mapping/?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert f"This list has no filter “{query.partition('=')[0]}”." in answer.content.decode()
    sent = {"action": "delete_selected", "_selected_action": ["1"], "index": "0"}
    assert client.post(f"/admin/mappings/mapping/?{query}", sent).status_code == 400


@pytest.mark.parametrize("term", ["%00", "x" * 5000, "%ff", "a&page=x", "a&page=99999999999999999999", "a&page=0"])
def test_no_search_term_breaks_the_autocomplete(staff: User, records: list[tuple[AdminModel, Any]], term: str):
    path = "/admin/autocomplete/?app_label=mappings&model_name=mapping&field_name=patient&term="
    assert AdminClient(staff).get(path + term).status_code < 500


@pytest.mark.slow
@pytest.mark.parametrize("key", ["x", "0", "-1", "99999999999999999999", "%00", "1_2F", "é"])
def test_no_id_breaks_a_form(staff: User, records: list[tuple[AdminModel, Any]], key: str):
    client = AdminClient(staff)
    for model, _ in records:
        for page in ("change", "delete", "history"):
            assert client.get(f"{model.path}{key}/{page}/").status_code < 500, (model, page)
        assert client.post(f"{model.path}{key}/change/", {"name": "x"}).status_code < 500, model


@pytest.mark.parametrize("key", ["x", "0", "99999999999999999999", "\0"])
def test_no_selection_breaks_an_action(staff: User, records: list[tuple[AdminModel, Any]], key: str):
    client = AdminClient(staff)
    for model, _ in records:
        sent = {"action": model.action, "_selected_action": [key], "post": "yes", "index": "0"}
        assert client.post(model.path, sent).status_code < 500, model


@pytest.mark.parametrize("identifier", ["staff", "STAFF", "staff@example.org", "Staff@Example.org"])
def test_staff_log_in_by_username_or_email(staff: User, identifier: str):
    client = Client()
    answer = log_in(client, identifier)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("who", ["alice", "staff", "inactive", "nobody"])
def test_every_refused_login_gets_the_same_message(staff: User, alice: User, make_user, who: str):
    make_user("inactive", is_staff=True, is_active=False)
    answer = log_in(Client(), who, "WrongPass123" if who == "staff" else PASSWORD)
    said = "Please enter the correct username and password for a staff account."
    assert (answer.status_code, said in answer.content.decode()) == (200, True)


def test_after_too_many_failures_even_the_right_password_has_to_wait(staff: User):
    client = Client()
    answers = [log_in(client, "staff", "WrongPass123") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    wait = int(answers[-1]["Retry-After"])
    assert wait >= 1
    assert f"Too many attempts. Try again in {wait} seconds." in answers[-1].content.decode()
    assert answers[-1]["Content-Type"] == "text/html; charset=utf-8"
    assert log_in(client, "staff@example.org").status_code == 429  # the right password has to wait too


def test_the_api_and_the_admin_count_the_same_failures(staff: User, anonymous: Any):
    for _ in range(10):
        assert log_in(Client(), "staff", "WrongPass123").status_code == 200
    answer = anonymous.post("/api/auth/login/", {"username": "staff", "password": PASSWORD})
    assert answer.status_code == 429


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_committed_before_the_password_is_checked(staff: User):
    with CaptureQueriesContext(connection) as queries:
        log_in(Client(), "staff", "WrongPass123")
    kinds = ("INSERT", "SELECT", "BEGIN", "COMMIT")  # history's context comes in front of an INSERT
    statements = [next(kind for kind in kinds if kind in query["sql"]) for query in queries.captured_queries]
    assert statements == ["SELECT", "BEGIN", "INSERT", "COMMIT"]


def test_staff_who_may_view_one_model_see_that_one_alone(make_user, records: list[tuple[AdminModel, Any]]):
    client = AdminClient(allow(make_user("reader", is_staff=True), "view_doctor"))
    answer = client.get("/admin/")
    assert [app["app_label"] for app in answer.context["app_list"]] == ["doctors"]
    assert client.get("/admin/patients/").status_code == 404


def test_with_the_database_away_the_admin_answers_503(live: LiveServer):
    port, nowhere = free_port(), free_port()
    environment = environment_of(f"postgres://nobody@127.0.0.1:{nowhere}/none")
    process = subprocess.Popen(server_command(port), cwd=settings.BASE_DIR, env=environment)
    try:
        wait_until_answering(port, process)
        server = LiveServer("127.0.0.1", port, "", environment)
        for path in ("/admin/", "/admin/patients/patient/", "/admin/patients/patient/1/change/"):
            answer = server.call("GET", path, Cookie="sessionid=abcdefghijklmnopqrstuvwxyz012345")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), path
    finally:
        process.terminate()
        process.wait(30)


def test_every_model_in_the_admin_is_declared_by_an_app():
    registered = sorted(model._meta.label for model in admin.site._registry)
    assert registered == sorted(model.label for model in all_admin_models())
