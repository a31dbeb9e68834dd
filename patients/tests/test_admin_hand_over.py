"""Staff hand over selected patients, or everything of users who leave."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from accounts.delegations.models import Delegation, Notice
from accounts.models import User
from audit.models import AccessLog
from healthcare.tests.admin_pages import AdminClient, allow
from patients.merges import merge
from patients.models import Patient, PatientEvent, PatientTransfer
from patients.tests.factories import make_patient

PATIENTS, USERS = "/admin/patients/patient/", "/admin/accounts/user/"
SENT = {"to": "Bob", "reason": "alice leaves"}


@pytest.fixture
def admin(staff: User) -> AdminClient:
    return AdminClient(staff)


def message(client: AdminClient, answer: Any) -> str:
    assert answer.status_code == 302
    page = client.page(answer["Location"]).partition('class="messagelist"')[2].partition("</ul>")[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", "", page.partition(">")[2])).split())


def owners() -> list[str]:
    return list(Patient.objects.order_by("pk").values_list("created_by__username", flat=True))


def text_of(answer: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


def test_selected_patients_are_handed_over(admin: AdminClient, staff: User, alice: User, bob: User) -> None:
    first, second, staying = (make_patient(alice, name=name) for name in ("One", "Two", "Three"))
    merge(first, make_patient(alice, name="Four"))
    PatientTransfer.objects.create(patient=second, from_owner=alice, to_owner=bob)
    preview = admin.act(PATIENTS, "hand_over", [first, second])
    assert "Hand over 2 patients" in text_of(preview)
    assert owners() == ["alice"] * 4
    assert AccessLog.objects.get(action="admin.patient.hand_over_preview").patient_ids == [first.pk, second.pk]
    said = message(admin, admin.confirm(preview, **SENT))
    assert said == "2 patients handed over. It cannot be undone."
    assert owners() == ["bob", "bob", "alice", "bob"]
    context = PatientEvent.objects.filter(id=second.pk).latest("pgh_id").pgh_context
    assert (context["actor"], context["reason"]) == (staff.pk, "alice leaves")
    assert PatientTransfer.objects.get().state == "withdrawn"
    assert LogEntry.objects.filter(object_id=str(first.pk)).get().change_message == "Handed over."
    assert Patient.objects.get(pk=staying.pk).version == 1


def test_merged_patients_and_those_of_the_new_owner_stay(admin: AdminClient, alice: User, bob: User) -> None:
    survivor, merged, of_bob = make_patient(alice), make_patient(alice), make_patient(bob)
    merge(survivor, merged)
    preview = admin.act(PATIENTS, "hand_over", [merged, of_bob])
    assert f"was merged into patient {survivor.pk}; hand that one over instead" in text_of(preview)
    said = message(admin, admin.confirm(preview, **SENT))
    assert "belongs to the new owner already" in said
    assert owners() == ["alice", "alice", "bob"]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ({"to": "nobody"}, "Write the username of an active user who is not staff, or of a clinic."),
        ({"to": "staff"}, "Write the username of an active user who is not staff, or of a clinic."),
        ({"to": ""}, "This field is required."),
        ({"reason": ""}, "This field is required."),
        ({"reason": "x" * 201}, "at most 200 characters"),
    ],
)
@pytest.mark.parametrize("path", [PATIENTS, USERS])
def test_a_form_with_errors_is_shown_again(
    admin: AdminClient, staff: User, alice: User, bob: User, path: str, sent: dict[str, str], error: str
) -> None:
    patient = make_patient(alice)
    selected: list[Any] = [patient] if path == PATIENTS else [alice]
    answer = admin.confirm(admin.act(path, "hand_over", selected), **(SENT | sent))
    assert (answer.status_code, error in text_of(answer)) == (200, True)
    assert owners() == ["alice"]
    again = admin.confirm(answer, **SENT)
    assert (again.status_code, owners()) == (302, ["bob"])


def test_everything_of_users_who_leave_is_handed_over(
    admin: AdminClient, alice: User, bob: User, make_user: Callable[..., User]
) -> None:
    clinic = make_user("sunrise", is_clinic=True, email=None, password=None)
    asha, carol = make_user("asha"), make_user("carol")
    for owner in (alice, alice, carol):
        make_patient(owner)
    Delegation.objects.create(owner=alice, delegate=asha, role="write")
    preview = admin.act(USERS, "hand_over", [alice, carol, clinic])
    shown = text_of(preview)
    assert "alice: patients 2" in shown
    assert "alice has given a delegation to asha (write)" in shown
    assert "is a clinic, which keeps its managers; select its patients instead" in shown
    assert "sunrise: patients" not in shown, "only what would be handed over is described"
    said = message(admin, admin.confirm(preview, **SENT))
    assert said.startswith("2 users handed over. Not handed over: user")
    assert "Records of patients handed over: 3. Delegations moved: 1, ended: 0." in said
    assert owners() == ["bob"] * 3
    assert Delegation.objects.get().owner == bob
    assert Notice.objects.get(user=asha).kind == "delegation_changed"


def test_a_user_with_very_many_patients_is_left_to_the_command(
    admin: AdminClient, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patients.admin_hand_over.MOST_PATIENTS_OF_USER", 1)
    for _ in range(2):
        make_patient(alice)
    assert "owns more than 1 patients; use `manage.py hand_over`" in text_of(admin.act(USERS, "hand_over", [alice]))


@pytest.mark.parametrize("path", [PATIENTS, USERS])
def test_it_takes_a_permission_of_its_own(make_user: Callable[..., User], alice: User, bob: User, path: str) -> None:
    patient = make_patient(alice)
    sent = {"action": "hand_over", "_selected_action": [patient.pk if path == PATIENTS else alice.pk], "post": "yes"}
    others = ["change_patient", "view_patient", "change_user", "view_user"]
    others.append("hand_over_user" if path == PATIENTS else "hand_over_patient")
    clerk = AdminClient(allow(make_user("clerk", is_staff=True), *others))
    assert [clerk.post(target, sent | SENT).status_code for target in (path, f"{path}hand_over/")] == [403, 403]
    assert owners() == ["alice"]
    own = "hand_over_patient" if path == PATIENTS else "hand_over_user"
    records = AdminClient(allow(make_user("rita", is_staff=True), own, "view_patient", "view_user"))
    assert records.post(f"{path}hand_over/", sent | SENT).status_code == 302
    assert owners() == ["bob"]
