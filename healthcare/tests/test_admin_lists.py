"""The lists of the admin: pages, counts, filters, states, and what they refuse. The search has tests of its own."""

import datetime
import re
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin import site
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Attempts, User
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.admin.lists import BoundedChangeList, ListAdmin
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, main, named_queries
from healthcare.tests.declarations import AdminModel, all_admin_models
from healthcare.tests.planner import rewrite_and_analyze
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.admin import PatientAdmin
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

PATIENTS, DOCTORS, MAPPINGS = "/admin/patients/patient/", "/admin/doctors/doctor/", "/admin/mappings/mapping/"
LINK = re.compile(r'<a href="([^"]*)"(?: rel="\w+")?>(First|Previous|Next) page</a>')


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListAdmin, "list_per_page", 2)


def listed(admin: AdminClient, path: str) -> list[int]:
    return [row.pk for row in admin.get(path).context["cl"].result_list]


def links(page: str) -> dict[str, str]:
    return {name: url.replace("&amp;", "&") for url, name in LINK.findall(page)}


@pytest.fixture
def records(alice: User) -> list[tuple[AdminModel, Any]]:
    return [(model, model.create(alice)) for model in all_admin_models()]


def test_every_list_is_of_this_kind() -> None:
    request = HttpRequest()
    for model, model_admin in site._registry.items():
        assert isinstance(model_admin, ListAdmin), model
        assert issubclass(model_admin.get_changelist(request), BoundedChangeList), model
        assert not any(check.is_serious() for check in model_admin.check()), model


@pytest.mark.slow
@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    "query", ["", "?state=all", "?q=smith", "?gender=M", "?created_from=2020-01-01", "?owner=alice&state=all"]
)
def test_the_pages_have_every_row_once_in_both_directions(admin: AdminClient, alice: User, query: str) -> None:
    patients = [make_patient(alice).pk for _ in range(5)]
    pages, path = [], f"{PATIENTS}{query}"
    while path:
        page = admin.page(path)
        pages.append(listed(admin, path))
        path = links(page).get("Next", "") and PATIENTS + links(page)["Next"]
    assert pages == [patients[:2:-1], patients[2:0:-1], patients[:1]]
    back = PATIENTS + links(page)["Previous"]
    assert listed(admin, back) == pages[1]
    assert listed(admin, PATIENTS + links(admin.page(back))["Previous"]) == pages[0]
    assert listed(admin, PATIENTS + links(page)["First"]) == pages[0]
    assert "Previous" not in links(admin.page(f"{PATIENTS}{query}"))


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("path", ["/admin/accounts/user/", "/admin/accounts/attempts/", "/admin/auth/group/"])
def test_lists_of_other_keys_have_pages_too(admin: AdminClient, make_user: Any, path: str) -> None:
    for number in range(4):
        make_user(f"user{number}")
        Attempts.objects.create(key=f"key {number}", count=1, until=timezone.now())
    first = admin.page(path)
    second = admin.page(path + links(first)["Next"])
    assert not {*listed(admin, path)} & {*listed(admin, path + links(first)["Next"])}
    assert listed(admin, path + links(second)["Previous"]) == listed(admin, path)


@pytest.mark.parametrize("cursor", ["x", "%00", "AAAA", "9" * 600])
def test_a_cursor_that_no_page_gave_is_refused(admin: AdminClient, alice: User, cursor: str) -> None:
    make_patient(alice)
    assert admin.get(f"{PATIENTS}?cursor={cursor}").status_code == 400
    assert admin.get(f"{PATIENTS}?cursor={cursor}&q=smith").status_code == 400


