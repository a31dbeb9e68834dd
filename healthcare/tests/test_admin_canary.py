"""Every page of the admin, as staff with every kind of permission: data of a patient are shown only where a row of the
access log says so.

Each patient has words of their own in every field that holds text. The pages are those of the URL conf, the forms those
that the pages show, the actions and the autocompletes those of the registry.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from audit.history import event_model_of
from audit.models import AccessLog
from audit.patient_data import patient_id_field_of
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.model_fields import ObjectListField, PhoneField
from healthcare.tests.admin_pages import AdminClient, Page, PostForm, allow, main
from healthcare.tests.declarations import all_admin_models
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

CANARY = "Quetzalina"  # in every patient's name
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
# They stand for the others, each of whose pages is one of theirs.
THOROUGH_ROLES = ["superuser", EVERYTHING_ELSE, "patients", "mappings", "add_mapping, view_doctor"]
FORM_ROLES = ["superuser", "mappings", "add_mapping, view_doctor"]


def canary_fields(model: type[models.Model], word: str, number: int) -> dict[str, Any]:
    """A value with the word for each field of text, and for each phone a number of its own."""
    values: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        if isinstance(field, PhoneField):
            values[field.name] = f"+91 80 4711 {number}{len(values):02}"
        elif isinstance(field, ObjectListField):
            values[field.name] = [{member: f"{word} {member}" for member in field.members}]
            if "phone" in field.members:
                values[field.name][0]["phone"] = f"+91 80 4711 {number}{len(values):02}"
        elif isinstance(field, models.EmailField):
            values[field.name] = f"{word}@example.org"
        elif isinstance(field, models.CharField | models.TextField) and not field.choices and field.name != "language":
            values[field.name] = f"{word} {field.name}"
    return values


class Subject:
    """A patient with an assignment, and what a page must not show without a row in the access log."""

    def __init__(self, owner: User, doctor: Doctor, word: str, number: int) -> None:
        fields = canary_fields(Patient, word, number)
        self.patient = make_patient(owner, **{**fields, "name": f"{CANARY} {word}", "gender": "F"})
        self.mapping = make_mapping(self.patient, doctor, **canary_fields(Mapping, word, number))
        Patient.objects.filter(pk=self.patient.pk).update(name=f"{CANARY} Doe {word}")  # a version to compare with
        Mapping.objects.filter(pk=self.mapping.pk).update(role=f"{word} nurse")
        self.patient.refresh_from_db()
        self.mapping.refresh_from_db()
        self.canaries = [word.lower(), f"4711 {number}"]
        self.held_by = [self.patient.pk]  # the patients whose records hold the data


class Watch:
    """A client whose every answer is compared with the rows that the request has added to the access log."""

    def __init__(self, client: AdminClient, owner: User) -> None:
        self.client = client
        doctor = make_doctor(owner)
        # An active patient, a likely duplicate, a deleted one, and one that was merged.
        words = ["Amberix", "Bolderix", "Cinderix", "Dunderix"]
        self.subjects = [Subject(owner, doctor, word, number) for number, word in enumerate(words, 11)]
        _, survivor, deleted, merged = (subject.patient for subject in self.subjects)
        merge(survivor, merged)
        self.subjects[3].held_by.append(survivor.pk)
        Patient.objects.filter(pk=deleted.pk).end()
        self.subject, self.patient, self.mapping = self.subjects[0], self.subjects[0].patient, self.subjects[0].mapping
        self.shown: list[str] = []
        self.sent = 0

    def send(self, method: str, path: str, data: Any = None) -> Any:
        last = AccessLog.objects.order_by("-id").values_list("id", flat=True).first() or 0
        response = getattr(self.client, method)(path, data)
        self.sent += 1
        assert response.status_code < 500, (method, path)
        page = (response.getvalue().decode() + str(response.cookies)).lower()
        for subject in self.subjects:
            if any(canary in page for canary in subject.canaries):
                self.shown.append(f"{method} {path}")
                rows = AccessLog.objects.filter(id__gt=last, patient_ids__overlap=subject.held_by)
                assert rows.exists(), f"{method} {path} shows data of patient {subject.patient.pk} and records no read"
        return response

    def get(self, path: str, data: Any = None) -> Any:
        return self.send("get", path, data)

    def post(self, path: str, data: Any = None) -> Any:
        response = self.send("post", path, data)
        if response.status_code == 302:
            self.get(response["Location"])
            self.get("/admin/")
        return response

    def try_post(self, path: str, data: Any = None) -> None:
        """Post, and undo what it changed."""
        with transaction.atomic():
            self.post(path, data)
            transaction.set_rollback(True)


@pytest.fixture
def make_watch(make_user: Callable[..., User], alice: User) -> Callable[[str], Watch]:
    def make(role: str) -> Watch:
        codenames = ROLES[role]
        user = make_user("clerk", is_staff=True, is_superuser=codenames is None)
        if role == EVERYTHING_ELSE:
            about_patients = Permission.objects.filter(content_type__model__in=["patient", "mapping"])
            codenames = [*Permission.objects.exclude(pk__in=about_patients).values_list("codename", flat=True)]
        return Watch(AdminClient(allow(user, *(codenames or []))), alice)

    return make


@pytest.fixture
def others(alice: User) -> dict[str, Any]:
    """A record of each model of the admin that is about no patient, by the path of its list."""
    found = {}
    for model in all_admin_models():
        about: type[models.Model] = apps.get_model(model.label)
        if patient_id_field_of(about) is None:
            found[model.path] = model.create(alice)
    return found


def patterns(entry: Any = None, before: str = "/") -> Iterator[str]:
    """The paths of the admin, as the URL conf has them."""
    for inner in entry.url_patterns if entry else get_resolver().url_patterns:
        path = before + str(inner.pattern)
        if isinstance(inner, URLResolver):
            yield from patterns(inner, path) if path.startswith("/admin/") else ()
        elif isinstance(inner, URLPattern) and path.startswith("/admin/") and "^" not in path:
            yield path


def record_paths(watch: Watch, others: dict[str, Any], limit: int | None = None) -> Iterator[str]:
    """Every path of the admin but that of the logout, for so many records of each model."""
    for pattern in patterns():
        records = [] if pattern == "/admin/logout/" else records_of(watch, others, pattern)[:limit]
        for record in records if "<" in pattern else records[:1]:
            yield re.sub(r"<(?:\w+:)?(\w+)>", partial(argument, record), pattern)


def records_of(watch: Watch, others: dict[str, Any], pattern: str) -> list[Any]:
    if pattern.startswith(PATIENTS):
        return [subject.patient for subject in watch.subjects]
    if pattern.startswith(MAPPINGS):
        return [subject.mapping for subject in watch.subjects[:2]]
    return [next((record for path, record in others.items() if pattern.startswith(path)), watch.patient)]


def argument(record: Any, match: re.Match[str]) -> str:
    """The value of a parameter in a path. A parameter that is not known here takes the record's key."""
    if match[1] == "event_id":
        return str(event_model_of(type(record)).objects.filter(id=record.pk).earliest("pgh_id").pk)
    return "patients" if match[1] == "app_label" else str(record.pk)


