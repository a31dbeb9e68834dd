"""Merging two patients in the admin, side by side, and undoing it. Staff merge alice's patients; bob owns others."""

import datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import LOGGED_IN, AdminClient, Page, allow, main, named_queries
from mappings.tests.factories import make_mapping
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient

LIST = "/admin/patients/patient/"


@pytest.fixture
def admin(make_user: Any) -> AdminClient:
    return AdminClient(allow(make_user("clerk", is_staff=True), "view_patient", "merge_patient"))


@pytest.fixture
def survivor(alice: User) -> Patient:
    return make_patient(alice, name="Ana Rao", phone="111", gender="F", address="Mysuru")


@pytest.fixture
def duplicate(alice: User) -> Patient:
    return make_patient(alice, name="Anna Rao", phone="222", email="anna@example.org")


def preview(admin: AdminClient, *patients: Patient) -> Any:
    return admin.act(LIST, "merge", patients)


def now(patient: Patient) -> Patient:
    return Patient.objects.get(pk=patient.pk)


def test_the_page_shows_both_side_by_side_with_the_choices_of_the_api(
    admin: AdminClient, survivor: Patient, duplicate: Patient, alice: User
):
    make_mapping(duplicate, make_doctor(alice))
    answer = preview(admin, duplicate, survivor)
    page = answer.content.decode()
    fields = Page(main(page)).fields
    assert {name: value for name, value in fields.items() if name.startswith("take_")} == {
        "take_name": "survivor",
        "take_gender": "survivor",
        "take_phone": "survivor",
        "take_email": "duplicate",
        "take_address": "survivor",
    }
    assert fields["survivor"] == str(survivor.pk)  # more is known of her
    assert f"Assignments that move to patient {survivor.pk}: 1." in page
    assert "To undo it, choose Undo merge on the page of either patient." in page
    assert Page(page).blocked == []
    access = AccessLog.objects.latest("id")
    assert (access.action, access.patient_ids) == ("admin.patient.merge_preview", [survivor.pk, duplicate.pk])
    assert now(duplicate).deleted_at is None


def test_a_merge_takes_the_chosen_values_and_undoing_it_brings_both_back(
    admin: AdminClient, survivor: Patient, duplicate: Patient
):
    before = [Patient.objects.values("name", "phone", "email", "address", "deleted_at").get(pk=one.pk)
              for one in (survivor, duplicate)]  # fmt: skip
    answer = admin.confirm(preview(admin, survivor, duplicate), take_name="duplicate", take_email="survivor")
    assert (answer.status_code, answer["Location"]) == (302, f"{LIST}{survivor.pk}/change/")
    merged = now(survivor)
    assert (merged.name, merged.phone, merged.email) == ("Anna Rao", "111", "")
    assert now(duplicate).merged_into_id == survivor.pk
    page = admin.page(answer["Location"])
    assert f"Patient {duplicate.pk} was merged into patient {survivor.pk}." in page
    undo = f"{LIST}unmerge/?id={duplicate.pk}"
    assert page.count(f'href="{undo}"') == 2  # in the message and as a button
    assert f'href="{undo}"' in admin.page(f"{LIST}{duplicate.pk}/change/")
    confirmation = admin.get(undo)
    assert f"Patient {survivor.pk} gets back what it had before: Name." in confirmation.content.decode()
    assert admin.confirm(confirmation).status_code == 302
    after = [Patient.objects.values("name", "phone", "email", "address", "deleted_at").get(pk=one.pk)
             for one in (survivor, duplicate)]  # fmt: skip
    assert after == before
    assert PatientEvent.objects.filter(pgh_context__actor=User.objects.get(username="clerk").pk).count() == 4
    assert LogEntry.objects.count() == 4
    assert not any("Rao" in entry.object_repr + entry.change_message for entry in LogEntry.objects.all())


def test_the_other_record_can_stay_instead(admin: AdminClient, survivor: Patient, duplicate: Patient):
    swapped = f"{LIST}merge/?id={survivor.pk}&id={duplicate.pk}&survivor={duplicate.pk}"
    assert swapped.replace("&", "&amp;") in preview(admin, survivor, duplicate).content.decode()
    assert admin.confirm(admin.get(swapped)).status_code == 302
    assert now(survivor).merged_into_id == duplicate.pk