def test_counts_are_exact_up_to_a_bound_and_estimated_above(
    admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(30):
        make_patient(alice)
    assert admin.get(PATIENTS).context["cl"].count_text == "30 patients"
    assert admin.get(f"{PATIENTS}?gender=O").context["cl"].count_text == "0 patients"
    rewrite_and_analyze("patients_patient")
    for module in ("counts", "lists"):
        monkeypatch.setattr(f"healthcare.admin.{module}.EXACT_UP_TO", 10)
    for query in ("", "?created_from=2020-01-01"):
        assert admin.get(f"{PATIENTS}{query}").context["cl"].count_text.startswith("about 30 "), query


@pytest.mark.parametrize("rows", [3, 30])
def test_filters_take_the_same_queries_however_long_the_list_is(admin: AdminClient, alice: User, rows: int) -> None:
    for _ in range(rows):
        make_mapping(make_patient(alice), make_doctor(alice))
    tables = {PATIENTS: "patients_patient", DOCTORS: "doctors_doctor", MAPPINGS: "mappings_mapping"}
    for path, table in tables.items():
        with named_queries() as queries:
            admin.page(f"{path}?owner=alice&created_from=2020-01-01")
        expected = [*LOGGED_IN, "select accounts_user", f"select count {table}", f"select {table}"]
        assert [name for name in queries if not name.startswith("insert")] == expected, path


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (f"{PATIENTS}?owner=alice&state=all", 3),
        (f"{PATIENTS}?created_from=2020-01-01", 4),  # of each gender
        (f"{MAPPINGS}?owner=alice&state=all", 2),
    ],
)
def test_what_no_single_index_serves_is_read_in_bounded_parts(
    admin: AdminClient, alice: User, path: str, parts: int
) -> None:
    make_mapping(make_patient(alice), make_doctor(alice))
    with CaptureQueriesContext(connection) as queries:
        assert len(listed(admin, path)) == 1
    unions = [query["sql"] for query in queries.captured_queries if "UNION ALL" in query["sql"]]
    assert len(unions) == 2  # the count and the page
    for union in unions:
        each = union.split("UNION ALL")
        assert len(each) == parts
        assert all(re.search(r"ORDER BY \d.* LIMIT \d+\)", part) for part in each), union


def test_every_row_says_its_state(admin: AdminClient, alice: User) -> None:
    active, deleted, survivor, duplicate = [make_patient(alice) for _ in range(4)]
    Patient.objects.filter(pk=deleted.pk).end()
    merge(survivor, duplicate)
    page = main(admin.page(f"{PATIENTS}?state=all"))
    states = re.findall(r'record-state state-\w+">(\w+)</span>(?: into <a href="([^"]+)">patient (\d+)</a>)?', page)
    merged = ("Merged", f"{PATIENTS}{survivor.pk}/change/", str(survivor.pk))
    assert states == [merged, ("Active", "", ""), ("Deleted", "", ""), ("Active", "", "")]
    for state, rows in {"": [survivor, active], "?state=deleted": [deleted], "?state=merged": [duplicate]}.items():
        assert listed(admin, f"{PATIENTS}{state}") == [row.pk for row in rows], state


def test_the_list_of_assignments_shows_who_treats_whom_since_when(admin: AdminClient, alice: User) -> None:
    mapping = make_mapping(make_patient(alice), make_doctor(alice), role="surgeon", is_primary=True)
    Mapping.objects.filter(pk=mapping.pk).end()
    page = main(admin.page(f"{MAPPINGS}?state=all"))
    for label in ("Patient", "Doctor", "Role", "State", "Started", "Ended at", "Owner"):
        assert f'data-label="{label}"' in page, label
    assert "state-ended" in page
    for query, found in {
        f"?patient={mapping.patient_id}&state=ended": [mapping.pk],
        f"?doctor={mapping.doctor_id}&state=all": [mapping.pk],
        f"?doctor={mapping.doctor_id}": [],
        f"?patient={mapping.patient_id + 1}&state=all": [],
    }.items():
        assert listed(admin, f"{MAPPINGS}{query}") == found, query


def test_records_are_filtered_by_owner_gender_and_days(admin: AdminClient, alice: User, bob: User) -> None:
    of_alice, of_bob = make_patient(alice, gender="F"), make_patient(bob, gender="O")
    today = timezone.localdate()
    days = {name: today + datetime.timedelta(days=shift) for name, shift in (("yesterday", -1), ("tomorrow", 1))}
    for query, found in {
        "owner=alice": [of_alice],
        "owner=ALICE": [of_alice],
        f"created_by={bob.pk}": [of_bob],
        f"created_by={bob.pk}&owner=alice": [],
        "owner=nobody": [],
        "gender=O": [of_bob],
        "gender=O&owner=alice": [],
        f"created_from={today}&created_to={today}": [of_bob, of_alice],
        f"created_to={days['yesterday']}": [],
        f"created_from={days['tomorrow']}": [],
        f"created_from={today}&gender=F&owner=alice&state=all": [of_alice],
        "owner=&created_from=&created_to=": [of_bob, of_alice],
        "q=smith&gender=O": [of_bob],
        "q=smith&owner=alice": [of_alice],
    }.items():
        assert listed(admin, f"{PATIENTS}?{query}") == [one.pk for one in found], query


