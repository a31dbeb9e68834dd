"""A form of the admin that is sent twice, by a double click or a retry, saves once and answers as the first time."""

import json
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from doctors.models import Doctor
from healthcare.api.models import IdempotencyRecord
from healthcare.tests.admin_pages import AdminClient, allow, errors_of
from patients.models import Patient
from patients.tests.factories import make_patient


@pytest.fixture
def client(make_user: Any) -> AdminClient:
    return AdminClient(make_user("staff_member", is_staff=True, is_superuser=True))


def test_a_form_that_is_sent_twice_adds_one_record(client: AdminClient, alice: User):
    path = "/admin/patients/patient/add/"
    form = client.form(path) | {"name": "Ada", "created_by": alice.pk}
    answers = [client.submit(path, form), client.submit(path, form), client.submit(path, form | {"_save": "Save"})]
    assert [answer.status_code for answer in answers] == [302] * 3
    assert answers[0]["Location"] == answers[1]["Location"]
    assert Patient.objects.count() == 1
    assert "This form was sent twice. It was saved once." in client.page(answers[1]["Location"])
    assert client.submit(path, form, name="Ben").status_code == 302  # back, and another value: another record
    assert client.submit(path, name="Ada", created_by=alice.pk).status_code == 302  # another form
    assert Patient.objects.count() == 3


def test_a_form_that_is_sent_again_after_its_answer_expired_is_a_new_one(client: AdminClient, alice: User):
    path = "/admin/patients/patient/add/"
    form = client.form(path) | {"name": "Ada", "created_by": alice.pk}
    for number in (1, 2):
        assert client.submit(path, form).status_code == 302
        assert Patient.objects.count() == number
        IdempotencyRecord.objects.update(expires_at=timezone.now())  # and not deleted yet


def test_a_form_that_is_sent_twice_returns_to_the_search_without_storing_it(client: AdminClient, alice: User):
    path = f"/admin/patients/patient/{make_patient(alice).pk}/change/?_changelist_filters=q%3DKanarienvogel"
    form = client.form(path) | {"phone": "555"}
    answers = [client.submit(path, form) for _ in range(2)]
    assert [answer["Location"] for answer in answers] == ["/admin/patients/patient/?q=Kanarienvogel"] * 2
    assert [record.headers for record in IdempotencyRecord.objects.all()] == [{"Location": "/admin/patients/patient/"}]


def test_a_popup_that_is_sent_again_shows_the_record_to_users_who_may_add_one(make_user: Any, alice: User):
    path = "/admin/patients/patient/add/?_popup=1"
    clerk = allow(make_user("clerk", is_staff=True), "add_patient")
    admin = AdminClient(clerk)
    form = admin.form(path) | {"name": "Ada", "created_by": alice.pk}
    assert admin.submit(path, form).status_code == 200
    clerk.user_permissions.clear()
    assert admin.submit(path, form).status_code == 403


def test_a_popup_that_is_sent_twice_adds_one_record_and_answers_alike(client: AdminClient, alice: User):
    path = "/admin/patients/patient/add/?_to_field=id&_popup=1"
    form = client.form(path) | {"name": "Ada", "created_by": alice.pk}
    answers = [client.submit(path, form) for _ in range(2)]
    patient = Patient.objects.get()
    given = [json.loads(answer.context_data["popup_response_data"]) for answer in answers]
    assert given == [{"value": str(patient.pk), "obj": "Ada"}] * 2
    reads = AccessLog.objects.filter(action="admin.patient.add").values_list("patient_ids", flat=True)
    assert [*reads] == [[patient.pk]] * 2


def test_a_refused_form_that_is_sent_twice_is_refused_twice_and_another_user_is_another_submission(
    client: AdminClient, alice: User, make_user: Any
):
    path = "/admin/doctors/doctor/add/"
    form = client.form(path) | {"name": "Dr. Ada", "created_by": ""}
    for _ in range(2):
        assert errors_of(client.submit(path, form)).keys() == {"created_by"}
    form["created_by"] = alice.pk
    for one in (AdminClient(make_user("other", is_staff=True, is_superuser=True)), client):
        token = {"csrfmiddlewaretoken": one.form(path)["csrfmiddlewaretoken"]}
        assert one.submit(path, form | token).status_code == 302
    assert Doctor.objects.count() == 2
