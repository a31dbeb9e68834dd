"""Two members of staff, or one and the API, change one record at once: what collides is shown side by side, and nothing
is overwritten before the second one has chosen."""

import datetime
import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient, Page, allow, errors_of, main
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

CLASH = ["Somebody else has changed this meanwhile. Choose above which value to keep."]


@pytest.fixture
def first(make_user: Any) -> AdminClient:
    return AdminClient(make_user("first", is_staff=True, is_superuser=True))


@pytest.fixture
def second(make_user: Any) -> AdminClient:
    return AdminClient(make_user("second", is_staff=True, is_superuser=True))


def change(record: Any) -> str:
    options = record._meta
    return f"/admin/{options.app_label}/{options.model_name}/{record.pk}/change/"


def clashes(answer: Any) -> dict[str, tuple[str, str, str]]:
    """The rows of the table: by field what the user saw, what is stored now, and what the user sent."""
    assert answer.status_code == 200, answer.status_code
    return {clash.name: (clash.base, clash.now, clash.mine) for clash in answer.context.get("clashes", [])}


def fields(answer: Any) -> dict[str, Any]:
    return Page(answer.content.decode()).fields


def test_a_clash_is_shown_side_by_side_and_nothing_is_saved(first: AdminClient, second: AdminClient, alice: User):
    patient = make_patient(alice, phone="111", address="Bengaluru")
    path = change(patient)
    form = second.form(path)
    assert first.submit(path, phone="222").status_code == 302
    answer = second.submit(path, form, phone="333", address="Mysuru")
    assert errors_of(answer) == {"phone": CLASH}
    assert clashes(answer) == {"phone": ("111", "222", "333")}
    assert Patient.objects.values_list("phone", "address", "version").get() == ("222", "Bengaluru", 2)
    page = main(answer.content.decode())
    assert [html.unescape(text) for text in re.findall(r'<td data-label="\w[^"]*">([^<]*)', page)[:3]] == [
        "111", "222", "333",
    ]  # fmt: skip
    typed = fields(answer)
    assert (typed["phone"], typed["address"], typed["initial-phone"]) == ("333", "Mysuru", "222")


def test_the_page_says_who_changed_the_field_and_when(
    first: AdminClient, second: AdminClient, alice: User, as_alice: LoggedInClient
):
    patient = make_patient(alice, phone="111", address="Bengaluru")
    path = change(patient)
    form = second.form(path)
    as_alice.patch(f"/api/patients/{patient.pk}/", {"address": "Mysuru"})
    first.submit(path, phone="222")
    first.submit(path, email="a@example.org")
    page = second.submit(path, form, phone="333", address="Delhi").content.decode()
    who = re.findall(r'<span class="changed-by">by (\w+), \d+ \w+ \d{4}, \d\d:\d\d:\d\d \w+</span>', page)
    assert who == ["first", "alice"]


@pytest.mark.parametrize(("choice", "phone"), [("mine", "333"), ("theirs", "222")])
def test_the_second_one_chooses_and_what_did_not_collide_is_saved_too(
    first: AdminClient, second: AdminClient, alice: User, choice: str, phone: str
):
    path = change(make_patient(alice, phone="111"))
    form = second.form(path)
    first.submit(path, phone="222", email="a@example.org")
    shown = fields(second.submit(path, form, phone="333", address="Mysuru"))
    assert second.submit(path, shown, **{"clash-phone": choice}).status_code == 302
    now = Patient.objects.values_list("phone", "address", "email").get()
    assert now == (phone, "Mysuru", "a@example.org")


@pytest.mark.parametrize("choice", [None, "", "yours"])
def test_without_a_choice_nothing_is_saved(first: AdminClient, second: AdminClient, alice: User, choice: str | None):
    path = change(make_patient(alice, phone="111"))
    form = second.form(path)
    first.submit(path, phone="222")
    shown = fields(second.submit(path, form, phone="333"))
    again = second.submit(path, shown, **{"clash-phone": choice})
    assert clashes(again) == {"phone": ("222", "222", "333")}
    assert Patient.objects.get().phone == "222"


@pytest.mark.parametrize("choice", ["mine", "theirs"])
def test_a_third_change_in_between_is_shown_again(first: AdminClient, second: AdminClient, alice: User, choice: str):
    path = change(make_patient(alice, phone="111"))
    form = second.form(path)
    first.submit(path, phone="222")
    shown = fields(second.submit(path, form, phone="333"))
    first.submit(path, phone="444")
    again = second.submit(path, shown, **{"clash-phone": choice})
    assert clashes(again) == {"phone": ("222", "444", "333")}
    assert Patient.objects.get().phone == "444"
    assert second.submit(path, fields(again), **{"clash-phone": "mine"}).status_code == 302
    assert Patient.objects.get().phone == "333"


