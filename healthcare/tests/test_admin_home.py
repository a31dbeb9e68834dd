"""The home page of the admin: figures and charts of what the user may view, with links to the lists behind them."""

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from audit.models import Seal
from doctors.tests.factories import make_doctor
from healthcare.admin import home
from healthcare.admin.home import Figure, MissingFigure, Panel
from healthcare.admin.tests.access_rows import add_accesses, execute
from healthcare.tests.admin_pages import AdminClient, allow
from healthcare.tests.planner import rewrite_and_analyze
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

DAY = datetime.timedelta(days=1)
TODAY = timezone.make_aware(datetime.datetime(2026, 11, 26))
BIG_TABLES = {"patients_patient", "mappings_mapping", "audit_accesslog", "accounts_attempts", "audit_seal"}
PATIENT_PARTS = ["Patients", "New this week", "New patients"]
MAPPING_PARTS = ["Active assignments", "Doctors with most patients"]


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime.datetime:
    moment = TODAY + DAY / 2
    monkeypatch.setattr(timezone, "now", lambda: moment)
    return moment


@pytest.fixture
def records(alice: User) -> None:
    """Four active patients, of whom three are new this week; a deleted one; Dr. Busy treats three, Dr. Idle none."""
    patients = [make_patient(alice, name=f"Patient {number}") for number in range(5)]
    Patient.objects.filter(pk=patients[4].pk).end()
    for patient, days in zip(patients, (0, 3, 6, 7, 0), strict=True):
        Patient.objects.filter(pk=patient.pk).update(created_at=TODAY - DAY * days)
    busy, other, idle = (make_doctor(alice, name=f"Dr. {name}") for name in ("Busy", "Other", "Idle"))
    for patient in patients[:3]:
        make_mapping(patient, busy)
    make_mapping(patients[0], other)
    for patient in patients[:4]:
        make_past_mapping(patient, idle)
    add_accesses(TODAY - DAY * 14, TODAY - DAY, TODAY, TODAY + DAY / 24)


def parts_of(client: AdminClient) -> dict[str, Any]:
    """What the home page shows, by its title."""
    shown = client.get("/admin/").context["home"]
    return {part.title: part for part in [*shown.figures, *shown.charts]}


def test_the_figures_are_those_of_the_records(staff: User, records: None):
    parts = parts_of(AdminClient(staff))
    values = {title: part.value for title, part in parts.items() if isinstance(part, Figure)}
    assert values == {
        "Patients": "4",
        "New this week": "3",
        "Active assignments": "4",
        "Refused logins": "0",
        "Reads today": "2",
        "Last seal": "none",
    }
    assert [(bar.name, str(bar.count)) for bar in parts["Doctors with most patients"].bars] == [
        ("Dr. Busy", "3"),
        ("Dr. Other", "1"),
    ]
    assert [column.count.number for column in parts["New patients"].columns] == [1, 0, 0, 1, 0, 0, 1]
    assert [column.count.number for column in parts["Reads of patients' data"].columns] == [0] * 12 + [1, 2]


def test_a_new_patient_and_a_read_today_are_counted_at_once(staff: User, alice: User, records: None):
    make_patient(alice)
    AdminClient(staff).page("/admin/patients/patient/")
    parts = parts_of(AdminClient(staff))
    assert parts["Patients"].value == "5"


def test_the_reads_of_today_are_exact_although_those_of_all_days_are_many(staff: User):
    add_accesses(TODAY - DAY, copies=11_000)
    add_accesses(TODAY, copies=3)
    parts = parts_of(AdminClient(staff))
    assert parts["Reads today"].value == "3"
    assert [str(column.count) for column in parts["Reads of patients' data"].columns][-2:] == ["about 11,000", "3"]


def test_without_a_seal_the_page_and_the_list_say_how_to_make_one(staff: User):
    figure = parts_of(AdminClient(staff))["Last seal"]
    assert figure.unit == "not sealed yet: an operator runs manage.py seal_audit"
    hint = "Nothing is sealed yet: an operator runs <code>manage.py seal_audit</code>."
    assert hint in AdminClient(staff).page(figure.url)
    assert hint not in AdminClient(staff).page(f"{figure.url}?table=audit_accesslog")


