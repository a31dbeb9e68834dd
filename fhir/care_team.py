"""CareTeam: the assignments of one patient (https://hl7.org/fhir/R4/careteam.html).

Its id is the patient's. What an assignment has beyond it is not written: `notes` are the owner's own, and who the
primary doctor is says `Patient.generalPractitioner`.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.history import Deleted, Inserted
from fhir.elements import instant


@dataclass(frozen=True)
class Team:
    """The assignments of a patient after one of their changes, the earliest first; none if the patient has none.

    assignments: rows of `Mapping` or of its history.
    version: the key of that change in the history, since archiving and erasing renumber nothing there.
    """

    patient: int
    assignments: Sequence[Any]
    version: int
    at: datetime.datetime
    created: bool = False  # whether the change was the first assignment


def write_care_team(team: Team, doctors: Mapping[int, str]) -> dict[str, Any]:
    """The resource. `doctors` are the present names of the doctors by id, those of deleted ones included."""
    active = any(assignment.ended_at is None for assignment in team.assignments)
    reasons = dict.fromkeys(assignment.reason for assignment in team.assignments if assignment.reason)
    written = {
        "resourceType": "CareTeam",
        "id": str(team.patient),
        "meta": {"versionId": str(team.version), "lastUpdated": instant(team.at)},
        "status": "active" if active else "inactive",
        "subject": {"reference": f"Patient/{team.patient}"},
        "participant": [write_participant(assignment, doctors) for assignment in team.assignments],
        "reasonCode": [{"text": reason} for reason in reasons],  # R4 has reasons of the team, not of a participant
    }
    return {name: value for name, value in written.items() if value != []}  # R4 has no empty arrays


def write_participant(assignment: Any, doctors: Mapping[int, str]) -> dict[str, Any]:
    member = {"reference": f"Practitioner/{assignment.doctor_id}"}
    if name := doctors.get(assignment.doctor_id):
        member["display"] = name
    period = {"start": instant(assignment.started_at)}
    if assignment.ended_at:
        period["end"] = instant(assignment.ended_at)
    role = {"role": [{"text": assignment.role}]} if assignment.role else {}
    return {**role, "member": member, "period": period}


def versions_of(patient: int, events: Sequence[Any]) -> Iterator[Team]:
    """The states of a patient's team, the earliest first. `events` are the whole history, in its order, of every
    assignment that has ever been the patient's: a merge moves assignments to another patient, and back when it is
    undone, so that a change may also be that an assignment leaves."""
    present: dict[int, Any] = {}
    for event in events:
        concerned = event.patient_id == patient or event.id in present
        created = not present and event.pgh_label == Inserted.label
        if event.patient_id == patient and event.pgh_label != Deleted.label:
            present[event.id] = event
        else:
            present.pop(event.id, None)
        if concerned:
            yield Team(patient, by_start(present.values()), event.pgh_id, event.pgh_created_at, created)


def by_start(assignments: Any) -> list[Any]:
    return sorted(assignments, key=lambda assignment: (assignment.started_at, assignment.id))
