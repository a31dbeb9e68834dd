"""The history page of a record in the admin: who changed what and when, and who read a patient's data."""

import re
from collections.abc import Callable
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.urls import reverse

from accounts.models import User
from audit.history import event_model_of
from audit.models import AccessLog, Basis
from audit.tests.test_archive import grow_old
from conftest import PASSWORD, LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, allow, main, named_queries
from healthcare.tests.declarations import all_admin_models
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def history(record: Any) -> str:
    return reverse(f"admin:{record._meta.app_label}_{record._meta.model_name}_history", args=[record.pk])


def words(page: str) -> str:
    """The text of the main part of a page, with one blank between words."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main(page))).split())


def changes(page: str) -> list[str]:
    """The text of each change, the latest first."""
    listed = page.partition('<ol class="changes">')[2].partition("</ol>")[0]
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", one)).split()) for one in listed.split("<li>")[1:]]


def reads(page: str) -> list[str]:
    listed = page.partition('<h2 id="reads">')[2].partition("</section>")[0]
    entries = re.split(r"<li[^>]*>", listed)[1:]
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", one)).split()) for one in entries]


def test_the_history_tells_who_changed_what_when_and_why(
    admin: AdminClient, staff: User, alice: User, as_alice: LoggedInClient, settings: Any
):
    settings.TIME_ZONE = "Asia/Kolkata"
    patient = make_patient(alice, name="Ana", gender="F", contacts=[{"name": "Eva", "relationship": "", "phone": "1"}])
    answer = as_alice.patch(
        f"/api/patients/{patient.pk}/",
        {"name": "Anna", "gender": "other", "deceased": True, "birth_date": "1990-02-28"},
        headers={"X-Change-Reason": "typing error"},
    )
    admin.submit(f"/admin/patients/patient/{patient.pk}/change/", phone="555")
    latest, second, first = changes(admin.page(history(patient)))
    assert re.match(r"Version 3: changed \d+ \w+ \d{4}, \d\d:\d\d:\d\d IST, by staff ", latest)
    assert "Phone (empty) 555" in latest
    assert "Restore version" not in latest  # it is the record as it is
    assert "by alice Reason: typing error" in second
    for change in (
        "Name Ana Anna",
        "Gender female other",
        "Deceased Unknown Yes",
        "Date of birth (empty) 28 Feb 1990",
    ):
        assert change in second
    assert f"Request {answer['X-Request-Id']}" in second
    assert second.endswith("Restore version 2")
    assert "by the program " in first
    assert "(database login " in first
    assert "Contacts (empty) Eva, 1" in first


def test_another_record_is_named_by_its_id_alone(admin: AdminClient, alice: User):
    mapping = make_mapping(make_patient(alice, name="Quetzalina"), make_doctor(alice, name="Dr. Rao"))
    (change,) = changes(admin.page(history(mapping)))
    assert f"Patient (empty) patient {mapping.patient_id}" in change
    assert f"Doctor (empty) doctor {mapping.doctor_id}" in change


def test_of_a_long_text_only_the_lines_that_differ_are_shown(admin: AdminClient, alice: User):
    patient = make_patient(alice, medical_history="one\ntwo\nthree\nfour\nfive")
    Patient.objects.update(medical_history="one\ntwo\n3\nfour\nfive")
    change, _ = changes(admin.page(history(patient)))
    around = "… 2 unchanged lines {} … 2 unchanged lines"
    assert f"Medical history {around.format('three')} {around.format('3')}" in change


def test_actions_have_their_own_words(admin: AdminClient, alice: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    type(mapping).objects.end()
    Patient.objects.end()
    Patient.objects.restore()
    assert [re.sub(r" \d+ .*", "", one) for one in changes(admin.page(history(mapping)))] == [
        "Version 2: ended", "Version 1: added",
    ]  # fmt: skip
    assert [re.sub(r" \d+ .*", "", one) for one in changes(admin.page(history(mapping.patient)))] == [
        "Version 3: restored", "Version 2: deleted", "Version 1: added",
    ]  # fmt: skip


def test_a_user_who_is_gone_is_named_as_such(
    admin: AdminClient, alice: User, as_bob: LoggedInClient, bob: User, make_user: Callable[..., User]
):
    doctor = make_doctor(alice)
    eve = make_user("eve")
    for user in (bob, eve):
        LoggedInClient(user).patch(f"/api/doctors/{doctor.pk}/", {"hospital": user.username})
    call_command("erase_user", "eve", "--reason", "request 17", "--yes", stdout=StringIO())
    bobs_id = bob.pk
    bob.delete()
    by_eve, by_bob, _ = changes(admin.page(history(doctor)))
    assert f"by erased user {eve.pk} " in by_eve
    assert f"by bob (deleted user {bobs_id}) " in by_bob


def test_the_pages_of_a_long_history_are_read_by_key(admin: AdminClient, alice: User):
    patient = make_patient(alice, name="N0")
    for number in range(1, 60):
        Patient.objects.update(name=f"N{number}")
    found, path, queries = [], history(patient), []
    while path:
        with named_queries() as names:
            page = admin.page(path)
        queries.append(names)
        found += [re.search(r"Name (\S+) (\S+)", one) for one in changes(page)]
        older = re.search(r'href="(\?before=\d+)">Older changes', page)
        path = f"{history(patient)}{older[1]}" if older else ""
    assert [match and match.groups() for match in found] == [
        *((f"N{number - 1}", f"N{number}") for number in range(59, 0, -1)),
        ("(empty)", "N0"),
    ]
    events = ["select patients_patientevent"] * 2  # the page, and since when there is the patient
    one_page = [*LOGGED_IN, "select patients_patient", *events, "select audit_accesslog", "select django_admin_log"]
    assert queries == [one_page, *[[*one_page, "select accounts_user"]] * 2]  # staff has read the first one


def test_the_query_count_does_not_grow_with_changes_and_reads(
    admin: AdminClient, alice: User, as_alice: LoggedInClient
):
    patient = make_patient(alice)
    counts: list[int] = []
    for _ in range(3):
        for number in range(12):
            as_alice.patch(f"/api/patients/{patient.pk}/", {"phone": str(len(counts) * 12 + number)})
        with named_queries() as names:
            page = admin.page(history(patient))
        counts.append(len(names))
        assert len(reads(page)) <= 50
    assert len(changes(page)) == 25
    assert len(set(counts[1:])) == 1


def test_a_history_without_its_beginning_says_so(
    admin: AdminClient, alice: User, as_alice: LoggedInClient, tmp_path: Path, settings: Any
):
    settings.AUDIT_SEAL_KEY = "k" * 32
    patient = make_patient(alice, name="Ana")
    Patient.objects.update(name="Anna")
    grow_old()
    call_command("seal_audit", stdout=StringIO(), stderr=StringIO())
    call_command("archive", str(tmp_path / "a"), "--before", "2026-03", stdout=StringIO(), stderr=StringIO())
    Patient.objects.update(name="Hanna")
    page = admin.page(history(patient))
    latest, oldest = changes(page)
    assert "Name Anna Hanna" in latest
    assert oldest.startswith("Version 2: the state that archived changes left")
    assert "Changes before 1 Mar 2026, 00:00:00 UTC are in an archive." in words(page)


def test_every_tracked_model_of_the_admin_has_this_page(admin: AdminClient, alice: User):
    tracked = []
    for model in all_admin_models():
        record = model.create(alice)
        page = admin.page(history(record))
        if event_model_of(type(record)) is not None:
            tracked.append(model.label)
            assert changes(page), model
    assert {"accounts.User", "doctors.Doctor", "mappings.Mapping", "patients.Patient"} <= {*tracked}
    assert "audit.LegalHold" in tracked
    offered = {page.model._meta.label for page in django_admin.site._registry.values() if page.restores_versions}  # type: ignore[attr-defined]
    assert offered == {"patients.Patient", "doctors.Doctor", "mappings.Mapping"}


def test_the_history_of_a_user_holds_no_password_and_tells_of_groups(admin: AdminClient, alice: User):
    group = Group.objects.create(name="nurses")
    change = f"/admin/accounts/user/{alice.pk}/change/"
    admin.submit(change, groups=[group.pk], name="Alice Liddell")
    sent = {"password1": "Another-Pass-9", "password2": "Another-Pass-9", "usable_password": "true"}
    assert admin.post(f"/admin/accounts/user/{alice.pk}/password/", sent).status_code == 302
    page = admin.page(history(alice))
    alice.refresh_from_db()
    assert alice.check_password("Another-Pass-9")
    assert alice.password not in page
    assert PASSWORD not in page
    assert "Alice Liddell" in changes(page)[0]
    _, _, others = words(page).partition("Other actions in the admin")
    assert "staff : Changed password." in others
    assert "Groups" in others
    assert "Restore" not in words(page)


def test_beside_the_history_stands_who_read_the_patient(
    admin: AdminClient, staff: User, alice: User, as_alice: LoggedInClient, as_bob: LoggedInClient
):
    patient, other = make_patient(alice), make_patient(alice)
    path = f"/api/patients/{patient.pk}/"
    as_alice.get(path)
    as_alice.get(path.replace(str(patient.pk), str(other.pk)))
    as_bob.get(path)
    admin.page("/admin/patients/patient/")
    admin.page(f"/admin/patients/patient/{patient.pk}/change/")
    admin.page(history(patient))
    found = [re.sub(r"^.{15,40}? UTC ", "", one) for one in reads(admin.page(history(patient)))]
    assert found == [
        "staff : history read in the admin as staff, shown",
        "staff : opened in the admin as staff, shown",
        "staff : listed in the admin as staff, shown",
        "bob : read through the API as owner, refused (404)",
        "alice : read through the API as owner, shown",
    ]


def test_a_request_before_there_was_the_patient_is_no_read_of_the_patient(
    admin: AdminClient, alice: User, as_bob: LoggedInClient
):
    patient = make_patient(alice)
    as_bob.get(f"/api/patients/{patient.pk + 1}/")
    assert [reads(admin.page(history(make_patient(alice)))), AccessLog.objects.filter(outcome=404).count()] == [
        ["Nobody has read this patient’s data."],
        1,
    ]


def test_many_reads_are_paged_by_key(admin: AdminClient, staff: User, alice: User):
    patient = make_patient(alice)
    for number in range(70):
        AccessLog.objects.record(
            alice.pk, f"patient.n{number}", [patient.pk], basis=Basis.OWNER, request_id="", outcome=200, pure_read=True
        )
    page = admin.page(history(patient))
    older = re.search(r'href="(\?reads_before=\d+)">Older reads', page)
    assert older
    found = reads(page) + reads(admin.page(f"{history(patient)}{older[1]}"))
    numbers = [int(match[1]) for one in found if (match := re.search(r": read \(n(\d+)\) through the API", one))]
    assert numbers == [*range(69, -1, -1)]


@pytest.mark.parametrize("query", ["before=x", "before=-1", "reads_before=%00", "before=99999999999999999999"])
def test_a_position_that_is_no_id_is_refused(admin: AdminClient, alice: User, query: str):
    assert admin.get(f"{history(make_patient(alice))}?{query}").status_code == 400


def test_an_assignment_links_to_the_reads_of_its_patient_for_users_who_may_view_the_patient(
    make_user: Callable[..., User], alice: User
):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    clerk = allow(make_user("clerk", is_staff=True), "view_mapping")
    assert "Who read this" not in AdminClient(clerk).page(history(mapping))
    page = AdminClient(allow(clerk, "view_patient")).page(history(mapping))
    assert f'<a href="{history(mapping.patient)}">Who read this patient’s data</a>' in page


def test_the_history_is_read_by_who_may_view_the_record(make_user: Callable[..., User], alice: User):
    patient = make_patient(alice)
    auditor = AdminClient(allow(make_user("auditor", is_staff=True), "view_patient"))
    assert auditor.get(history(patient)).status_code == 200
    other = AdminClient(allow(make_user("other", is_staff=True), "view_doctor"))
    assert other.get(history(patient)).status_code == 403
    assert PatientEvent.objects.count() == 1