@pytest.mark.parametrize(
    ("seconds", "age"), [(30, "0 minutes ago"), (7_260, "2 hours ago"), (86_400 * 9, "1 week ago")]
)
def test_the_age_of_the_last_seal(staff: User, noon: datetime.datetime, seconds: int, age: str):
    for at in (noon - DAY * 100, noon - datetime.timedelta(seconds=seconds)):
        Seal.objects.create(
            at=at, table="audit_accesslog", columns=[], row_ids=[], last_id=1, latest=at, codes=b"", code="0" * 64
        )
    figure = parts_of(AdminClient(staff))["Last seal"]
    assert figure.value.replace("\xa0", " ") == age
    assert figure.unit.endswith("UTC")


def links_of(parts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each number with the list behind it."""
    for part in parts.values():
        if isinstance(part, Figure):
            yield part.value, part.url
        for one in getattr(part, "columns", getattr(part, "bars", [])):
            yield str(one.count), one.url


def test_each_number_is_that_of_the_list_to_which_it_links(staff: User, records: None):
    client = AdminClient(staff)
    links = {url: number for number, url in links_of(parts_of(client))}
    assert len(links) == 28
    # Each visit of a list adds to the access log, so its number of today is compared first.
    for url, number in sorted(links.items(), key=lambda link: f"?day={TODAY:%Y-%m-%d}" not in link[0]):
        changelist = client.get(url).context["cl"]
        assert len(changelist.result_list) == (0 if number == "none" else int(number)), url
        assert changelist.count_text.split()[0] == str(len(changelist.result_list)), url


@pytest.mark.parametrize(
    ("codenames", "titles"),
    [
        ([], []),
        (["view_patient"], PATIENT_PARTS),
        (["change_patient"], PATIENT_PARTS),
        (["add_patient"], []),
        (["view_mapping"], MAPPING_PARTS),
        (["view_doctor"], []),
        (["view_attempts"], ["Refused logins"]),
        (["view_user", "change_user", "view_loginsession"], []),
        (["view_accesslog"], ["Reads today", "Reads of patients' data"]),
        (["view_seal"], ["Last seal"]),
    ],
)
def test_staff_who_may_not_view_a_model_see_none_of_its_figures(
    make_user: Callable[..., User], records: None, codenames: list[str], titles: list[str]
):
    client = AdminClient(allow(make_user("clerk", is_staff=True), *codenames))
    with CaptureQueriesContext(connection) as queries:
        assert list(parts_of(client)) == titles
    tables = {table for query in queries.captured_queries for table in re.findall(r"\w+_\w+", query["sql"])}
    assert bool(tables & BIG_TABLES) == bool(titles)


def test_the_lists_are_grouped_by_task(staff: User):
    page = AdminClient(staff).get("/admin/")
    groups = {group.title: [model["object_name"] for model in group.models] for group in page.context["home"].groups}
    assert groups["Records"] == ["Patient", "Doctor", "Mapping"]
    assert list(groups) == ["Records", "People and access", "Audit"]
    text = page.content.decode()
    for link in ("patients/patient", "doctors/doctor", "mappings/mapping"):
        assert f'<a href="/admin/{link}/add/" class="addlink">Add ' in text


def test_staff_who_may_only_view_doctors_get_no_search_for_patients_and_no_link_to_add(make_user: Callable[..., User]):
    page = AdminClient(allow(make_user("reader", is_staff=True), "view_doctor")).page("/admin/")
    assert 'role="search"' not in page
    assert "addlink" not in page
    assert 'href="/admin/doctors/doctor/"' in page


def test_the_page_of_an_app_lists_its_models_alone(staff: User):
    page = AdminClient(staff).page("/admin/patients/")
    assert 'href="/admin/patients/patient/"' in page
    assert "home-figures" not in page
    assert "Recent actions" not in page


@pytest.mark.parametrize("copies", [1, 40])
def test_the_home_page_takes_the_same_queries_however_much_there_is(
    staff: User, alice: User, records: None, copies: int
):
    for number in range(copies):
        make_mapping(make_patient(alice), make_doctor(alice, name=f"Dr. {number}"))
    client = AdminClient(staff)
    with CaptureQueriesContext(connection) as queries:
        client.page("/admin/")
    assert tables_read(queries) == [
        "django_session", "accounts_user", "patients_patient",
        "patients_patient", "patients_patient",  # the first ids, the rows of the days
        "mappings_mapping", "mappings_mapping", "doctors_doctor", "accounts_attempts",
        "audit_accesslog", "audit_accesslog", "audit_seal", "django_admin_log",
    ]  # fmt: skip


def tables_read(queries: CaptureQueriesContext) -> list[str]:
    """The first table of each statement but savepoints and settings, in their order."""
    found = [re.search(r'FROM "?([a-z]+_[a-z_]+)', query["sql"]) for query in queries.captured_queries]
    return [match[1] for match in found if match]


def fail() -> Any:
    execute("SELECT 1 / 0")


def sleep() -> Any:
    execute("SELECT pg_sleep(60)")


@pytest.mark.parametrize("read", [fail, sleep, lambda: [][0]])
def test_a_figure_that_cannot_be_read_leaves_the_others(
    staff: User, records: None, monkeypatch: pytest.MonkeyPatch, read: Callable[[], Any], caplog: Any
):
    monkeypatch.setattr(home, "PANEL_TIMEOUT", "100ms" if read is sleep else "2s")
    registered: Any = admin.site.get_model_admin(Patient)
    [_, new] = registered.home_panels
    monkeypatch.setattr(registered, "home_panels", [Panel("Patients", read), new], raising=False)
    client = AdminClient(staff)
    parts = parts_of(client)
    assert parts["Patients"] == MissingFigure("Patients")
    assert parts["New this week"].value == "3"
    assert parts["Active assignments"].value == "4"
    assert "no figures for Patients" in caplog.text
    assert "Not available" in client.page("/admin/")


def test_no_statement_of_the_figures_is_compiled(staff: User, rf: Any, monkeypatch: pytest.MonkeyPatch):
    execute("SET LOCAL jit = on")
    found: list[str] = []

    def read() -> list[Figure]:
        with connection.cursor() as cursor:
            cursor.execute("SHOW jit")
            found.extend(cursor.fetchone())
        return []

    monkeypatch.setattr(admin.site.get_model_admin(Patient), "home_panels", [Panel("Patients", read)], raising=False)
    request = rf.get("/admin/")
    request.user = staff
    home.build_home(admin.site, request, [])
    assert found == ["off"]


def test_the_timeout_of_the_figures_ends_with_them(staff: User, rf: Any):
    request = rf.get("/admin/")
    request.user = staff
    execute("SET LOCAL statement_timeout = '7s'")
    home.build_home(admin.site, request, [])
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout'), current_setting('enable_seqscan')")
        assert cursor.fetchone() == ("7s", "on")


def plans_of(queries: CaptureQueriesContext) -> dict[str, str]:
    """The plan of each SELECT of a big table, with the settings under which the figures are read."""
    execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
    plans = {}
    for query in queries.captured_queries:
        sql = query["sql"].strip()
        if sql.startswith(("SELECT", "WITH")) and any(table in sql for table in BIG_TABLES):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
                plans[sql] = "\n".join(line for (line,) in cursor.fetchall())
    return plans


def test_no_figure_scans_or_sorts_a_big_table(staff: User, records: None):
    client = AdminClient(staff)
    # Enough rows for the planner to prefer an index.
    Patient.objects.bulk_create(Patient(created_by=staff, name="P") for _ in range(2000))
    rewrite_and_analyze(*BIG_TABLES)
    with CaptureQueriesContext(connection) as queries:
        client.page("/admin/")
    plans = plans_of(queries)
    assert len(plans) >= 8
    for sql, plan in plans.items():
        for table in BIG_TABLES:
            assert f"Seq Scan on {table}" not in plan, plan
        if "LIMIT" in sql:
            assert "Sort Key: created_by_id" not in plan, plan
    for index in ("patient_list", "mapping_list", "mapping_once", "audit_accesslog_pkey", "patients_patient_pkey"):
        assert any(index in plan for plan in plans.values()), index