def test_the_owner_filter_tells_nothing_of_users_who_own_no_record(admin: AdminClient, alice: User, bob: User) -> None:
    make_patient(alice)
    pages = [main(admin.page(f"{PATIENTS}?owner={name}")).replace(name, "X") for name in ("bob", "nobody")]
    pages = [re.sub(r'value="[^"]{40,}"', "", page) for page in pages]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "query",
    [
        "created_at__year=99999999999", "name__regex=(", "id__range=1", "p=2", "p=", "o=1", "all=", "e=1",
        "_facets=True", "nothing=1", "state=hidden", "state=active&state=all", "owner=a&owner=b", "q=a&q=b", "q=%00",
        "state=%00",
        "owner=%00", "created_by=x", "created_by=99999999999999999999", "created_from=x", "created_from=2026-02-30",
        "created_to=99999-01-01", "gender=X", "_to_field=name", "created_by__password__startswith=a", "pk=1", "id=1",
        "id__exact=1", "q=" + "x" * 201, "created_by=-1", "owner=" + "x" * 501,
    ],
)  # fmt: skip
def test_what_a_list_does_not_offer_is_refused_with_a_page_that_says_what_it_does(
    admin: AdminClient, alice: User, query: str
) -> None:
    patient = make_patient(alice)
    answer = admin.get(f"{PATIENTS}?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "text/html; charset=utf-8")
    page = answer.content.decode()
    assert "This list can be filtered by" in page
    assert "<code>owner</code>" in page
    assert patient.name not in page
    assert admin.act(f"{PATIENTS}?{query}", "delete_selected", [patient], post="yes").status_code == 400
    assert Patient.objects.active().count() == 1


def test_no_list_is_sorted_by_its_columns_or_counted_by_its_filters(
    admin: AdminClient, records: list[tuple[AdminModel, Any]]
) -> None:
    for model, _ in records:
        page = main(admin.page(model.path))
        assert "?o=" not in page, model
        assert "_facets" not in page, model


def test_an_action_works_on_the_rows_of_one_page_alone(admin: AdminClient, alice: User) -> None:
    patients = [make_patient(alice) for _ in range(3)]
    answer = admin.act(PATIENTS, "delete_selected", patients[:1], post="yes", select_across="1")
    assert (answer.status_code, Patient.objects.active().count()) == (400, 3)
    assert "ticked on one page" in answer.content.decode()


def test_an_action_finds_the_rows_of_a_search(admin: AdminClient, alice: User) -> None:
    found, _ = make_patient(alice, name="Zoe Nair"), make_patient(alice)
    assert admin.act(f"{PATIENTS}?q=zoe", "delete_selected", [found], post="yes").status_code == 302
    assert list(Patient.objects.hidden()) == [found]


@pytest.fixture
def slow_list(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends the query of the list of patients."""
    make_patient(alice)
    get_queryset = PatientAdmin.get_queryset

    def slow(self: PatientAdmin, request: HttpRequest) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '20ms'")
        return get_queryset(self, request).extra(where=["pg_sleep(5) IS NOT NULL"])

    monkeypatch.setattr(PatientAdmin, "get_queryset", slow)


def test_the_transaction_goes_on_after_a_list_that_takes_too_long(slow_list: None, admin: AdminClient) -> None:
    """Here it is the test's: with an aborted one the page would be an error."""
    assert admin.get(PATIENTS).status_code == 503
    assert Patient.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_list_that_takes_too_long_ends_in_a_page_and_leaves_nothing_behind(
    slow_list: None, admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = admin.get(PATIENTS)
    assert (answer.status_code, answer["Content-Type"], answer["Retry-After"]) == (503, "text/html; charset=utf-8", "5")
    assert "took too long" in answer.content.decode()
    monkeypatch.undo()
    with CaptureQueriesContext(connection) as queries:
        assert listed(admin, PATIENTS) != []
    assert not any("pg_sleep" in query["sql"] for query in queries.captured_queries)
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def test_quoted_text_stays_text(admin: AdminClient, alice: User) -> None:
    make_patient(alice)
    for text in ("<script>alert(1)</script>", '"onfocus="x', "%%s %s {}"):
        page = admin.page(f"{PATIENTS}?q={quote(text)}&owner={quote(text)}")
        assert "<script>alert" not in page
        assert '"onfocus="x' not in page
    assert Doctor.objects.count() == 0