def test_the_same_change_twice_is_no_clash(first: AdminClient, second: AdminClient, alice: User):
    path = change(make_patient(alice, phone="111"))
    form = second.form(path)
    for client in (first, second, second):
        assert client.submit(path, form, phone="(222) 3").status_code == 302
    assert Patient.objects.values_list("phone", "version").get() == ("(222) 3", 2)


@pytest.mark.parametrize(
    ("field", "before", "theirs", "mine"),
    [
        ("medical_history", "a\nb", "a\nb\nc", "a\r\nb\r\nc"),
        ("medical_history", "a\nb", "c", "a\r\nb"),
        ("address", "Bengaluru", "Mysuru", " Mysuru "),
        ("phone", "1", "22 x5", "tel:22 x5"),
        ("phone", "1", "22", "\uff12\u0662"),
        ("birth_date", None, "1990-05-01", "1990-05-01"),
    ],
)
def test_values_are_compared_as_they_are_stored(
    first: AdminClient, second: AdminClient, alice: User, field: str, before: Any, theirs: str, mine: str
):
    path = change(make_patient(alice, **{field: before}))
    form = second.form(path)
    assert first.submit(path, None, **{field: theirs}).status_code == 302
    assert second.submit(path, form, **{field: mine}).status_code == 302
    assert str(getattr(Patient.objects.get(), field)) == theirs


def test_a_list_of_objects_collides_as_a_whole(first: AdminClient, second: AdminClient, alice: User):
    passport = {"system": "passport", "value": "A1"}
    path = change(make_patient(alice, identifiers=[passport]))
    form = second.form(path)
    first.submit(path, None, **{"identifiers-1-system": "uid", "identifiers-1-value": "7"})
    answer = second.submit(path, form, **{"identifiers-0-value": "B2"})
    assert clashes(answer) == {"identifiers": ("passport, A1", "passport, A1\nuid, 7", "passport, B2")}
    assert second.submit(path, fields(answer), **{"clash-identifiers": "mine"}).status_code == 302
    assert Patient.objects.get().identifiers == [{"system": "passport", "value": "B2"}]


def test_a_change_of_a_list_by_somebody_else_alone_stays(first: AdminClient, second: AdminClient, alice: User):
    path = change(make_patient(alice))
    form = second.form(path)
    first.submit(path, None, **{"contacts-0-name": "Ben"})
    assert second.submit(path, form, phone="5").status_code == 302
    assert Patient.objects.values_list("contacts", "phone").get() == (
        [{"name": "Ben", "relationship": "", "phone": ""}], "5",
    )  # fmt: skip


def test_a_clash_and_an_error_are_shown_together_and_theirs_needs_no_correction(
    first: AdminClient, second: AdminClient, alice: User
):
    path = change(make_patient(alice, phone="111"))
    form = second.form(path)
    first.submit(path, phone="222")
    answer = second.submit(path, form, phone="call", name="")
    assert errors_of(answer).keys() == {"phone", "name"}
    assert clashes(answer) == {"phone": ("111", "222", "call")}
    again = second.submit(path, fields(answer), name="Ada", **{"clash-phone": "theirs"})
    assert (again.status_code, Patient.objects.get().name, Patient.objects.get().phone) == (302, "Ada", "222")


def test_what_somebody_else_changed_meanwhile_counts_for_the_rules_between_fields(
    first: AdminClient, second: AdminClient, alice: User
):
    path = change(make_patient(alice, birth_year=1990))
    form = second.form(path)
    first.submit(path, deceased_on="2000-01-01")
    assert errors_of(second.submit(path, form, birth_date="2001-01-01", birth_year="2001")).keys() == {"deceased_on"}
    assert Patient.objects.get().birth_date is None


def test_times_are_compared_to_the_second_and_kept_to_the_microsecond(
    first: AdminClient, second: AdminClient, alice: User
):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    started = mapping.started_at
    form = second.form(change(mapping))
    assert second.submit(change(mapping), form, role="nurse").status_code == 302
    assert Mapping.objects.values_list("started_at", "role").get() == (started, "nurse")
    first.submit(change(mapping), started_at_0="2026-01-02", started_at_1="10:00:00")
    answer = second.submit(change(mapping), form, started_at_0="2026-01-03", started_at_1="11:00:00")
    assert clashes(answer).keys() == {"started_at"}
    assert "2 Jan 2026, 10:00:00" in clashes(answer)["started_at"][1]
    wrong = second.submit(change(mapping), form, started_at_0="2026-02-30", started_at_1="11:00")
    assert clashes(wrong)["started_at"][2] == "2026-02-30 11:00"
    assert second.submit(change(mapping), fields(answer), **{"clash-started_at": "mine"}).status_code == 302
    assert Mapping.objects.get().started_at.astimezone(datetime.UTC).day == 3


