"""The resource types that can only be read: CareTeam, which /api/mappings/ changes, AuditEvent and Provenance."""

import re
from collections.abc import Iterable
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404
from django.utils.http import http_date
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.history import history_kept_since
from audit.models import PatientAccess
from audit.patient_data import patient_ids_of
from audit.views import ReadsRecordedViewSet
from doctors.models import Doctor
from fhir.audit_event import write_audit_event
from fhir.bundles import CURSOR, bundle, history_entry, page
from fhir.care_team import Team, versions_of, write_care_team
from fhir.exceptions import Deleted
from fhir.provenance import write_provenance
from fhir.requests import FhirView
from fhir.views import PatientFhirViewSet, PractitionerFhirViewSet, version_tag, weak
from healthcare.api.cursors import Cursor, Keyset
from healthcare.model_fields import LARGEST_ID
from mappings.models import Mapping as Assignment
from mappings.models import MappingEvent
from patients.models import Patient, PatientEvent

WITH_PATIENT = LARGEST_ID  # as the version of a team that was deleted with its patient, which has none of its own

AUDIT_EVENT_ID = re.compile(r"(?P<access>[1-9][0-9]{0,17})-(?P<patient>[1-9][0-9]{0,17})")
PROVENANCE_ID = re.compile(r"(?P<type>patient|practitioner)-(?P<event>[1-9][0-9]{0,17})")


class ReadOnlyViewSet(FhirView, ReadsRecordedViewSet):
    """A resource type that this server writes by itself."""

    resource_type: ClassVar[str]
    interactions: ClassVar[tuple[str, ...]] = ("read",)
    filter_backends = []
    pagination_class = None
    selecting_actions = frozenset()

    def url_of(self, key: object) -> str:
        return f"{self.base}/{self.resource_type}/{key}"


class TeamVersions(Keyset):
    """The versions of a care team, the latest first, as a keyset."""

    def __init__(self, teams: list[Team]) -> None:
        super().__init__(teams, ["version"], descending=True)  # type: ignore[arg-type]  # `fetch` makes no query

    def fetch(self, cursor: Cursor | None, limit: int) -> list[Any]:
        teams: Any = self.queryset
        return [team for team in reversed(teams) if cursor is None or team.version < cursor.values[0]][:limit]


class CareTeamViewSet(ReadOnlyViewSet):
    """CareTeam: https://hl7.org/fhir/R4/careteam.html. One for every patient who was ever assigned.

    A patient's team is gone (410) with the patient, and where its assignments have all moved to another patient by a
    merge, or back when that was undone.
    """

    resource_type = "CareTeam"
    interactions = ("read", "vread", "history-instance")
    queryset = Assignment.objects.none()
    event_model = MappingEvent
    path_names_patient = True
    parameters = {"history": {"_count", CURSOR}}

    @classmethod
    def access_action(cls, action: str) -> str:
        # The words of /api/patients/<id>/doctors/ and /api/mappings/.
        return {"retrieve": "mapping.doctors", "vread": "mapping.history"}.get(action, f"mapping.{action}")

    def find_patient(self) -> Patient:
        """The owner's patient in the path, a deleted or a merged one too. Raises Http404."""
        patient: Patient = get_object_or_404(Patient.objects.owned_by(self.owner), pk=self.kwargs["pk"])
        return patient

    def find_versions(self, patient: Patient) -> list[Team]:
        """The states of the patient's team, the earliest first. Raises Http404 for a patient who was never assigned.

        Archiving has left the last change of each assignment before a time. The state that these left together is
        complete, those before it are not.
        """
        events = MappingEvent.objects.owned_by(self.owner)
        own = events.filter(id__in=events.filter(patient=patient.pk).values("id"))
        teams = list(versions_of(patient.pk, list(own.order_by("pgh_id"))))
        if not teams:
            raise Http404
        since = history_kept_since()
        archived = sum(team.at < since for team in teams) if since else 0
        gone = (
            [Team(patient.pk, [], WITH_PATIENT, patient.deleted_at)]
            if patient.deleted_at and teams[-1].assignments
            else []
        )
        return teams[max(archived - 1, 0) :] + gone

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.answer_version(self.find_versions(self.find_patient())[-1])

    def vread(self, request: Request, pk: int, version: int) -> Response:
        teams = [team for team in self.find_versions(self.find_patient()) if team.version == version]
        if not teams:
            raise Http404
        return self.answer_version(teams[0])

    def answer_version(self, team: Team) -> Response:
        """A state of the team; 304 if the client has it."""
        if not team.assignments:
            raise Deleted
        headers = {"ETag": version_tag(team.version), "Last-Modified": http_date(team.at.timestamp())}
        if headers["ETag"] in weak(self.if_none_match) or "*" in self.if_none_match:
            return Response(None, 304, headers=headers)
        return self.answer(write_care_team(team, doctor_names([team])), headers=headers)

    def history(self, request: Request, pk: int) -> Response:  # type: ignore[override]
        """Every state, the latest first."""
        found, following = page(TeamVersions(self.find_versions(self.find_patient())), request.query_params)
        names, url = doctor_names(found), self.url_of(pk)
        entries = [self.history_entry(url, team, names) for team in found]
        used: dict[str, Any] = {name: text for name, text in request.query_params.items() if name in {"_count", CURSOR}}
        return self.answer(bundle("history", f"{url}/_history", entries, used=used, following=following))

    @staticmethod
    def history_entry(url: str, team: Team, names: dict[int, str]) -> Any:
        if team.assignments:
            resource = write_care_team(team, names)
            return history_entry(url, resource, "POST" if team.created else "PUT", team.version, team.at)
        entry = history_entry(url, None, "DELETE", team.version, team.at)
        if team.version == WITH_PATIENT:
            del entry["response"]["etag"]
        return entry