def test_both_records_are_locked_before_a_merge_is_undone(admin: AdminClient, survivor: Patient, duplicate: Patient):
    """So nobody merges, deletes or changes the survivor between the check and the undoing."""
    merge(survivor, duplicate)
    page = admin.get(f"{LIST}unmerge/?id={duplicate.pk}")
    with CaptureQueriesContext(connection) as queries:
        assert admin.confirm(page).status_code == 302
    statements = [query["sql"] for query in queries.captured_queries if '"patients_patient"' in query["sql"]]
    lock = next(sql for sql in statements if "FOR NO KEY UPDATE" in sql)
    assert f'"id" IN ({duplicate.pk}, {survivor.pk})' in lock
    assert not any(sql.startswith("UPDATE") for sql in statements[: statements.index(lock)])


def test_confirming_twice_merges_once(admin: AdminClient, survivor: Patient, duplicate: Patient):
    page = preview(admin, survivor, duplicate)
    for text in ("was merged", "was already merged"):
        answer = admin.confirm(page)
        assert answer.status_code == 302
        assert f"Patient {duplicate.pk} {text} into patient {survivor.pk}." in admin.page(answer["Location"])
    assert PatientMerge.objects.count() == 1


def test_a_record_that_was_changed_after_the_page_was_shown_is_shown_again(
    admin: AdminClient, survivor: Patient, duplicate: Patient
):
    page = preview(admin, survivor, duplicate)
    Patient.objects.filter(pk=duplicate.pk).update(phone="333")
    again = admin.confirm(page, take_phone="duplicate")
    assert now(duplicate).merged_into_id is None
    text = again.content.decode()
    assert "333" in text
    assert "Nothing was changed, because the records were changed after the page was shown." in text
    assert admin.confirm(again, take_phone="duplicate").status_code == 302
    assert now(survivor).phone == "333"


DAY = datetime.date


@pytest.mark.parametrize(
    ("survivors", "duplicates", "taken", "field"),
    [
        ({"birth_date": DAY(1990, 7, 1)}, {"birth_year": 1985}, ["birth_year"], "birth_year"),
        ({"birth_year": 1985}, {"birth_date": DAY(1990, 7, 1)}, ["birth_date"], "birth_year"),
        (
            {"birth_year": 1990},
            {"birth_year": 1950, "deceased": True, "deceased_on": DAY(1980, 1, 1)},
            ["deceased", "deceased_on"],
            "deceased_on",
        ),
        ({"deceased": False}, {"deceased": True, "deceased_on": DAY(1980, 1, 1)}, ["deceased_on"], "deceased"),
        ({}, {"deceased": True, "deceased_on": DAY(1980, 1, 1)}, ["deceased_on"], "deceased"),
    ],
)
def test_choices_that_contradict_each_other_are_refused_beside_the_field(
    admin: AdminClient, alice: User, survivors: Any, duplicates: Any, taken: list[str], field: str
):
    one, other = make_patient(alice, **survivors), make_patient(alice, **duplicates)
    page = admin.get(f"{LIST}merge/?id={one.pk}&id={other.pk}&survivor={one.pk}")
    kept = {f"take_{name}": "survivor" for name in ("birth_date", "birth_year", "deceased", "deceased_on")}
    choices = kept | {f"take_{name}": "duplicate" for name in taken}
    refused = admin.confirm(page, **choices)
    assert refused.status_code == 200
    assert f'id="error-{field}"' in refused.content.decode()
    assert now(other).merged_into_id is None
    shown = Page(main(refused.content.decode())).fields
    assert {name: shown[name] for name in shown if name in choices} == {n: v for n, v in choices.items() if n in shown}


