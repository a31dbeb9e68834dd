"""A deleted doctor is hidden. Anyone with a token lists and restores deleted doctors."""

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.planner import rewrite_and_analyze


@pytest.fixture
def deleted(alice: User) -> Doctor:
    """A doctor who is deleted, beside one who is not."""
    make_doctor(alice, name="Dr. Kept")
    doctor = make_doctor(alice, name="Dr. Deleted")
    Doctor.objects.filter(pk=doctor.pk).end()
    return doctor


def test_bob_restores_a_doctor_that_alice_added(as_bob: LoggedInClient, anonymous: APIClient, deleted: Doctor) -> None:
    (listed,) = as_bob.get("/api/doctors/?deleted=true").json()
    restored = as_bob.post(f"/api/doctors/{deleted.pk}/restore/")
    assert restored.status_code == 200
    assert restored.json() == listed | {"version": 3, "updated_at": restored.json()["updated_at"]}
    assert anonymous.get(f"/api/doctors/{deleted.pk}/").json() == restored.json()
    assert as_bob.get("/api/doctors/?deleted=true").json() == []
    assert as_bob.post(f"/api/doctors/{deleted.pk}/restore/").json() == restored.json()


def test_an_anonymous_caller_sees_active_doctors_only(anonymous: APIClient, deleted: Doctor) -> None:
    refused = anonymous.get("/api/doctors/?deleted=true")
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    assert refused.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Log in and send the access token as `Authorization: Bearer <token>`.",
        "request_id": refused["X-Request-Id"],
    }
    assert anonymous.post(f"/api/doctors/{deleted.pk}/restore/").status_code == 401
    for query in ("", "?deleted=false"):
        assert [row["name"] for row in anonymous.get(f"/api/doctors/{query}").json()] == ["Dr. Kept"]
    assert anonymous.get(f"/api/doctors/{deleted.pk}/").status_code == 404


def test_restoring_a_missing_doctor_is_404(as_alice: LoggedInClient) -> None:
    assert as_alice.post(f"/api/doctors/{2**40}/restore/").status_code == 404


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_restore_takes_post_only(as_alice: LoggedInClient, deleted: Doctor, method: str) -> None:
    answer = getattr(as_alice, method)(f"/api/doctors/{deleted.pk}/restore/", {})
    assert (answer.status_code, answer["Allow"]) == (405, "POST, OPTIONS")


def test_the_list_of_deleted_records_uses_its_own_index(alice: User) -> None:
    Doctor.objects.bulk_create(Doctor(created_by=alice, name="kept") for _ in range(2000))
    rewrite_and_analyze("doctors_doctor")
    plan = Doctor.objects.hidden().order_by("-pk")[:101].explain()
    assert "doctor_list_deleted" in plan
    assert "Sort" not in plan