def paths_for(watch: Watch, others: dict[str, Any]) -> Iterator[str]:
    """What staff may ask for with a GET: the paths, each with the parameters that may lead it to more records."""
    patient, doctor = watch.patient, watch.mapping.doctor_id
    for path in record_paths(watch, others):
        yield path
        if path.endswith(("/add/", "/change/", "/delete/")):
            yield f"{path}?_popup=1&patient={patient.pk}&doctor={doctor}"
        elif not re.search(r"/\d+/", path):
            yield f"{path}?" + "&".join(f"id={subject.patient.pk}" for subject in watch.subjects)
    for page in admin.site._registry.values():
        path = f"/admin/{page.opts.app_label}/{page.opts.model_name}/"
        names = sorted(page.known_parameters(request_of(watch)))  # type: ignore[attr-defined]
        values = [f"{name}={'all' if name == 'state' else patient.pk}" for name in names]
        if watch.get(path).status_code == 403:  # whatever the parameters are
            yield f"{path}?{'&'.join(values)}"
        else:
            for query in ("q=Quetzal", "q=Amberi", "q=%2B91 80 4", "_facets=True", *values):
                yield f"{path}?{query}"
    yield from autocompletes()
    yield f"{MAPPINGS}add/?patient=x&doctor=x"
    if request_of(watch).user.is_superuser:  # the others get the same answer
        for content_type in ContentType.objects.all():
            yield f"/admin/r/{content_type.pk}/{patient.pk}/"


