"""The access log and the seals in the admin: viewed and never changed, and the seals verified from a button."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.db import connection, connections, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import User
from audit.admin import logs, seal_verification
from audit.admin.seal_verification import RUNNING
from audit.admin.wording import access_text
from audit.models import AccessLog, Basis, Seal, VerificationMark
from audit.tests.test_admin_history import words
from audit.tests.test_seals import seal, superuser
from audit.views import ReadsRecordedViewSet
from healthcare.admin.actions import PreviewedAction
from healthcare.tests.admin_pages import AdminClient, allow, named_queries
from healthcare.tests.contract_matrix import all_routes
from healthcare.tests.test_admin_site import admin_paths
from mappings.models import Mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

LOG, SEALS = "/admin/audit/accesslog/", "/admin/audit/seal/"
VERIFY = f"{SEALS}verify/"


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def record(
    actor: int,
    *patient_ids: int,
    action: str = "patient.retrieve",
    outcome: int = 200,
    basis: Basis = Basis.OWNER,
) -> AccessLog:
    AccessLog.objects.record(actor, action, patient_ids, basis=basis, request_id="", outcome=outcome, pure_read=True)
    return AccessLog.objects.latest("id")


def listed(client: AdminClient, query: str = "") -> list[int]:
    """The ids of the rows on a page of the log."""
    response = client.get(f"{LOG}{query}")
    assert response.status_code == 200, response.status_code
    return [row.pk for row in response.context["cl"].result_list]


def table() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT md5(string_agg(x::text, '' ORDER BY id)) FROM audit_accesslog x WHERE action ~ '^patient'"
        )
        found: list[Any] = cursor.fetchall()
        cursor.execute("SELECT md5(string_agg(x::text, '' ORDER BY id)) FROM audit_seal x")
        return [*found, *cursor.fetchall()]


def test_even_a_superuser_changes_nothing_at_any_address(admin: AdminClient, alice: User):
    patient = make_patient(alice)
    access = record(alice.pk, patient.pk)
    seal()
    rows = {LOG: access.pk, SEALS: Seal.objects.latest("id").pk}
    before = table()
    paths = [path for path in admin_paths() if path.startswith(("/admin/audit/accesslog/", "/admin/audit/seal/"))]
    assert len(paths) > 9
    for path in paths:
        if path == VERIFY:
            continue
        base = LOG if path.startswith(LOG) else SEALS
        path = path.replace("/1/", f"/{rows[base]}/")
        for sent in (
            {}, {"post": "yes"}, {"_save": "Save", "actor": "0", "code": "x"},
            {"action": "delete_selected", "_selected_action": rows[base], "index": "0", "post": "yes"},
        ):  # fmt: skip
            answer = admin.post(path, sent)
            assert answer.status_code in {403, 302}, (path, answer.status_code)
            if answer.status_code == 302:  # `/admin/audit/seal/1/` leads to `/change/`
                assert answer["Location"].endswith("/change/"), path
        for method in (admin.put, admin.patch, admin.delete):
            assert method(path, "{}").status_code in {403, 405, 302}, path
    assert table() == before
    assert (admin.get(f"{LOG}add/").status_code, admin.get(f"{SEALS}add/").status_code) == (403, 403)
    for base, key in rows.items():
        assert admin.get(f"{base}{key}/delete/").status_code == 403
        page = admin.page(f"{base}{key}/change/")
        assert "_save" not in page
        assert "deletelink" not in page
        assert 'name="action"' not in admin.page(base)


def test_the_log_lists_accesses_by_ids_alone_with_links_to_the_history(admin: AdminClient, alice: User):
    patient = make_patient(alice, name="Quetzalina")
    record(alice.pk, patient.pk, 2, outcome=404)
    page = admin.page(LOG)
    assert "Quetzalina" not in page
    assert f'<a href="/admin/patients/patient/{patient.pk}/history/">{patient.pk}</a>' in page
    assert "alice" in page
    assert "read through the API" in words(page)
    assert "refused (404)" in page
    assert re.search(r"\d+ \w+ \d{4}, \d\d:\d\d:\d\d UTC", page)


def test_staff_who_may_not_view_patients_get_no_links(make_user: Callable[..., User], alice: User):
    patient = make_patient(alice)
    record(alice.pk, patient.pk)
    auditor = AdminClient(allow(make_user("auditor", is_staff=True), "view_accesslog"))
    assert f"/admin/patients/patient/{patient.pk}/history/" not in auditor.page(LOG)


@pytest.mark.parametrize("codename", ["view_accesslog", "view_seal", "change_patient"])
def test_each_log_needs_its_own_permission(make_user: Callable[..., User], codename: str):
    client = AdminClient(allow(make_user("clerk", is_staff=True), codename))
    assert client.get(LOG).status_code == (200 if codename == "view_accesslog" else 403)
    assert client.get(SEALS).status_code == (200 if codename == "view_seal" else 403)
    assert client.post(VERIFY).status_code == (200 if codename == "view_seal" else 403)


def test_the_filters_find_a_patient_a_user_an_outcome_and_a_day(admin: AdminClient, alice: User, bob: User):
    first, second = record(alice.pk, 17), record(bob.pk, 17, 18)
    refused, duplicates = record(bob.pk, 18, outcome=404), record(alice.pk, 19, outcome=409)
    assert listed(admin, "?patient=17")[-2:] == [second.pk, first.pk]
    assert listed(admin, "?patient=0") == []
    assert listed(admin, f"?actor={bob.pk}") == [refused.pk, second.pk]
    assert listed(admin, "?username=BOB&patient=17") == [second.pk]
    assert listed(admin, "?username=nobody") == []
    assert listed(admin, f"?username=bob&actor={alice.pk}") == []
    assert listed(admin, "?outcome=refused") == [refused.pk]
    assert listed(admin, f"?outcome=shown&actor={alice.pk}") == [duplicates.pk, first.pk]
    today = timezone.localdate()
    assert first.pk in listed(admin, f"?day={today}")
    assert listed(admin, f"?day={today.replace(year=today.year - 1)}") == []
    assert listed(admin, f"?day={today}&actor={bob.pk}") == [refused.pk, second.pk]


def test_the_filter_of_the_basis_finds_the_reads_of_delegates(admin: AdminClient, alice: User, bob: User):
    own = record(alice.pk, 17)
    delegate = record(bob.pk, 17, basis=Basis.DELEGATE)
    assert listed(admin, "?basis=delegate") == [delegate.pk]
    assert listed(admin, "?basis=owner&patient=17") == [own.pk]
    page = admin.get(f"{LOG}?basis=delegate").content.decode()
    assert re.search(">Delegate</td>", page)
    assert not re.search(">Owner</td>", page)


@pytest.mark.parametrize(
    "query",
    [
        "patient=x",
        "patient=-1",
        "actor=x",
        "outcome=x",
        "basis=x",
        "day=x",
        "day=2026-02-30",
        "patient_ids=1",
        "at__year=1",
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_a_page(admin: AdminClient, query: str):
    answer = admin.get(f"{LOG}?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "text/html; charset=utf-8")


def test_pages_of_one_patient_follow_each_other(admin: AdminClient, staff: User, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs.AccessLogAdmin, "list_per_page", 10)
    wanted = [record(1, 17).pk for _ in range(25)]
    record(1, 18)
    found: list[int] = []
    link = "?patient=17"
    while link:
        response = admin.get(f"{LOG}{link}")
        found += [row.pk for row in response.context["cl"].result_list]
        link = response.context["cl"].older_url
    assert [key for key in found if key in wanted] == wanted[::-1]
    previous = response.context["cl"].newer_url
    assert listed(admin, previous)[-1] > found[-1]


def plan_of(query: str, admin: AdminClient) -> str:
    """The plan of the query for the rows of a page of the log."""
    response = admin.get(f"{LOG}{query}")
    rows = response.context["cl"].in_parts()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    return str(rows.queryset.order_by("-position" if rows.of_patient else "-id")[:101].explain())


def test_a_patients_accesses_are_found_by_the_index_on_the_patients(admin: AdminClient):
    record(1, 17)
    assert "access_to_patient" in plan_of("?patient=17", admin)
    assert "access_to_patient" in plan_of("?patient=17&outcome=refused", admin)
    assert "audit_accesslog_pkey" in plan_of("", admin)


def test_a_user_is_looked_for_in_a_bounded_part_of_the_log(
    admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    early = record(alice.pk, 17)
    for _ in range(5):
        record(1, 18)
    late = record(alice.pk, 17)
    assert listed(admin, f"?actor={alice.pk}") == [late.pk, early.pk]
    monkeypatch.setattr(logs, "MOST_SCANNED", 4)
    assert listed(admin, f"?patient=17&actor={alice.pk}") == [late.pk, early.pk]
    record(alice.pk, 19)
    page = words(admin.page(f"{LOG}?actor={alice.pk}"))
    assert "Among 4 requests, the last ones; choose a day for earlier ones" in page
    assert early.pk not in listed(admin, f"?actor={alice.pk}")


def test_looking_at_the_log_is_in_the_log(admin: AdminClient, staff: User):
    access = record(1, 17, 18)
    admin.page(LOG)
    admin.page(f"{LOG}?patient=17")
    admin.page(f"{LOG}{access.pk}/change/")
    looks = AccessLog.objects.filter(id__gt=access.pk).order_by("id").values_list("actor", "action", "patient_ids")
    assert list(looks) == [
        (staff.pk, "admin.accesslog.changelist", []),
        (staff.pk, "admin.accesslog.changelist", [17]),
        (staff.pk, "admin.accesslog.view", [17, 18]),
    ]


def test_the_query_count_of_the_log_does_not_grow_with_the_rows(admin: AdminClient, alice: User, bob: User):
    counts = []
    for _ in range(3):
        for user in (alice, bob):
            record(user.pk, 17)
        with named_queries() as names:
            admin.page(LOG)
        counts.append(names)
    assert counts[0] == counts[1] == counts[2]
    assert len(counts[0]) <= 7


def test_the_list_of_seals_reads_no_codes(admin: AdminClient, alice: User, settings: Any):
    make_patient(alice)
    seal()
    with named_queries() as names:
        page = admin.page(SEALS)
    assert "Not verified yet" in page
    assert not [row.get_deferred_fields() for row in admin.get(SEALS).context["cl"].result_list if "codes" in vars(row)]
    assert names.count("select audit_seal") == 1
    assert Seal.objects.filter(table="patients_patientevent").exists()
    assert "History of patients" in words(page)
    assert "patients_patientevent" not in words(page)
    assert [row.row_count for row in admin.get(f"{SEALS}?table=patients_patientevent").context["cl"].result_list] == [1]


def alter() -> int:
    """Change a row of the history as somebody with the database's superuser would. Returns its key."""
    with superuser() as cursor:
        cursor.execute("UPDATE patients_patientevent SET name = 'Eve' RETURNING pgh_id")
        return int(cursor.fetchone()[0])