@pytest.mark.parametrize(
    ("zone", "repeated"),
    [("Europe/Berlin", "2025-10-26T00:30:15"), ("Europe/Berlin", "2025-10-26T01:30:15"),
     ("America/Havana", "2025-11-02T04:30:00")],
)  # fmt: skip
def test_a_time_that_the_change_of_the_clock_repeats_stays_and_can_be_changed(
    second: AdminClient, alice: User, settings: Any, zone: str, repeated: str
):
    settings.TIME_ZONE = zone
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    Mapping.objects.update(started_at=f"{repeated}+00:00")
    assert second.submit(change(mapping), role="nurse").status_code == 302
    assert Mapping.objects.get().started_at.isoformat() == f"{repeated}+00:00"
    form = second.form(change(mapping)) | {"started_at_0": "2025-10-20", "started_at_1": "10:00:00"}
    assert second.submit(change(mapping), form).status_code == 302
    assert Mapping.objects.get().started_at.astimezone(datetime.UTC).day == 20


def test_a_refused_form_saves_a_changed_time_at_the_second_attempt(second: AdminClient, alice: User):
    mapping = make_mapping(make_patient(alice), make_doctor(alice))
    path = change(mapping)
    refused = second.submit(path, started_at_0="2026-01-03", started_at_1="11:00:00", role="x" * 101)
    assert errors_of(refused).keys() == {"role"}
    assert second.submit(path, fields(refused), role="nurse").status_code == 302
    assert Mapping.objects.get().started_at.astimezone(datetime.UTC).day == 3


def test_groups_and_permissions_of_a_user_are_merged_one_by_one(first: AdminClient, second: AdminClient, alice: User):
    old, added, other = (Group.objects.create(name=name) for name in ("old", "added", "other"))
    one, two = Permission.objects.order_by("pk")[:2]
    alice.groups.add(old)
    path = change(alice)
    form = second.form(path)
    assert first.submit(path, groups=[added.pk], user_permissions=[one.pk]).status_code == 302
    assert second.submit(path, form, groups=[old.pk, other.pk], user_permissions=[two.pk]).status_code == 302
    assert set(alice.groups.all()) == {added, other}
    assert set(alice.user_permissions.all()) == {one, two}


def test_a_refused_form_adds_a_group_at_the_second_attempt(second: AdminClient, alice: User, bob: User):
    group = Group.objects.create(name="group")
    refused = second.submit(change(alice), groups=[group.pk], email="BOB@example.org")
    assert errors_of(refused) == {"email": ["A user with this e-mail already exists."]}
    assert second.submit(change(alice), fields(refused), email="a@example.org").status_code == 302
    assert list(alice.groups.all()) == [group]


def test_a_group_that_was_deleted_meanwhile_is_no_error_unless_it_was_added(second: AdminClient, alice: User):
    gone, stays = (Group.objects.create(name=name) for name in ("gone", "stays"))
    alice.groups.add(gone, stays)
    form = second.form(change(alice))
    gone_key = gone.pk
    gone.delete()
    assert second.submit(change(alice), form, name="Alice L").status_code == 302
    assert list(alice.groups.all()) == [stays]
    assert errors_of(second.submit(change(alice), groups=[gone_key, stays.pk])).keys() == {"groups"}
    assert errors_of(second.submit(change(alice), groups=["x"])).keys() == {"groups"}


def test_permissions_of_a_group_and_fields_of_a_user_and_a_doctor_collide_or_merge(
    first: AdminClient, second: AdminClient, alice: User
):
    doctor, group = make_doctor(alice), Group.objects.create(name="group")
    one, two = Permission.objects.order_by("pk")[:2]
    forms = {record: second.form(change(record)) for record in (doctor, group, alice)}
    first.submit(change(doctor), hospital="City", phone="1")
    first.submit(change(group), name="nurses", permissions=[one.pk])
    first.submit(change(alice), name="Alice L", is_active=None)
    assert clashes(second.submit(change(doctor), forms[doctor], hospital="Lakeside")) == {
        "hospital": ("", "City", "Lakeside")
    }
    assert clashes(second.submit(change(alice), forms[alice], name="Alice M")) == {
        "name": ("Alice", "Alice L", "Alice M")
    }
    assert second.submit(change(group), forms[group], permissions=[two.pk]).status_code == 302
    assert (set(group.permissions.all()), Group.objects.get(pk=group.pk).name) == ({one, two}, "nurses")
    alice.refresh_from_db()
    assert (alice.name, alice.is_active) == ("Alice L", False)


