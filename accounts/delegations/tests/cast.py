"""Calls that the tests of this package share: Alice owns records, asha and ben act for others, Bob is an outsider."""

from typing import Any

from rest_framework.response import Response

from accounts.models import User
from conftest import LoggedInClient

CLINICS, DELEGATIONS, NOTICES = "/api/clinics/", "/api/delegations/", "/api/notices/"


def named(user: Any) -> dict[str, Any]:
    return {"id": user.pk, "username": user.username, "name": user.name}


def acting_for(owner: User | str) -> dict[str, str]:
    return {"X-Acting-For": str(owner)}


def make_clinic(client: LoggedInClient, username: str = "sunrise") -> User:
    """A clinic that this client has founded, and manages."""
    answer = client.post(CLINICS, {"name": "Sunrise Clinic", "username": username})
    assert answer.status_code == 201, answer.content
    return User.objects.get(pk=answer.json()["id"])


def give(client: LoggedInClient, delegate: str, role: str = "write", owner: User | None = None, **values: Any) -> int:
    """The id of a delegation that this client gives, for an owner if one is named."""
    headers = acting_for(owner) if owner else {}
    answer = client.post(DELEGATIONS, {"delegate": delegate, "role": role, **values}, headers=headers)
    assert answer.status_code == 201, answer.content
    return int(answer.json()["id"])


def path_of(delegation: int) -> str:
    return f"{DELEGATIONS}{delegation}/"


def problem(answer: Response) -> tuple[int, str | None]:
    """The status and the member `code` of an error."""
    return answer.status_code, answer.json().get("code")  # type: ignore[attr-defined]
