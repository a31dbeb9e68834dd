"""What protects every page of the admin from every user: CSRF tokens, popups, and what autocomplete suggests.

The headers of every response are checked in `test_admin_roles`, which opens every page for every role.
"""

from typing import Any

import pytest
from django.contrib import admin
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client

from accounts.models import User
from healthcare.tests.admin_pages import AdminClient, Page, allow, in_role
from healthcare.tests.declarations import AdminModel, all_admin_models
from healthcare.tests.test_admin_roles import ROLES
from healthcare.tests.test_admin_site import LOGIN, admin_paths
from patients.models import Patient
from patients.tests.factories import make_patient

ADD = "/admin/patients/patient/add/"


class StrictClient(AdminClient):
    """One whose POSTs need a CSRF token, as in a browser."""

    def __init__(self, user: User) -> None:
        super().__init__(user)
        self.handler.enforce_csrf_checks = True


@pytest.mark.slow
def test_no_post_is_accepted_without_a_csrf_token(staff: User, alice: User):
    client, patient = StrictClient(staff), make_patient(alice)
    tokens: list[dict[str, str]] = [{}, {"csrfmiddlewaretoken": ""}, {"csrfmiddlewaretoken": _get_new_csrf_string()}]
    for path in admin_paths():
        for token in tokens:
            answer = client.post(path.replace("/1/", f"/{patient.pk}/"), {"post": "yes", **token})
            assert answer.status_code == 403, path
    assert Client(enforce_csrf_checks=True).post(LOGIN, {"username": "staff"}).status_code == 403
    assert client.submit(ADD, name="Ada", created_by=alice.pk).status_code == 302  # the form holds a token


def test_a_csrf_token_of_one_session_is_worth_nothing_in_another(staff: User, alice: User, make_user: Any):
    other = StrictClient(make_user("other", is_staff=True, is_superuser=True))
    form = Page(other.page(ADD)).fields
    client = StrictClient(staff)
    client.page(ADD)
    assert client.post(ADD, {**form, "name": "Ada", "created_by": alice.pk}).status_code == 403
    assert not Patient.objects.exists()


@pytest.mark.parametrize("column", ["password", "email", "last_login", "is_superuser", "groups", "id__password", "x"])
def test_a_popup_gives_no_other_column_than_the_key(staff: User, alice: User, column: str):
    client, path = AdminClient(staff), "/admin/accounts/user/"
    for page in ("", "add/", f"{alice.pk}/change/", f"{alice.pk}/delete/"):
        answer = client.get(f"{path}{page}?_popup=1&_to_field={column}")
        assert answer.status_code == 400, page
        assert alice.password not in answer.content.decode()
    form = client.form(f"{path}{alice.pk}/change/")
    answer = client.post(f"{path}{alice.pk}/change/", {**form, "_popup": "1", "_to_field": column})
    assert answer.status_code == 400
    assert alice.password not in answer.content.decode()


def autocompletes() -> list[tuple[str, AdminModel]]:
    """The path of every autocomplete field's suggestions, with the model that they are of."""
    declared = {model.label: model for model in all_admin_models()}
    found = []
    for model, model_admin in admin.site._registry.items():
        for name in model_admin.autocomplete_fields:
            options, related = model._meta, model._meta.get_field(name).related_model
            query = f"app_label={options.app_label}&model_name={options.model_name}&field_name={name}&term="
            found.append((f"/admin/autocomplete/?{query}", declared[related._meta.label]))  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("role", [*ROLES, ""])
def test_autocomplete_suggests_to_whom_may_view_what_it_suggests(make_user: Any, alice: User, role: str):
    member = make_user("member", is_staff=True)
    client = AdminClient(in_role(member, role) if role else allow(member, "change_user", "add_mapping"))
    make_patient(alice, name="Zebulon Nightingale")
    assert autocompletes()
    for path, model in autocompletes():
        answer = client.get(path)
        assert answer.status_code == (200 if "view" in model.verbs_of(role) else 403), path
        assert ("Nightingale" in answer.content.decode()) == (
            model.label == "patients.Patient" and answer.status_code == 200
        )
        assert "no-store" in answer["Cache-Control"]
        assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "field",
    ["accounts.loginsession.user", "patients.patient.created_by", "doctors.doctor.created_by", "auth.group.permissions",
     "accounts.user.groups", "admin.logentry.user", "mappings.mapping.patient__created_by", "mappings.mapping.id",
     "patients.patientmerge.duplicate", "sessions.session.session_data", "x.y.z"],
)  # fmt: skip
def test_autocomplete_of_another_field_tells_nothing_that_the_role_may_not_view(
    make_user: Any, alice: User, field: str
):
    role = "Support" if "duplicate" in field else "Clinical staff"
    client = AdminClient(in_role(make_user("member", is_staff=True), role))
    app, model, name = field.split(".")
    answer = client.get(f"/admin/autocomplete/?app_label={app}&model_name={model}&field_name={name}&term=")
    assert answer.status_code == 403
    assert "alice" not in answer.content.decode()


def test_no_value_in_the_query_string_breaks_the_form_of_a_new_record(staff: User):
    client = AdminClient(staff)
    client.raise_request_exception = False
    for model_admin in admin.site._registry.values():
        options = model_admin.opts
        path = f"/admin/{options.app_label}/{options.model_name}/add/"
        if client.get(path).status_code != 200:  # nobody adds one
            continue
        names = [field.name for field in [*options.concrete_fields, *options.many_to_many]]
        for value in ("x", "9" * 30, "\0", "[1]"):
            answer = client.get(path, dict.fromkeys(names, value))
            assert answer.status_code == 200, (path, value)