def doctor_names(teams: Iterable[Team]) -> dict[int, str]:
    keys = {assignment.doctor_id for team in teams for assignment in team.assignments}
    return dict(Doctor.objects.filter(pk__in=keys).values_list("pk", "name"))


class AuditEventViewSet(ReadOnlyViewSet):
    """AuditEvent: https://hl7.org/fhir/R4/auditevent.html. What /api/patients/<id>/access-log/ answers: the accesses to
    the owner's active patients, until they are archived. An access to several patients is one event of each."""

    resource_type = "AuditEvent"
    key_converter = "id"
    queryset = PatientAccess.objects.none()
    event_model = PatientEvent

    @classmethod
    def access_action(cls, action: str) -> str:
        return "patient.access_log"

    def patients_in_path(self) -> list[int]:
        found = AUDIT_EVENT_ID.fullmatch(self.kwargs.get("pk", ""))
        return [int(found["patient"])] if found else []

    def accesses(self) -> QuerySet:
        patients = Patient.objects.owned_by(self.owner).active()
        return PatientAccess.objects.filter(patient_id__in=patients.values("pk")).with_actor_names()

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        found = AUDIT_EVENT_ID.fullmatch(self.kwargs["pk"])
        if found is None:
            raise Http404
        key = {"patient_id": int(found["patient"]), "pk": int(found["access"])}
        return self.answer(write_audit_event(get_object_or_404(self.accesses(), **key)))


class ProvenanceViewSet(ReadOnlyViewSet):
    """Provenance: https://hl7.org/fhir/R4/provenance.html. Of each version of a patient or a doctor, those of deleted
    ones included."""

    resource_type = "Provenance"
    key_converter = "id"
    queryset = PatientEvent.objects.none()
    event_model = PatientEvent
    path_names_patient = False
    targets: ClassVar[dict[str, Any]] = {"Patient": PatientFhirViewSet, "Practitioner": PractitionerFhirViewSet}

    @classmethod
    def access_action(cls, action: str) -> str:
        return "patient.history"

    def events_of(self, resource_type: str) -> QuerySet:
        events: Any = self.targets[resource_type].past_scope(self.owner)
        named: QuerySet = events.with_actor_names()
        return named

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        found = PROVENANCE_ID.fullmatch(self.kwargs["pk"])
        if found is None:
            raise Http404
        resource_type = found["type"].capitalize()
        event = get_object_or_404(self.events_of(resource_type), pk=int(found["event"]))
        return self.answer(self.represent(resource_type, event))

    def represent(self, resource_type: str, event: Any) -> dict[str, Any]:
        if resource_type == "Patient":
            self.patients_read |= patient_ids_of([event])
        deleted = self.targets[resource_type].is_deleted(event)
        return write_provenance(resource_type, event, deleted=deleted)
