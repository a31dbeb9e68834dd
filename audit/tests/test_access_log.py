"""Every read of patients' data adds one row to the access log: actor, action, patients, basis and outcome."""

from typing import Any

import pgtrigger
import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import include, path

from accounts.models import User
from audit.admin.reads import ReadsRecordedAdmin
from audit.checks import admin_pages_record_reads
from audit.models import AccessLog, PatientAccess
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.rls.context import enter
from healthcare.tests.live import LiveServer
from healthcare.tests.planner import rewrite_and_analyze
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


class PatientPage(ReadsRecordedAdmin):
    search_fields = ("name",)


class MappingPage(ReadsRecordedAdmin):
    autocomplete_fields = ("patient",)


site = AdminSite()
site.register(Patient, PatientPage)
site.register(Mapping, MappingPage)
urlpatterns = [path("admin/", site.urls), path("", include("healthcare.urls"))]


def rows() -> list[tuple[Any, ...]]:
    return list(AccessLog.objects.order_by("id").values_list("actor", "action", "patient_ids", "basis", "outcome"))


def test_every_kind_of_read_adds_one_row(as_alice: LoggedInClient, alice: User) -> None:
    patient, other = make_patient(alice), make_patient(alice)
    mapping = make_mapping(patient, make_doctor(alice))
    one, both = [patient.pk], [patient.pk, other.pk]
    calls = [
        ("/api/patients/", "patient.list", both),
        ("/api/patients/?limit=1", "patient.list", [other.pk]),
        (f"/api/patients/{patient.pk}/", "patient.retrieve", one),
        (f"/api/patients/{patient.pk}/history/", "patient.history", one),
        (f"/api/patients/{patient.pk}/access-log/", "patient.access_log", one),
        (f"/api/patients/{patient.pk}/doctors/", "mapping.doctors", one),
        (f"/api/mappings/{other.pk}/", "mapping.retrieve", [other.pk]),
        (f"/api/mappings/{mapping.pk}/history/", "mapping.history", one),
        ("/api/mappings/", "mapping.list", one),
        ("/api/patients/?as_of=2020-01-01T00:00:00Z", "patient.list", []),
    ]
    answers = [as_alice.get(url) for url, _, _ in calls]
    assert rows() == [(alice.pk, action, patients, "owner", 200) for _, action, patients in calls]
    logged = list(AccessLog.objects.order_by("id").values_list("request_id", flat=True))
    assert logged == [answer["X-Request-Id"] for answer in answers]


