"""Every page of the admin, as staff with every kind of permission: a patient's name is shown only where a row of the
access log says so."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from accounts.models import User
from audit.models import AccessLog
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.admin_pages import AdminClient, allow
from healthcare.tests.test_admin_site import admin_paths
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient

CANARY = "Quetzalina"
PATIENTS, MAPPINGS = "/admin/patients/patient/", "/admin/mappings/mapping/"
ACTIONS = ("view", "add", "change", "delete")
EVERYTHING_ELSE = "everything but patients and mappings"
ROLES = {
    "superuser": None,
    "nothing": [],
    EVERYTHING_ELSE: [],
    "every permission": [
        f"{action}_{model}" for action in ACTIONS for model in ("patient", "mapping", "doctor", "user")
    ],
    "patients": [f"{action}_patient" for action in ACTIONS],
    "mappings": [f"{action}_mapping" for action in ACTIONS],
    **{f"{action}_{model}": [f"{action}_{model}"] for action in ACTIONS for model in ("patient", "mapping")},
    "change_mapping, view_patient": ["view_patient", "add_mapping", "view_mapping", "view_doctor"],
    "add_mapping, view_doctor": ["add_mapping", "view_doctor"],
    "delete_doctor": ["view_doctor", "delete_doctor"],
    "delete_user": ["view_user", "delete_user"],
}


class Watch:
    """A client whose every answer is compared with the rows that the request has added to the access log."""

    def __init__(self, client: AdminClient, patient: Patient) -> None:
        self.client, self.patient = client, patient
        self.shown: list[str] = []

    def send(self, method: str, path: str, data: Any = None) -> Any:
        last = AccessLog.objects.order_by("-id").values_list("id", flat=True).first() or 0
        response = getattr(self.client, method)(path, data)
        assert response.status_code < 500, (method, path)
        page = response.content.decode() + str(response.cookies)
        recorded = AccessLog.objects.filter(id__gt=last, patient_ids__contains=[self.patient.pk]).exists()
        if CANARY in page:
            self.shown.append(f"{method} {path}")
            assert recorded, f"{method} {path} shows the name and records no read"
        return response

    def get(self, path: str, data: Any = None) -> Any:
        return self.send("get", path, data)

    def post(self, path: str, data: Any = None) -> Any:
        response = self.send("post", path, data)
        if response.status_code == 302:
            self.get(response["Location"])
            self.get("/admin/")
        return response


@pytest.fixture
def make_watch(make_user: Callable[..., User], alice: User) -> Callable[[str], Watch]:
    def make(role: str) -> Watch:
        codenames = ROLES[role]
        user = make_user("clerk", is_staff=True, is_superuser=codenames is None)
        if role == EVERYTHING_ELSE:
            codenames = [
                *Permission.objects.exclude(content_type__model__in=["patient", "mapping"]).values_list(
                    "codename", flat=True
                )
            ]
        return Watch(AdminClient(allow(user, *(codenames or []))), make_patient(alice, name=f"{CANARY} Doe"))

    return make


def paths_for(patient: Patient, mapping: Mapping, doctor: Doctor, user: User) -> Iterator[str]:
    """Every path of the admin, with the ids of these records in place of the parameters."""
    keys = {"patients/patient": patient.pk, "mappings/mapping": mapping.pk, "doctors/doctor": doctor.pk}
    for path in admin_paths():
        model = next((model for model in keys if path.startswith(f"/admin/{model}/")), None)
        key = keys[model] if model else user.pk
        yield re.sub(r"/1/", f"/{key}/", path)
        if path.endswith(("/add/", "/change/", "/delete/")):
            yield re.sub(r"/1/", f"/{key}/", path) + f"?_popup=1&patient={patient.pk}&doctor={doctor.pk}"
    for query in (
        f"q={CANARY}",
        "state=all",
        f"id__exact={patient.pk}",
        f"patient__id__exact={patient.pk}",
        "_facets=True",
    ):
        yield f"{PATIENTS}?{query}"
        yield f"{MAPPINGS}?{query}"
    for field in ("patient", "doctor"):
        yield f"/admin/autocomplete/?app_label=mappings&model_name=mapping&field_name={field}&term={CANARY[:4]}"
    yield f"{MAPPINGS}add/?patient={patient.pk}"
    yield f"{MAPPINGS}add/?patient=x&doctor=x"
    for content_type in ContentType.objects.all():
        yield f"/admin/r/{content_type.pk}/{patient.pk}/"


@pytest.mark.parametrize("role", ROLES)
def test_no_page_shows_a_patients_name_without_a_row_in_the_access_log(
    make_watch: Callable[[str], Watch], alice: User, role: str
) -> None:
    watch = make_watch(role)
    mapping = make_mapping(watch.patient, make_doctor(alice))
    for path in paths_for(watch.patient, mapping, mapping.doctor, alice):
        if not path.startswith("/admin/logout/"):
            watch.get(path)
    codenames = ROLES[role]
    sees = codenames is None or any(name.endswith(("_patient", "_mapping")) for name in codenames)
    only_adds = codenames is not None and all(name.startswith("add_") or name == "view_doctor" for name in codenames)
    assert bool(watch.shown) == (sees and not only_adds), watch.shown


@pytest.mark.parametrize("role", ROLES)
def test_no_change_shows_a_patients_name_without_a_row_in_the_access_log(
    make_watch: Callable[[str], Watch], alice: User, role: str
) -> None:
    watch = make_watch(role)
    doctor = make_doctor(alice)
    patient, mapping = watch.patient, make_mapping(watch.patient, doctor)
    other = make_doctor(alice, name="Dr. Other")
    one = f"{PATIENTS}{patient.pk}/"
    form = {"name": f"{CANARY} Roe", "gender": "F"}
    for popup in ({}, {"_popup": "1"}):
        watch.post(f"{PATIENTS}add/", {"name": "", **popup})
        watch.post(f"{one}change/", {**form, "initial-name": patient.name, "initial-gender": "M", **popup})
        watch.post(f"{one}change/", {"name": "", **popup})
        watch.post(f"{MAPPINGS}add/", {"patient": patient.pk, **popup})  # refused: no doctor
        watch.post(f"{MAPPINGS}{mapping.pk}/change/", {"role": "x" * 200, **popup})  # refused: too long
        watch.post(f"{MAPPINGS}{mapping.pk}/change/", {"role": "nurse", "started_at_0": "", **popup})
    watch.post(
        f"{MAPPINGS}add/",
        {"patient": patient.pk, "doctor": other.pk, "started_at_0": "2026-01-01", "started_at_1": "10:00"},
    )
    watch.post("/admin/doctors/doctor/", {"action": "delete_selected", "_selected_action": [doctor.pk]})
    watch.post(f"/admin/doctors/doctor/{doctor.pk}/delete/", {"post": "yes"})
    watch.post(f"/admin/accounts/user/{alice.pk}/delete/", {"post": "yes"})
    for path, record in ((MAPPINGS, mapping), (PATIENTS, patient)):
        for again in ({}, {"post": "yes"}, {"post": "yes"}):
            watch.post(path, {"action": "delete_selected", "_selected_action": [record.pk], **again})
        type(record).objects.filter(pk=record.pk).restore()
        watch.get(f"{path}{record.pk}/delete/")
        watch.post(f"{path}{record.pk}/delete/", {"post": "yes"})
        watch.get(f"{path}{record.pk}/history/")
    assert [entry.object_repr for entry in LogEntry.objects.all() if CANARY in entry.object_repr] == []


def test_recent_actions_and_messages_name_the_record_by_its_id(make_watch: Callable[[str], Watch]) -> None:
    watch = make_watch("superuser")
    text = f"patient {watch.patient.pk}"
    form = watch.client.form(f"{PATIENTS}{watch.patient.pk}/change/")
    answer = watch.client.post(f"{PATIENTS}{watch.patient.pk}/change/", form | {"phone": "555"}, follow=True)
    assert f">{text}</a>” was changed successfully." in answer.content.decode()
    assert f">{text}</a>" in watch.client.page("/admin/").partition('id="recent-actions-module"')[2]
    answer = watch.client.post(f"{PATIENTS}{watch.patient.pk}/delete/", {"post": "yes"}, follow=True)
    assert f"The patient “{text}” was deleted successfully." in answer.content.decode()


def test_staff_who_may_not_view_patients_can_choose_none(make_watch: Callable[[str], Watch], alice: User) -> None:
    watch = make_watch("add_mapping, view_doctor")
    sent = {
        "patient": watch.patient.pk,
        "doctor": make_doctor(alice).pk,
        "started_at_0": "2026-01-01",
        "started_at_1": "10:00",
    }
    answer = watch.post(f"{MAPPINGS}add/", sent)
    assert (answer.status_code, Mapping.objects.count()) == (200, 0)
    assert "Select a valid choice." in answer.content.decode()


@pytest.mark.django_db(transaction=True)
def test_entries_of_earlier_versions_lose_their_names(alice: User, staff: User) -> None:
    patient, doctor = make_patient(alice, name=CANARY), make_doctor(alice)
    mapping = make_mapping(patient, doctor)
    for record in (patient, mapping, doctor):
        LogEntry.objects.log_actions(staff.pk, [record], 2, "")
    (scrub,) = [
        operation
        for key, migration in MigrationLoader(connection).disk_migrations.items()
        for operation in migration.operations
        if key[0] == "mappings" and "django_admin_log" in str(getattr(operation, "sql", ""))
    ]
    with connection.cursor() as cursor:
        cursor.execute(scrub.sql)  # type: ignore[attr-defined]
    found = {*LogEntry.objects.values_list("object_repr", flat=True)}
    assert found == {f"patient {patient.pk}", f"mapping {mapping.pk}", str(doctor)}
