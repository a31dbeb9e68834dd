"""Patient/<id>/$everything: what this server has about a patient
(https://hl7.org/fhir/R4/patient-operation-everything.html).

The patient, the care team with its practitioners, and who changed and who read the record: these types follow one
another on the pages. Of `start` and `end`, the dates of care, this server knows none.
"""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import Http404
from django.utils.functional import cached_property
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from audit.models import PatientAccess
from doctors.models import Doctor
from fhir.audit_event import write_audit_event
from fhir.bundles import CURSOR_PARAMETER, MAXIMUM_COUNT, bundle, read_count
from fhir.care_team import Team, write_care_team
from fhir.operations import Operation, read_since, read_types
from fhir.practitioner import write_practitioner
from fhir.provenance import write_provenance
from fhir.read_only_views import CareTeamViewSet, doctor_names
from fhir.search.results import search_entry
from fhir.views import PatientFhirViewSet
from healthcare.api.cursors import Cursor, Keyset, decode_cursor
from healthcare.model_fields import LARGEST_ID
from patients.models import Patient

TYPES_IN_ORDER = ("Patient", "CareTeam", "Practitioner", "Provenance", "AuditEvent")


@dataclass(frozen=True)
class Place:
    """Where a page begins: after this key among the resources of the type at this position of TYPES_IN_ORDER."""

    position: int = 0
    key: int | None = None

    def text(self) -> str:
        return Cursor((self.position, self.key or 0), back=False).text()


def read_place(text: str | None) -> Place:
    """Raises ValidationError (400) for a text that is not of a `next` link."""
    if text is None:
        return Place()
    parts = decode_cursor(text)
    if parts is None or len(parts) != 3 or not all(type(part) is int for part in parts[1:]):
        raise ValidationError({CURSOR_PARAMETER: ["Use a link of this Bundle, unchanged."]})
    _, position, key = parts
    if position not in range(len(TYPES_IN_ORDER)) or not 0 < key <= LARGEST_ID:
        raise ValidationError({CURSOR_PARAMETER: ["Use a link of this Bundle, unchanged."]})
    return Place(position, key)


class PatientEverythingViewSet(PatientFhirViewSet):
    operation = Operation("everything", "http://hl7.org/fhir/OperationDefinition/Patient-everything")
    parameters = {"everything": {"_count", "_since", "_type", CURSOR_PARAMETER}}

    def everything(self, request: Request, pk: int) -> Response:
        query = request.query_params
        self.since = read_since(query)
        types = read_types(query, TYPES_IN_ORDER, lenient=self.preferences.get("handling") == "lenient")
        count = read_count(query if "_count" in query else {"_count": str(MAXIMUM_COUNT)})
        place = read_place(query.get(CURSOR_PARAMETER))
        self.patient: Patient = self.get_object()
        found = self.fetch(types, place, count + 1) if count else []
        following = found[count - 1][0].text() if len(found) > count else None
        url = f"{self.url_of(pk)}/$everything"
        used = {name: query.getlist(name) for name in ("_count", "_since", "_type") if name in query}
        entries = [
            search_entry(self.base, resource, "match" if resource["resourceType"] == "Patient" else "include")
            for _, resource in found[:count]
        ]
        return self.answer(bundle("searchset", url, entries, used=used, following=following))

    def fetch(self, types: Sequence[str], place: Place, limit: int) -> list[tuple[Place, dict[str, Any]]]:
        """At most `limit` resources after this place, each with its own."""
        found: list[tuple[Place, dict[str, Any]]] = []
        for position, name in enumerate(TYPES_IN_ORDER):
            if name not in types or position < place.position or len(found) == limit:
                continue
            after = place.key if position == place.position else None
            rows = self.SECTIONS[name](self, after, limit - len(found))
            found += [(Place(position, key), resource) for key, resource in rows]
        return found

    # The resources of each type after a key, with their keys

    def patient_itself(self, after: int | None, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        if after is None and self.is_new(self.patient.updated_at):
            yield self.patient.pk, self.represent(self.patient)

    def care_team(self, after: int | None, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        if after is None and self.team and self.is_new(self.team.at):
            yield self.patient.pk, write_care_team(self.team, doctor_names([self.team]))

    def practitioners(self, after: int | None, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        members = {one.doctor_id for one in self.team.assignments} if self.team else set()
        doctors = self.changed(Doctor.objects.active().filter(pk__in=members), "updated_at")
        for doctor in fetch_after(Keyset(doctors, ["id"], descending=False), after, limit):
            yield doctor.pk, write_practitioner(doctor)

    def provenance(self, after: int | None, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        own: Any = self.past_scope(self.owner)
        events = self.changed(own.filter(id=self.patient.pk).with_actor_names(), "pgh_created_at")
        for event in fetch_after(Keyset(events, ["pgh_id"], descending=True), after, limit):
            yield event.pk, write_provenance("Patient", event, deleted=self.is_deleted(event))

    def audit_events(self, after: int | None, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        accesses = PatientAccess.objects.filter(patient_id=self.patient.pk).with_actor_names()
        accesses = self.changed(accesses, "at")
        for access in fetch_after(Keyset(accesses, ["id"], descending=True), after, limit):
            yield access.pk, write_audit_event(access)

    SECTIONS = {
        "Patient": patient_itself, "CareTeam": care_team, "Practitioner": practitioners, "Provenance": provenance,
        "AuditEvent": audit_events,
    }  # fmt: skip

    def is_new(self, changed_at: datetime.datetime) -> bool:
        return self.since is None or changed_at > self.since

    def changed(self, rows: Any, column: str) -> Any:
        return rows if self.since is None else rows.filter(**{f"{column}__gt": self.since})

    @cached_property
    def team(self) -> Team | None:
        """The patient's care team; None where there is none."""
        view = CareTeamViewSet(request=self.request)
        try:
            team = view.find_versions(self.patient)[-1]
        except Http404:
            return None
        return team if team.assignments else None


def fetch_after(rows: Keyset, after: int | None, limit: int) -> Sequence[Any]:
    return rows.fetch(None if after is None else Cursor((after,), back=False), limit)