def test_a_change_that_returns_the_record_counts_as_a_read(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    assert as_alice.patch(f"/api/patients/{patient.pk}/", {}).json()["name"] == "John Smith"
    assert rows() == [(alice.pk, "patient.partial_update", [patient.pk], "owner", 200)]


def test_requests_without_patients_data_add_no_row(as_alice: LoggedInClient, anonymous: Any, alice: User) -> None:
    as_alice.get(f"/api/doctors/{make_doctor(alice).pk}/history/")
    as_alice.get("/api/patients/?limit=none")
    as_alice.post("/api/patients/", {"name": "Ana"})
    as_alice.options("/api/patients/")
    anonymous.get(f"/api/patients/{Patient.objects.get().pk}/")
    assert rows() == []


def test_a_refused_read_is_recorded_and_its_owner_sees_it(
    as_alice: LoggedInClient, as_bob: LoggedInClient, bob: User, alice: User
) -> None:
    patient = make_patient(alice)
    as_bob.get(f"/api/patients/{patient.pk}/")
    as_bob.patch(f"/api/patients/{patient.pk}/", {"name": "Bob's"})
    as_bob.get(f"/api/mappings/{patient.pk}/")
    as_bob.get(f"/api/patients/{2**70}/")
    assert rows() == [
        (bob.pk, "patient.retrieve", [patient.pk], "owner", 404),
        (bob.pk, "patient.partial_update", [patient.pk], "owner", 404),
        (bob.pk, "mapping.retrieve", [patient.pk], "owner", 404),
        (bob.pk, "patient.retrieve", [], "owner", 404),
    ]
    seen = as_alice.get(f"/api/patients/{patient.pk}/access-log/").json()
    assert [(row["actor"], row["action"], row["outcome"]) for row in seen] == [
        (bob.pk, "mapping.retrieve", 404),
        (bob.pk, "patient.partial_update", 404),
        (bob.pk, "patient.retrieve", 404),
    ]


def test_the_access_log_is_paged_and_lists_its_own_reads(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    read = as_alice.get(f"/api/patients/{patient.pk}/")
    log = f"/api/patients/{patient.pk}/access-log/"
    assert as_alice.get(log).json() == [
        {
            "at": as_alice.get(log).json()[-1]["at"],
            "actor": alice.pk,
            "actor_name": "Alice",
            "action": "patient.retrieve",
            "basis": "owner",
            "request_id": read["X-Request-Id"],
            "outcome": 200,
        }
    ]
    page = as_alice.get(f"{log}?limit=2&count=true")
    assert [row["action"] for row in page.json()] == ["patient.access_log"] * 2
    assert page["X-Total-Count"] == "3"
    older = page["Link"].split(">")[0][1:]
    assert [row["action"] for row in as_alice.get(older).json()] == ["patient.retrieve"]


@pytest.mark.urls("audit.tests.test_access_log")
def test_reads_in_the_admin_are_recorded_and_listed_for_the_owner(
    as_alice: LoggedInClient, alice: User, bob: User, staff: User
) -> None:
    hers, his = make_patient(alice), make_patient(bob)
    mapping = make_mapping(hers, make_doctor(alice))
    admin = Client()
    admin.force_login(staff)
    suggest = "/admin/autocomplete/?app_label=mappings&model_name=mapping&field_name=patient&term=John"
    calls = [
        ("/admin/patients/patient/", "admin.patient.changelist", [hers.pk, his.pk]),
        (f"/admin/patients/patient/{hers.pk}/change/", "admin.patient.change", [hers.pk]),
        (f"/admin/patients/patient/{hers.pk}/history/", "admin.patient.history", [hers.pk]),
        (f"/admin/mappings/mapping/{mapping.pk}/change/", "admin.mapping.change", [hers.pk]),
        ("/admin/mappings/mapping/", "admin.mapping.changelist", [hers.pk]),
        (suggest, "admin.patient.suggest", [hers.pk, his.pk]),
    ]
    assert [admin.get(url).status_code for url, _, _ in calls] == [200] * len(calls)
    reads = [(action, patients) for _, action, patients in calls]
    # The list of mappings offers its patients as choices of a filter, too.
    reads.insert(4, ("admin.mapping.choose", [hers.pk]))
    assert rows() == [(staff.pk, action, patients, "staff", 200) for action, patients in reads]
    seen = as_alice.get(f"/api/patients/{hers.pk}/access-log/").json()
    assert {(row["actor"], row["basis"]) for row in seen} == {(staff.pk, "staff")}
    assert len(seen) == len(reads)


@pytest.mark.urls("audit.tests.test_access_log")
def test_a_change_in_the_admin_names_the_member_of_staff(alice: User, staff: User) -> None:
    patient, admin = make_patient(alice), Client()
    admin.force_login(staff)
    body = {"name": "Jon", "gender": "M"}
    answer = admin.post(f"/admin/patients/patient/{patient.pk}/change/", body)
    assert answer.status_code == 302
    event = PatientEvent.objects.get(pgh_label="update")
    assert event.pgh_context == {"actor": staff.pk, "request_id": answer["X-Request-Id"]}


def test_an_admin_page_that_records_no_reads_fails_the_check() -> None:
    assert admin_pages_record_reads() == []
    forgetful = AdminSite()  # known to all_sites until the end of the test
    forgetful.register(Patient, ModelAdmin)
    assert [error.id for error in admin_pages_record_reads()] == ["audit.E001"]
    forgetful.unregister(Patient)
    forgetful.register(MappingEvent, ModelAdmin)  # refers to patients, and holds the history of a model that does
    assert [error.id for error in admin_pages_record_reads()] == ["audit.E001"]
    forgetful.unregister(MappingEvent)


FORGED = "INSERT INTO audit_accesslog (at, actor, action, patient_ids, basis, request_id, outcome) VALUES "


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM audit_accesslog",
        "UPDATE audit_accesslog SET actor = 0",
        "DELETE FROM audit_accesslog",
        "TRUNCATE audit_accesslog",
        "SELECT * FROM audit_seal",
        'INSERT INTO audit_forgotten ("table", "row") VALUES (\'audit_accesslog\', 1)',
        FORGED + "(now(), %(alice)s, 'x', '{}', 'owner', '', 200)",
        FORGED + "(now(), %(bob)s, 'x', '{}', 'staff', '', 200)",
    ],
)
def test_callers_can_neither_read_nor_write_the_table(bob: User, alice: User, statement: str) -> None:
    refused = pytest.raises(DatabaseError, match="permission denied|row-level security")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        enter(bob.pk)
        cursor.execute(statement, {"alice": alice.pk, "bob": bob.pk})