def request_of(watch: Watch) -> Any:
    request = RequestFactory().get("/admin/")
    request.user = User.objects.get(username="clerk")
    return request


def autocompletes() -> Iterator[str]:
    """The suggestions for each field, for the beginning of a name and for what finds a patient as a whole."""
    for page in admin.site._registry.values():
        for one in (page, *(inline(page.model, admin.site) for inline in page.inlines)):
            for field in one.autocomplete_fields:
                options = one.model._meta
                source = f"app_label={options.app_label}&model_name={options.model_name}&field_name={field}"
                for term in ("", "Quetz", "Amberi"):
                    yield f"/admin/autocomplete/?{source}&term={term}"


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_no_page_shows_data_of_a_patient_without_a_row_in_the_access_log(
    make_watch: Callable[[str], Watch], others: dict[str, Any], role: str
) -> None:
    """Roles that stand for others ask for each record and with each parameter."""
    watch = make_watch(role)
    for path in paths_for(watch, others) if role in THOROUGH_ROLES else record_paths(watch, others, limit=1):
        watch.get(path)
    codenames = ROLES[role]
    sees = codenames is None or any(name.endswith(("_patient", "_mapping")) for name in codenames)
    only_adds = codenames is not None and all(name.startswith("add_") or name == "view_doctor" for name in codenames)
    assert bool(watch.shown) == (sees and not only_adds), watch.shown
    assert watch.sent > (150 if role in THOROUGH_ROLES else 50)


@pytest.mark.slow
@pytest.mark.parametrize("role", FORM_ROLES)
def test_no_form_and_no_action_shows_data_of_a_patient_without_a_row_in_the_access_log(
    make_watch: Callable[[str], Watch], others: dict[str, Any], role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each form is sent as it is shown, with every text empty, and in a popup with every text too long. Each action is
    begun for every record and confirmed."""
    watch = make_watch(role)
    for path in record_paths(watch, others, limit=1):
        if path.startswith(("/admin/login/", "/admin/password_change/", "/admin/autocomplete/")):
            continue
        response = watch.get(path)
        html = main(response.getvalue().decode())
        fields = Page(html).fields
        if response.status_code != 200 or 'method="post"' not in html:
            watch.try_post(path, {"post": "yes"})
            continue
        texts = {name for name, value in fields.items() if isinstance(value, str) and not name.endswith("_FORMS")}
        hidden = {name for name in texts if name.startswith("initial-") or name == "csrfmiddlewaretoken"}
        empty, too_long = (dict.fromkeys(texts - hidden, value) for value in ("", "x" * 600))
        for changed in ({}, empty, {**too_long, "_popup": "1"}):
            watch.try_post(path, {**fields, **changed})
    for page in admin.site._registry.values():
        act_on_each(watch, others, page)
    assert not [text for subject in watch.subjects for text in subject.canaries if text in caplog.text.lower()]


def act_on_each(watch: Watch, others: dict[str, Any], page: Any) -> None:
    path = f"/admin/{page.opts.app_label}/{page.opts.model_name}/"
    for action in page.get_actions(request_of(watch)):
        for record in records_of(watch, others, path):
            sent = {"action": action, "_selected_action": [record.pk], "index": "0"}
            with transaction.atomic():
                preview = watch.post(path, sent)
                if preview.status_code == 200 and not preview.streaming:
                    form = PostForm(main(preview.content.decode()))
                    watch.post(form.path or path, {**form.sent, "action": action, "post": "yes"})
                    entries = LogEntry.objects.values_list("object_repr", "change_message")
                    assert not [one for one in entries if re.search("Quetz|erix", "".join(one))], action
                transaction.set_rollback(True)


@pytest.mark.slow
@pytest.mark.parametrize("role", THOROUGH_ROLES)
def test_no_change_shows_a_patients_name_without_a_row_in_the_access_log(
    make_watch: Callable[[str], Watch], alice: User, role: str
) -> None:
    watch = make_watch(role)
    patient, mapping, doctor = watch.patient, watch.mapping, watch.mapping.doctor
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
    before = Mapping.objects.count()
    answer = watch.post(f"{MAPPINGS}add/", sent)
    assert (answer.status_code, Mapping.objects.count()) == (200, before)
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
