"""Exports of the admin's lists: the file, what is recorded of it, and its limits."""

import csv
import datetime
import io
import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from doctors.tests.factories import make_doctor
from healthcare.admin import export
from healthcare.exports.csv_text import escape_formula
from healthcare.tests.admin_pages import AdminClient, Page, allow, main, named_queries
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

PATIENTS, DOCTORS, MAPPINGS = "/admin/patients/patient/", "/admin/doctors/doctor/", "/admin/mappings/mapping/"


@pytest.fixture
def admin(make_user: Any) -> AdminClient:
    models = ("patient", "doctor", "mapping")
    return AdminClient(
        allow(
            make_user("clerk", is_staff=True), *(f"{verb}_{model}" for model in models for verb in ("view", "export"))
        )
    )


def export_list(admin: AdminClient, path: str, query: str = "") -> Any:
    return admin.confirm(admin.get(f"{path}export/{query}"))


def rows_of(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.status_code
    text = b"".join(answer.streaming_content).decode("utf-8")
    assert text[0] == "\ufeff"
    return list(csv.DictReader(io.StringIO(text[1:], newline=""), strict=True))


def test_the_columns_are_the_fields_of_the_api(admin: AdminClient, alice: User, as_alice: Any):
    patient = make_patient(
        alice,
        name='Zoë "Zo", 李',
        birth_date=datetime.date(1990, 7, 1),
        deceased=False,
        medical_history="2019 asthma\n2024 fracture",
        identifiers=[{"system": "old", "value": "A-1"}],
    )
    [row] = rows_of(export_list(admin, PATIENTS))
    api = as_alice.get(f"/api/patients/{patient.pk}/").json()
    assert [*row] == [*api, "deleted_at", "merged_into"]
    assert json.loads(row["identifiers"]) == api["identifiers"]
    written = {"deceased": "false", "deceased_on": "", "deleted_at": "", "merged_into": ""}
    expected = {name: "" if value is None else str(value) for name, value in api.items() if not isinstance(value, list)}
    assert {name: row[name] for name in expected | written} == expected | written
    assert row["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("=1+1", "'=1+1"), ("+91 80 1234", "'+91 80 1234"), ("-2", "'-2"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"), ("\rx", "'\rx"), ("  =1", "'  =1"), ("\u3000=1", "'\u3000=1"), ("\u200b=1", "'\u200b=1"),
        ("＝1", "'＝1"), ("＋1", "'＋1"), ("－1", "'－1"), ("＠a", "'＠a"), ("﹦1", "'﹦1"),
        ("a;=1", "a;'=1"), ("a\n=1", "a\n'=1"), ("a; =1", "a;' =1"), ("\n\n=1", "'\n\n'=1"),
        ("a\t=1", "a\t'=1"), ("\t=1", "'\t'=1"), ('a;"=1"', "a;'\"=1\""), ('"=1', "'\"=1"), ('a;"" +1', "a;'\"\" +1"),
        ('"a"', '"a"'), ("a\tb;c", "a\tb;c"),
        ("Anne-Marie", "Anne-Marie"), ("a = b", "a = b"), ("1-2", "1-2"), ("", ""), ("  ", "  "), ("'=1", "''=1"),
    ],
)  # fmt: skip
def test_nothing_in_a_cell_is_a_formula(text: str, escaped: str):
    assert escape_formula(text) == escaped


def test_a_long_text_is_escaped_in_time_proportional_to_its_length():
    text = "\n" * 20_000 + "=" + " " * 20_000
    assert len(escape_formula(text)) == len(text) + 2  # at the beginning and before the equals sign


def test_formulas_are_escaped_in_every_column_and_inside_lists(admin: AdminClient, alice: User):
    contact = {"name": "=cmd|' /C calc'!A0", "relationship": "@x", "phone": "+91 80 5550 0100"}
    make_patient(alice, name="=HYPERLINK(1)", phone="+91 80 1234", contacts=[contact], address="-1")
    [row] = rows_of(export_list(admin, PATIENTS))
    assert (row["name"], row["phone"], row["address"]) == ("'=HYPERLINK(1)", "'+91 80 1234", "'-1")
    assert json.loads(row["contacts"]) == [{name: f"'{value}" for name, value in contact.items()}]


@pytest.mark.parametrize(
    ("query", "names"),
    [("", ["Ben", "Ann"]), ("?state=deleted", ["Gone"]), ("?state=all", ["Gone", "Ben", "Ann"]), ("?owner=bob", [])],
)
def test_the_list_is_exported_as_it_is_filtered(
    admin: AdminClient, alice: User, bob: User, query: str, names: list[str]
):
    for name in ("Ann", "Ben"):
        make_patient(alice, name=name)
    make_patient(alice, name="Gone", deleted_at=timezone.now())
    assert f'href="{PATIENTS}export/{query}"' in admin.page(f"{PATIENTS}{query}")
    page = admin.page(f"{PATIENTS}export/{query}")
    assert Page(page).blocked == []
    if not names:
        assert "The list has no rows to export." in page
        return
    assert [row["name"] for row in rows_of(export_list(admin, PATIENTS, query))] == names