def test_the_button_verifies_and_says_so(admin: AdminClient, staff: User, alice: User):
    make_patient(alice)
    seal()
    page = words(admin.post(VERIFY).content.decode())
    assert "All seals are verified." in page
    assert re.search(
        r"[1-9]\d* sealed rows are unaltered, 0 of them erased with a patient; \d+ rows are not sealed", page
    )
    last = Seal.objects.latest("id")
    assert VerificationMark.objects.get().seal_id == last.pk
    listed_page = words(admin.page(SEALS))
    assert "Verified" in listed_page
    assert "Not verified yet" not in listed_page
    assert ", by staff: Verified: " in listed_page
    (entry,) = LogEntry.objects.all()
    assert (entry.user, entry.object_repr) == (staff, f"seal {last.pk}")
    assert f"Those up to seal {last.pk} were verified before." in words(admin.post(VERIFY).content.decode())


def test_the_button_names_a_row_that_was_changed_in_the_database(admin: AdminClient, alice: User):
    make_patient(alice)
    seal()
    key = alter()
    page = words(admin.post(VERIFY).content.decode())
    assert f"Tampering found: patients_patientevent {key} was altered." in page
    assert not VerificationMark.objects.exists()
    assert f"TAMPERING FOUND: patients_patientevent {key} was altered." in words(admin.page(SEALS))