def test_a_caller_sees_only_accesses_to_own_patients(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    make_patient(alice)
    as_alice.get("/api/patients/")
    for user_id, seen in ((alice.pk, 1), (bob.pk, 0), (None, 0)):
        with transaction.atomic():
            enter(user_id)
            assert PatientAccess.objects.count() == seen
            transaction.set_rollback(True)


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_requests_for_an_id_that_did_not_exist_yet_are_not_accesses_to_the_patient_who_gets_it(
    settings: Any, as_alice: LoggedInClient, as_bob: LoggedInClient, fast_path: str
) -> None:
    settings.FAST_PATH = fast_path
    next_id = as_alice.post("/api/patients/", {"name": "Before"}).json()["id"] + 1
    paths = [f"/api/patients/{next_id}/", f"/api/patients/{next_id}/history/", f"/api/mappings/{next_id}/"]

    def request_all() -> None:
        for client in (as_bob, as_alice):
            assert {*[client.get(path).status_code for path in paths]} <= {200, 404}
            client.patch(paths[0], {"address": "A"})

    request_all()
    assert AccessLog.objects.filter(patient_ids=[next_id]).count() == 8
    assert as_alice.post("/api/patients/", {"name": "Canary"}).json()["id"] == next_id
    assert as_alice.get(f"{paths[0]}access-log/").json() == []
    request_all()
    listed = as_alice.get(f"{paths[0]}access-log/").json()
    assert [(row["action"], row["outcome"]) for row in listed] == [
        ("patient.partial_update", 200), ("mapping.retrieve", 200), ("patient.history", 200), ("patient.retrieve", 200),
        ("patient.partial_update", 404), ("mapping.retrieve", 404), ("patient.history", 404), ("patient.retrieve", 404),
        ("patient.access_log", 200),
    ]  # fmt: skip


def test_a_patient_without_history_keeps_its_access_log(as_alice: LoggedInClient, as_bob: LoggedInClient) -> None:
    """Imported with the triggers disabled, for example."""
    key = as_alice.post("/api/patients/", {"name": "Imported"}).json()["id"]
    as_bob.get(f"/api/patients/{key}/")
    with pgtrigger.ignore("patients.PatientEvent:append_only"):
        PatientEvent.objects.all().delete()
    assert [row["outcome"] for row in as_alice.get(f"/api/patients/{key}/access-log/").json()] == [404]


def test_only_a_pure_read_commits_asynchronously(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)

    def commits() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            setting: str = cursor.fetchone()[0]
            cursor.execute("SET LOCAL synchronous_commit TO on")
        return setting

    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "Jon"})
    assert commits() == "on"
    as_alice.get(f"/api/patients/{patient.pk}/")
    assert commits() == "off"


def test_a_read_that_cannot_be_recorded_is_not_answered(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice)
    with connection.cursor() as cursor:
        cursor.execute("REVOKE INSERT ON audit_accesslog FROM healthcare_api")
    as_alice.raise_request_exception = False
    answer = as_alice.get(f"/api/patients/{patient.pk}/")
    assert answer.status_code == 500
    assert "John" not in answer.content.decode()


def test_the_access_log_of_a_patient_is_read_from_its_index(alice: User) -> None:
    patients = Patient.objects.bulk_create(Patient(created_by=alice, name="X") for _ in range(200))
    with connection.cursor() as cursor:
        cursor.execute(
            FORGED.replace("VALUES ", "SELECT now(), 1, 'x', ARRAY[%s + n %% 200]::bigint[], 'owner', '', 200 ")
            + "FROM generate_series(1, 20000) n",
            [patients[0].pk],
        )
    rewrite_and_analyze("audit_accesslog")
    with transaction.atomic():
        enter(alice.pk)
        plan = PatientAccess.objects.filter(patient_id=patients[5].pk).order_by("-pk")[:101].explain()
        transaction.set_rollback(True)
    assert "access_to_patient" in plan, plan
    assert "Seq Scan on audit_accesslog" not in plan, plan


def test_a_refused_read_is_committed_though_its_request_is_rolled_back(live: LiveServer) -> None:
    (_, hers), (bob, his) = live.register(), live.register()
    patient = live.call("POST", "/api/patients/", {"name": "Ana"}, hers["access"]).json["id"]
    refused = live.call("GET", f"/api/patients/{patient}/", token=his["access"])
    assert refused.status == 404
    (row,) = live.call("GET", f"/api/patients/{patient}/access-log/", token=hers["access"]).json
    assert (row["actor"], row["outcome"], row["request_id"]) == (bob["id"], 404, refused.headers["X-Request-Id"])