def test_a_search_is_exported_with_its_hits_alone(admin: AdminClient, alice: User):
    for name in ("Ann Rao", "Ben Iyer"):
        make_patient(alice, name=name)
    assert [row["name"] for row in rows_of(export_list(admin, PATIENTS, "?q=rao"))] == ["Ann Rao"]


def test_selected_rows_are_exported_and_everything_is_recorded(admin: AdminClient, alice: User):
    chosen, other = [make_patient(alice, name=name) for name in ("Ann", "Ben")], make_patient(alice, name="Other")
    preview = admin.act(PATIENTS, "export", chosen)
    page = preview.content.decode()
    assert "It cannot be undone." in page
    assert "Other" not in main(page)
    before = AccessLog.objects.count()
    answer = admin.confirm(preview)
    assert [row["name"] for row in rows_of(answer)] == ["Ben", "Ann"]
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    day = timezone.localdate().isoformat()
    assert answer["Content-Disposition"] == f'attachment; filename="patients-{day}.csv"'
    access = AccessLog.objects.latest("id")
    assert (access.action, access.patient_ids) == ("admin.patient.export", [patient.pk for patient in chosen])
    assert AccessLog.objects.count() == before + 1
    assert other.pk not in access.patient_ids
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.change_message, entry.object_id) == ("clerk", "Exported 2 patients.", None)
    assert "2 patients exported. It cannot be undone." in admin.page(PATIENTS)
    assert "2 patients" in AdminClient(entry.user).page("/admin/")


def test_doctors_and_assignments_are_exported_too(admin: AdminClient, alice: User):
    doctor = make_doctor(alice, name="Dr. Rao")
    active, past = make_mapping(make_patient(alice), doctor), make_past_mapping(make_patient(alice), make_doctor(alice))
    assert doctor.name in {row["name"] for row in rows_of(export_list(admin, DOCTORS))}
    [row] = rows_of(export_list(admin, MAPPINGS))
    assert (row["patient"], row["doctor"], row["ended_at"]) == (str(active.patient_id), str(doctor.pk), "")
    assert AccessLog.objects.latest("id").patient_ids == [active.patient_id]
    assert [row["id"] for row in rows_of(export_list(admin, MAPPINGS, "?state=ended"))] == [str(past.pk)]


def test_more_rows_than_an_export_has_are_refused(admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "LARGEST_EXPORT", 2)
    for _ in range(3):
        make_patient(alice)
    page = admin.page(f"{PATIENTS}export/")
    assert "An export has at most 2 rows." in page
    assert 'name="post"' not in page
    assert "An export has at most 2 rows." in admin.post(f"{PATIENTS}export/", {"post": "yes"}).content.decode()
    assert not LogEntry.objects.exists()


def test_staff_who_may_not_export_get_no_file(make_user: Any, alice: User):
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_patient"))
    exporter = AdminClient(allow(make_user("exporter", is_staff=True), "export_patient"))  # and not view
    patient = make_patient(alice)
    for client in (viewer, exporter):
        for query in ("", f"?id={patient.pk}"):
            assert client.get(f"{PATIENTS}export/{query}").status_code == 403
            assert client.post(f"{PATIENTS}export/{query}", {"post": "yes"}).status_code == 403
        assert client.act(PATIENTS, "export", [patient], post="yes").status_code == 403
    assert "export" not in viewer.page(PATIENTS)


def test_a_filter_that_the_list_does_not_have_is_refused(admin: AdminClient):
    assert admin.get(f"{PATIENTS}export/?created_by__password__startswith=a").status_code == 400
    assert admin.get(f"{PATIENTS}export/?id=x").status_code == 400


def test_the_queries_grow_with_the_parts_that_are_in_memory_and_not_with_the_rows(
    admin: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export, "EXPORTED_AT_ONCE", 5)
    counts: list[int] = []
    for _ in range(2):
        for _ in range(5):
            make_mapping(make_patient(alice), make_doctor(alice))
        with named_queries() as queries:
            assert len(rows_of(admin.post(f"{MAPPINGS}export/", {"post": "yes"}))) == 5 * (len(counts) + 1)
        counts.append(queries.count("select mappings_mapping"))
    assert counts[1] == counts[0] + 1
    assert Patient.objects.count() == 10