def test_the_button_finds_a_forged_mark(admin: AdminClient, alice: User):
    make_patient(alice)
    seal()
    admin.post(VERIFY)
    VerificationMark.objects.update(seal_id=10**6)
    assert "Not verified yet" in words(admin.page(SEALS))
    assert "The mark of the last verification was altered" in words(admin.post(VERIFY).content.decode())


def test_without_a_seal_the_button_says_so(admin: AdminClient):
    assert "There is no seal: run seal_audit first." in words(admin.post(VERIFY).content.decode())


def test_without_the_key_nothing_is_verified(admin: AdminClient, alice: User, settings: Any):
    make_patient(alice)
    seal()
    settings.AUDIT_SEAL_KEY = ""
    page = words(admin.post(VERIFY).content.decode())
    assert "Nothing was verified. AUDIT_SEAL_KEY is not set here" in page
    assert not LogEntry.objects.exists()
    assert "Not verified yet" in admin.page(SEALS)


def test_a_request_verifies_as_far_as_it_has_time(admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        make_patient(alice)
        seal()
    monkeypatch.setattr(seal_verification, "MOST_SECONDS", -1)
    texts: list[str] = []
    while not texts or "Not all seals" in texts[-1]:
        texts.append(words(admin.post(VERIFY).content.decode()))
    assert len(texts) == Seal.objects.count()
    assert "manage.py verify_audit" in texts[0]
    first = Seal.objects.earliest("id")
    assert f"up to seal {first.pk}." in texts[0]
    assert "All seals are verified." in texts[-1]
    assert LogEntry.objects.filter(change_message__startswith="Verified in part").count() == len(texts) - 1


def test_tampering_beyond_the_first_part_is_found_by_a_later_press(
    admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    for _ in range(2):
        make_patient(alice)
        seal()
    monkeypatch.setattr(seal_verification, "MOST_SECONDS", -1)
    with superuser() as cursor:
        last = PatientEvent.objects.latest("pgh_id").pk
        cursor.execute("UPDATE patients_patientevent SET name = 'Eve' WHERE pgh_id = %s", [last])
    while "Not all seals" in (text := words(admin.post(VERIFY).content.decode())):
        pass
    assert f"patients_patientevent {last} was altered." in text


def test_on_a_read_only_database_the_button_says_where_to_verify(admin: AdminClient, alice: User):
    make_patient(alice)
    seal()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL transaction_read_only = on")
        page = words(admin.post(VERIFY).content.decode())
        transaction.set_rollback(True)
    assert "This database is read-only, such as a standby: verify the seals on the primary server." in page


@pytest.mark.django_db(transaction=True)
def test_two_requests_never_verify_at_once(staff: User, alice: User):
    make_patient(alice)
    seal()
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [RUNNING])
        client = AdminClient(staff)
        assert "Another verification is running" in words(client.post(VERIFY).content.decode())
    finally:
        other.close()
    while "Another verification is running" in (text := words(client.post(VERIFY).content.decode())):
        pass  # the server has not ended the other session yet
    assert "All seals are verified." in text


def test_the_button_is_a_post_with_a_csrf_token(admin: AdminClient, staff: User):
    assert "Verify the seals" in admin.page(VERIFY)
    assert not LogEntry.objects.exists()
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.post(VERIFY).status_code == 403
    assert "csrfmiddlewaretoken" in admin.page(SEALS)


def test_history_and_marks_have_no_pages_of_their_own(admin: AdminClient):
    for model in ("userevent", "legalholdevent", "forgotten", "archive", "verificationmark"):
        assert admin.get(f"/admin/audit/{model}/").status_code == 404
    assert admin.get("/admin/patients/patientevent/").status_code == 404


def test_every_kind_of_access_has_words():
    views: list[Any] = [route.callback for route in all_routes().values()]
    recorded = {
        view.cls.access_action(action)
        for view in views
        if issubclass(getattr(view, "cls", object), ReadsRecordedViewSet)
        for action in view.actions.values()
    }
    assert "patient.audience" in recorded
    admins = [site._registry[model] for model in (Patient, Mapping)]
    actions: list[Any] = [action for one in admins for action in one.actions or ()]
    recorded |= {f"admin.patient.{one.access_action}" for one in actions if isinstance(one, PreviewedAction)}
    assert "admin.patient.hand_over_preview" in recorded
    recorded -= {"admin.patient.export_preview"}  # an export is recorded as such, when the file is sent
    unnamed = [text for name in sorted(recorded) if "(" in (text := access_text(name))]
    assert unnamed == [], "\n".join(unnamed)