def test_patients_that_cannot_be_merged_are_refused_with_the_reason(
    admin: AdminClient, survivor: Patient, duplicate: Patient, alice: User, bob: User
):
    page = preview(admin, survivor, duplicate)
    deleted, held = make_patient(alice, deleted_at=timezone.now()), make_patient(alice)
    set_hold(held.pk, reason="case 7")
    for other, reason in (
        (make_patient(bob), "belong to different owners"),
        (deleted, f"Patient {deleted.pk} is deleted."),
        (held, f"Under a legal hold: patient {held.pk}."),
    ):
        for fields in ({}, {"post": "yes", "survivor": survivor.pk}):
            answer = admin.act(LIST, "merge", [survivor, other], **fields)
            assert reason in answer.content.decode(), reason
            assert 'name="post"' not in answer.content.decode()
    set_hold(duplicate.pk, reason="case 8")
    assert f"Under a legal hold: patient {duplicate.pk}." in admin.confirm(page).content.decode()
    assert not PatientMerge.objects.exists()


def test_exactly_two_patients_are_merged(admin: AdminClient, survivor: Patient, duplicate: Patient, alice: User):
    for patients in ([survivor], [survivor, duplicate, make_patient(alice)]):
        answer = admin.act(LIST, "merge", patients)
        assert answer.status_code == 302
        assert "Select exactly two patients to merge." in admin.page(answer["Location"])


def test_without_the_permission_nothing_is_merged_or_undone(
    make_user: Any, admin: AdminClient, survivor: Patient, duplicate: Patient
):
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_patient", "change_patient"))
    assert 'value="merge"' not in viewer.page(LIST)
    assert viewer.act(LIST, "merge", [survivor, duplicate], post="yes").status_code == 403
    path = f"{LIST}merge/?id={survivor.pk}&id={duplicate.pk}"
    assert (viewer.get(path).status_code, viewer.post(path, {"post": "yes"}).status_code) == (403, 403)
    admin.confirm(preview(admin, survivor, duplicate))
    assert viewer.get(f"{LIST}unmerge/?id={duplicate.pk}").status_code == 403
    assert viewer.get(f"{LIST}{survivor.pk}/duplicates/").status_code == 403
    assert "unmerge" not in viewer.page(f"{LIST}{survivor.pk}/change/")


def test_the_likely_duplicates_of_a_patient_lead_to_the_page(admin: AdminClient, alice: User):
    patient, likely = (make_patient(alice, name="Ana Rao", birth_year=1990) for _ in range(2))
    make_patient(alice, name="Somebody Else")
    path = f"{LIST}{patient.pk}/duplicates/"
    assert f'href="{path}"' in admin.page(f"{LIST}{patient.pk}/change/")
    page = admin.page(path)
    assert f'href="{LIST}merge/?id={patient.pk}&amp;id={likely.pk}"' in page
    assert "Somebody" not in page
    assert AccessLog.objects.latest("id").patient_ids == [patient.pk, likely.pk]


def test_what_cannot_be_undone_says_why(admin: AdminClient, survivor: Patient, duplicate: Patient, alice: User):
    third = make_patient(alice)
    admin.confirm(preview(admin, survivor, duplicate))
    confirmation = admin.get(f"{LIST}unmerge/?id={duplicate.pk}")
    admin.confirm(admin.get(f"{LIST}merge/?id={survivor.pk}&id={third.pk}&survivor={third.pk}"))
    reason = f"is merged into patient {survivor.pk}, which was merged into {third.pk}; undo that first."
    assert reason in admin.get(f"{LIST}unmerge/?id={duplicate.pk}").content.decode()
    answer = admin.confirm(confirmation)
    assert reason in admin.page(answer["Location"])
    assert "is not merged into another patient." in admin.get(f"{LIST}unmerge/?id={third.pk}").content.decode()


def test_the_page_takes_the_same_queries_however_many_assignments_move(
    admin: AdminClient, survivor: Patient, duplicate: Patient, alice: User
):
    counts = []
    for _ in range(2):
        make_mapping(duplicate, make_doctor(alice))
        with named_queries() as queries:
            admin.page(f"{LIST}merge/?id={survivor.pk}&id={duplicate.pk}")
        counts.append(queries)
    assert counts[0] == counts[1]
    assert [name for name in counts[0] if "permission" not in name] == [
        *LOGGED_IN, "select patients_patient", "select audit_legalhold", "select mappings_mapping",
    ]  # fmt: skip
