"""Actions of the admin's lists: a preview first, then what it says, once, with a way back."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient, Page, PostForm, allow, main
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

PATIENTS, MAPPINGS = "/admin/patients/patient/", "/admin/mappings/mapping/"


@pytest.fixture
def records(make_user: Any) -> AdminClient:
    rights = [f"{verb}_{model}" for verb in ("view", "delete", "restore") for model in ("patient", "mapping")]
    return AdminClient(allow(make_user("clerk", is_staff=True), *rights, "end_mapping"))


@pytest.fixture
def front_desk(make_user: Any) -> AdminClient:
    return AdminClient(allow(make_user("porter", is_staff=True), "view_mapping", "end_mapping"))


def deleted_patient(owner: User, **fields: Any) -> Patient:
    return make_patient(owner, deleted_at=timezone.now(), **fields)


def message(client: AdminClient, answer: Any) -> str:
    """The message on the page that the answer leads to."""
    assert answer.status_code == 302
    return client.page(answer["Location"]).partition('class="messagelist"')[2].partition("</ul>")[0]


def test_a_preview_shows_what_will_happen_and_nothing_happens(records: AdminClient, alice: User):
    gone, active = deleted_patient(alice, name="Ann"), make_patient(alice, name="Ben")
    for preview in (
        records.act(f"{PATIENTS}?state=all", "restore", [gone, active]),
        records.get(f"{PATIENTS}restore/?id={gone.pk}&id={active.pk}"),
    ):
        page = preview.content.decode()
        assert "<h1>Restore 1 patient</h1>" in page
        assert "Ben is already active." in main(page)
        assert "To undo it, choose Delete." in main(page)
        assert Page(page).blocked == []
        access = AccessLog.objects.latest("id")
        assert (access.action, access.patient_ids) == ("admin.patient.restore_preview", [gone.pk, active.pk])
    assert Patient.objects.active().get() == active
    assert not LogEntry.objects.exists()


def test_the_form_of_the_preview_does_it_and_says_so(records: AdminClient, alice: User):
    gone, active = [deleted_patient(alice) for _ in range(2)], make_patient(alice)
    answer = records.confirm(records.act(f"{PATIENTS}?state=all", "restore", [*gone, active]))
    assert answer["Location"] == f"{PATIENTS}?state=all"
    said = message(records, answer)
    assert f"2 patients restored. Not restored: patient {active.pk} is already active." in said
    undo = f"{PATIENTS}delete_selected/?id={gone[0].pk}&amp;id={gone[1].pk}"
    assert f'<a href="{undo}">Undo</a>' in said
    assert Patient.objects.active().count() == 3
    user = User.objects.get(username="clerk")
    events = PatientEvent.objects.filter(pgh_label="update")
    assert {(event.id, event.pgh_context["actor"]) for event in events} == {(one.pk, user.pk) for one in gone}
    assert {entry.object_repr for entry in LogEntry.objects.all()} == {f"patient {one.pk}" for one in gone}
    assert records.confirm(records.get(undo.replace("&amp;", "&"))).status_code == 302
    assert Patient.objects.active().get() == active


def test_confirming_again_does_nothing_more(records: AdminClient, alice: User):
    patient = deleted_patient(alice)
    preview = records.act(PATIENTS, "restore", [patient])
    records.confirm(preview)
    said = message(records, records.confirm(preview))
    assert f"Nothing was restored. Not restored: patient {patient.pk} " in said
    Patient.objects.filter(pk=patient.pk).end()  # by somebody else, who does not expect the old page
    said = message(records, records.confirm(preview))
    assert "was changed after the page was shown; select it again." in said
    assert not Patient.objects.active().exists()
    assert (LogEntry.objects.count(), PatientEvent.objects.filter(pgh_label="update").count()) == (1, 2)


def test_a_deletion_is_of_all_or_of_none(records: AdminClient, alice: User):
    patients = [make_patient(alice) for _ in range(2)]
    preview = records.act(PATIENTS, "delete_selected", patients)
    Patient.objects.filter(pk=patients[0].pk).update(phone="1")
    again = records.confirm(preview)
    assert "Nothing was changed, because the records were changed after the page was shown." in again.content.decode()
    assert Patient.objects.active().count() == 2
    assert records.confirm(again).status_code == 302
    assert not Patient.objects.active().exists()


def test_staff_without_the_permission_neither_see_nor_do_it(make_user: Any, alice: User):
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_patient", "change_patient"))
    blind = AdminClient(allow(make_user("blind", is_staff=True), "restore_patient"))
    gone = deleted_patient(alice)
    page = viewer.page(f"{PATIENTS}?state=deleted")
    assert 'value="restore"' not in page
    assert "restore/?id" not in viewer.page(f"{PATIENTS}{gone.pk}/change/")
    for client in (viewer, blind):
        assert client.get(f"{PATIENTS}restore/?id={gone.pk}").status_code == 403
        assert client.post(f"{PATIENTS}restore/", {"_selected_action": gone.pk, "post": "yes"}).status_code == 403
        for fields in ({}, {"post": "yes"}):
            assert client.act(PATIENTS, "restore", [gone], **fields).status_code == 403
    assert not Patient.objects.active().exists()


def test_a_selection_is_bounded(records: AdminClient, alice: User):
    answer = records.get(f"{PATIENTS}restore/?{'&'.join(f'id={key}' for key in range(1, 102))}")
    assert "Select at most 100 patients at a time. Nothing was changed." in message(records, answer)
    assert "Select the patients to restore." in message(records, records.get(f"{PATIENTS}restore/"))
    assert "There is no such patient." in message(records, records.get(f"{PATIENTS}restore/?id=999999"))
    for key in ("x", "1e3", "-1", "9" * 30, "%00"):
        assert records.get(f"{PATIENTS}restore/?id={key}").status_code == 400


def test_the_page_of_a_record_offers_what_can_be_done_to_it(records: AdminClient, alice: User):
    gone, mapping = deleted_patient(alice), make_mapping(make_patient(alice), make_doctor(alice))
    assert f'href="{PATIENTS}restore/?id={gone.pk}">Restore patient<' in records.page(f"{PATIENTS}{gone.pk}/change/")
    page = records.page(f"{MAPPINGS}{mapping.pk}/change/")
    assert f'href="{MAPPINGS}end/?id={mapping.pk}">End assignment<' in page
    assert "restore/?id" not in page


def test_a_merged_patient_is_not_restored(records: AdminClient, alice: User):
    survivor = make_patient(alice)
    merged = deleted_patient(alice, merged_into=survivor)
    said = message(records, records.act(f"{PATIENTS}?state=all", "restore", [merged], post="yes"))
    assert f"patient {merged.pk} was merged into patient {survivor.pk}; undo the merge instead." in said
    assert "restore/?id" not in records.page(f"{PATIENTS}{merged.pk}/change/")


def test_front_desk_ends_an_assignment_and_is_told_who_can_undo_it(front_desk: AdminClient, alice: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    preview = front_desk.act(MAPPINGS, "end", [mapping])
    assert "To undo it, ask a member of Records." in preview.content.decode()
    said = message(front_desk, front_desk.confirm(preview))
    assert "1 assignment ended. To undo it, ask a member of Records." in said
    event = MappingEvent.objects.get(pgh_label="update")
    assert (event.ended_at is None, event.pgh_context["actor"]) == (False, User.objects.get(username="porter").pk)


def test_an_assignment_that_was_ended_is_restored(records: AdminClient, alice: User, as_alice: Any):
    mapping = make_mapping(make_patient(alice), make_doctor(alice), is_primary=True)
    before = as_alice.get("/api/mappings/").json()[0]
    said = message(records, records.confirm(records.act(MAPPINGS, "end", [mapping])))
    assert f'<a href="{MAPPINGS}restore/?id={mapping.pk}">Undo</a>' in said
    page = records.get(f"{MAPPINGS}restore/?id={mapping.pk}")
    with CaptureQueriesContext(connection) as queries:
        records.confirm(page)
    locks = [query["sql"] for query in queries.captured_queries if "FOR NO KEY UPDATE" in query["sql"]]
    assert [re.findall(r'FROM "(\w+)"', sql)[0] for sql in locks] == [
        "patients_patient", "doctors_doctor", "mappings_mapping",  # so nobody deletes one of the two meanwhile
    ]  # fmt: skip
    after = as_alice.get("/api/mappings/").json()[0]
    stamps = {"version", "updated_at"}
    assert {name: after[name] for name in after if name not in stamps} == {
        name: before[name] for name in before if name not in stamps
    }


def test_assignments_that_conflict_with_others_are_not_restored(records: AdminClient, alice: User):
    patient, doctor = make_patient(alice), make_doctor(alice)
    primary, free = (make_past_mapping(patient, make_doctor(alice), is_primary=True) for _ in range(2))
    same, same_again = (make_past_mapping(patient, doctor) for _ in range(2))
    of_deleted_doctor = make_past_mapping(patient, make_doctor(alice, deleted_at=timezone.now()))
    of_deleted_patient = make_past_mapping(deleted_patient(alice), doctor)
    rows = [primary, free, same, same_again, of_deleted_doctor, of_deleted_patient]
    preview = records.act(f"{MAPPINGS}?state=ended", "restore", rows)
    page = main(preview.content.decode())
    assert "To be restored" in page
    said = message(records, records.confirm(preview))
    assert "2 assignments restored." in said
    for mapping, reason in (
        (free, "is of a primary doctor, and the patient has another one by now; change that one first"),
        (same_again, "has the same doctor as another active assignment of the patient"),
        (of_deleted_doctor, "belongs to a deleted doctor; restore the doctor first"),
        (of_deleted_patient, "belongs to a deleted patient; restore the patient first"),
    ):
        assert f"assignment {mapping.pk} {reason}" in said
        assert f"{reason}." in page
    assert {*Mapping.objects.active()} == {primary, same}


def test_a_conflict_that_appears_at_the_last_moment_refuses_that_assignment_alone(
    records: AdminClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    """The constraint decides, as it does for a concurrent request that the check did not see."""
    patient, doctor = make_patient(alice), make_doctor(alice)
    past, other = make_past_mapping(patient, doctor), make_past_mapping(patient, make_doctor(alice))
    make_mapping(patient, doctor)
    monkeypatch.setattr("mappings.admin_actions.find_conflict", lambda *_: "")
    said = message(records, records.act(MAPPINGS, "restore", [past, other], post="yes"))
    assert "1 assignment restored." in said
    reason = "could not be restored: This doctor is already assigned to this patient."
    assert f"assignment {past.pk} {reason}" in said
    assert other in Mapping.objects.active()


@pytest.mark.parametrize("action", ["restore", "end"])
def test_the_queries_do_not_grow_with_the_selection(records: AdminClient, alice: User, action: str):
    counts: dict[str, set[int]] = {"preview": set(), "confirmation": set()}
    make = make_past_mapping if action == "restore" else make_mapping
    for number in (1, 4):
        rows = [make(make_patient(alice), make_doctor(alice)) for _ in range(number)]
        query = "&".join(f"id={row.pk}" for row in rows)
        with CaptureQueriesContext(connection) as queries:
            preview = records.get(f"{MAPPINGS}{action}/?{query}")
        counts["preview"].add(len(queries))
        sent = PostForm(main(preview.content.decode())).sent
        with CaptureQueriesContext(connection) as queries:
            assert records.post(f"{MAPPINGS}{action}/", sent).status_code == 302
        counts["confirmation"].add(len(queries))
        records.page(MAPPINGS)  # shows the message
    assert {name: len(found) for name, found in counts.items()} == {"preview": 1, "confirmation": 1}, counts


def test_the_list_that_the_page_returns_to_is_always_that_of_the_model(records: AdminClient, alice: User):
    patient = deleted_patient(alice)
    sent = {"_selected_action": [patient.pk], "post": "yes", "_changelist_filters": "x=//evil.example/"}
    location = records.post(f"{PATIENTS}restore/", sent)["Location"]
    assert location.startswith(f"{PATIENTS}?")
    assert QueryDict(location.partition("?")[2]).dict() == {"x": "//evil.example/"}