def test_a_form_without_the_values_that_were_seen_overwrites_nothing(second: AdminClient, alice: User):
    patient = make_patient(alice, phone="111")
    answer = second.post(change(patient), {"name": "John Smith", "gender": "M", "phone": "222"})
    assert clashes(answer) == {"phone": ("", "111", "222")}
    assert Patient.objects.get().phone == "111"


def test_a_value_that_no_longer_validates_is_no_error_while_it_is_not_changed(second: AdminClient, alice: User):
    patient = make_patient(alice)
    Patient.objects.filter(pk=patient.pk).update(language="english", phone="call me")
    assert second.submit(change(patient), address="Mysuru").status_code == 302
    assert Patient.objects.values_list("language", "address").get() == ("english", "Mysuru")


def test_the_page_with_a_clash_is_in_the_access_log(first: AdminClient, second: AdminClient, alice: User):
    patient = make_patient(alice, phone="111")
    form = second.form(change(patient))
    first.submit(change(patient), phone="222")
    before = AccessLog.objects.count()
    clashes(second.submit(change(patient), form, phone="333"))
    latest = AccessLog.objects.latest("id")
    assert (AccessLog.objects.count(), latest.action, latest.patient_ids) == (
        before + 1, "admin.patient.change", [patient.pk],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["deleted", "merged", "ended"])
def test_a_form_of_a_record_that_was_deleted_merged_or_ended_meanwhile_saves_nothing_and_shows_what_was_typed(
    first: AdminClient, second: AdminClient, alice: User, kind: str
):
    patient, survivor = make_patient(alice), make_patient(alice)
    record = make_mapping(patient, make_doctor(alice)) if kind == "ended" else patient
    path, typed = change(record), {"role": "surgeon"} if kind == "ended" else {"address": "Mysuru"}
    form = second.form(path)
    if kind == "merged":
        merge(survivor, patient)
    else:
        first.submit(path.replace("change", "delete"))
    before, last = type(record).objects.values().get(pk=record.pk), AccessLog.objects.latest("id")
    answer = second.submit(path, form, **typed)
    assert answer.status_code == 409
    page = main(answer.content.decode())
    [[label, value]] = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    assert {label.lower(): value} == typed
    assert re.search(rf"This \w+ was {kind} by .*\. Nothing was saved\.", page)
    assert type(record).objects.values().get(pk=record.pk) == before
    [read] = AccessLog.objects.filter(id__gt=last.pk)
    assert (read.action.rpartition(".")[-1], read.patient_ids) == ("change", [patient.pk])
    assert Page(answer.content.decode()).blocked == []


def test_a_form_of_a_user_who_was_removed_meanwhile_shows_what_was_typed(
    first: AdminClient, second: AdminClient, alice: User
):
    path = change(alice)
    form = second.form(path)
    assert first.submit(path.replace("change", "delete")).status_code == 302
    answer = second.submit(path, form, name="Alice L", is_active=None)
    assert answer.status_code == 409
    page = main(answer.content.decode())
    assert "This user no longer exists. Nothing was saved." in page
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page) == [("Name", "Alice L"), ("Active", "No")]


def test_staff_who_may_not_change_records_are_refused_in_every_state(make_user: Any, alice: User):
    patient = make_patient(alice)
    Patient.objects.filter(pk=patient.pk).end()
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_patient"))
    assert viewer.post(change(patient), {"name": "x"}).status_code == 403
    assert viewer.post("/admin/patients/patient/9999999/change/", {"name": "x"}).status_code in {302, 403}


@pytest.mark.parametrize(
    "address",
    ["mappings/mapping/add/?started_at=x", "patients/patient/add/?contacts=x&identifiers=[]&name=Ada",
     "patients/patient/add/?contacts=[{}]&birth_date=x&gender=ZZ&created_by=x"],
)  # fmt: skip
def test_an_address_with_values_that_a_new_record_cannot_have_shows_the_form(first: AdminClient, address: str):
    assert fields(first.get(f"/admin/{address}")).get("name", "") in {"", "Ada"}
    assert first.get(f"/admin/{address}").status_code == 200
