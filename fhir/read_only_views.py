"""The resource types that can only be read: CareTeam, which /api/mappings/ changes, AuditEvent and Provenance."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Window
from django.db.models.functions import Lag
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
from fhir.bundles import CURSOR_PARAMETER, bundle, history_entry, page, parameters_of_page
from fhir.care_team import Team, versions_of, write_care_team
from fhir.exceptions import Invalid, ResourceDeleted
from fhir.issues import Issue
from fhir.patient import write_patient
from fhir.practitioner import write_practitioner
from fhir.provenance import write_provenance
from fhir.references import own_reference
from fhir.search.parameters import (
    NONE,
    BadValueError,
    CodeParameter,
    Context,
    IdParameter,
    InstantParameter,
    ReferenceParameter,
)
from fhir.search.query import Criterion, Query
from fhir.search.views import Page, SearchMixin
from fhir.value_sets import RESOURCE_TYPES
from fhir.versions import version_tag, weak
from fhir.views import PatientFhirViewSet, PractitionerFhirViewSet, primary_doctors
from healthcare.api.cursors import Cursor, Keyset
from healthcare.model_fields import LARGEST_ID
from mappings.models import Mapping as Assignment
from mappings.models import MappingEvent
from patients.models import Patient, PatientEvent

# Of patients: those who have an assignment at present.
WITH_ACTIVE_ASSIGNMENT = Q(Exists(Assignment.objects.active().filter(patient=OuterRef("pk"))))
WITH_PATIENT = LARGEST_ID  # as the version of a team that was deleted with its patient, which has none of its own

AUDIT_EVENT_ID = re.compile(r"(?P<access>[1-9][0-9]{0,17})-(?P<patient>[1-9][0-9]{0,17})")
PROVENANCE_ID = re.compile(r"(?P<type>patient|practitioner)-(?P<event>[1-9][0-9]{0,17})")

ONE_OF_THESE = "A search needs this parameter, or another one that names the record or the resource."
ANY_TYPE = frozenset(RESOURCE_TYPES)
NAMING = {"target", "patient", "_id"}  # of Provenance: the parameters that say of which type the records are


def require_one_of(criteria: Sequence[Criterion], *names: str) -> None:
    """Raises Invalid (400) for a search of the whole log or history, for which there is no index."""
    if not any(one.name in names and one.modifier != "missing" for one in criteria):
        wanted = f"Send one of these: {', '.join(names)}."
        raise Invalid(Issue("required", wanted, f"http.{names[0]}"))


class ReadOnlyViewSet(SearchMixin, ReadsRecordedViewSet):
    """A resource type that this server writes by itself."""

    interactions: ClassVar[Sequence[str]] = ("read", "search-type")
    filter_backends = []
    pagination_class = None
    selecting_actions = frozenset()

    def url_of(self, key: object) -> str:
        return f"{self.base}/{self.resource_type}/{key}"


def with_key(key: int) -> Q:
    return Q(pk=key)


def with_doctor(doctor: int) -> Q:
    """The patients who are or were assigned to this doctor."""
    return Q(Exists(Assignment.objects.filter(patient=OuterRef("pk"), doctor=doctor)))


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
    interactions = ("read", "vread", "history-instance", "search-type")
    queryset = Assignment.objects.none()
    event_model = MappingEvent
    path_names_patient = True
    parameters = {"history": {"_count", CURSOR_PARAMETER}}
    search_parameters = {
        "_id": IdParameter(),
        "_lastUpdated": InstantParameter(column="changed_at"),
        "participant": ReferenceParameter(
            rows={"Practitioner": with_doctor},
            other_types={"CareTeam", "Organization", "Patient", "PractitionerRole", "RelatedPerson"},
            documentation="Past participants too.",
        ),
        "patient": ReferenceParameter(rows={"Patient": with_key}),
        "status": CodeParameter(
            rows={"active": WITH_ACTIVE_ASSIGNMENT, "inactive": ~WITH_ACTIVE_ASSIGNMENT},
            system="http://hl7.org/fhir/care-team-status",
        ),
        "subject": ReferenceParameter(rows={"Patient": with_key}, other_types={"Group"}),
    }
    sort_columns = {"_id": "id"}
    search_inclusions = frozenset({"CareTeam:participant", "CareTeam:subject"})

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
            raise ResourceDeleted
        headers = {"ETag": version_tag(team.version), "Last-Modified": http_date(team.at.timestamp())}
        resource = write_care_team(team, doctor_names([team]))
        if headers["ETag"] in weak(self.if_none_match) or "*" in self.if_none_match:
            return self.answer_not_modified(resource, headers)
        return self.answer(resource, headers=headers)

    def history(self, request: Request, pk: int) -> Response:  # type: ignore[override]
        """Every state, the latest first."""
        found, following = page(TeamVersions(self.find_versions(self.find_patient())), request.query_params)
        names, url = doctor_names(found), self.url_of(pk)
        entries = [self.history_entry(url, team, names) for team in found]
        used = parameters_of_page(request.query_params)
        return self.answer(bundle("history", f"{url}/_history", entries, used=used, following=following))

    def searched(self, criteria: Sequence[Criterion]) -> QuerySet:
        """The active patients with assignments, with the version of the team and its time as `version_of_team` and
        `changed_at`."""
        patients = Patient.objects.owned_by(self.owner).active()
        events = MappingEvent.objects.owned_by(self.owner)
        own = events.filter(id__in=events.filter(patient=OuterRef(OuterRef("pk"))).values("id"))
        before = Window(Lag("patient_id"), partition_by="id", order_by="pgh_id")
        latest = own.annotate(before=before).filter(Q(patient=OuterRef("pk")) | Q(before=OuterRef("pk")))
        latest = latest.order_by("-pgh_id")
        assigned = patients.filter(Exists(Assignment.objects.filter(patient=OuterRef("pk"))))
        found: QuerySet = assigned.annotate(
            version_of_team=Subquery(latest.values("pgh_id")[:1]),
            changed_at=Subquery(latest.values("pgh_created_at")[:1]),
        )
        return found

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        assignments: dict[int, list[Assignment]] = {row.pk: [] for row in rows}
        for assignment in Assignment.objects.filter(patient__in=assignments).order_by("started_at", "pk"):
            assignments[assignment.patient_id].append(assignment)
        teams = [Team(row.pk, assignments[row.pk], row.version_of_team, row.changed_at) for row in rows]
        names = doctor_names(teams)
        return [write_care_team(team, names) for team in teams]

    def included(self, rows: Sequence[Any], names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The patients, and the doctors who have not been deleted, each once."""
        if "CareTeam:subject" in names:
            primary = primary_doctors(row.pk for row in rows)
            for row in rows:
                yield write_patient(row, practitioner=primary.get(row.pk), survivor=None)
        if "CareTeam:participant" in names:
            assignments = Assignment.objects.filter(patient__in=[row.pk for row in rows])
            for doctor in Doctor.objects.active().filter(pk__in=assignments.values("doctor")).order_by("pk"):
                yield write_practitioner(doctor)

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


def with_patient(key: int) -> Q:
    return Q(patient_id=key)


@dataclass(frozen=True, kw_only=True)
class AccessIdParameter(IdParameter):
    def condition(self, text: str, modifier: str, context: Context) -> Q:
        found = AUDIT_EVENT_ID.fullmatch(text)
        return Q(pk=int(found["access"]), patient_id=int(found["patient"])) if found else NONE


class AuditEventViewSet(ReadOnlyViewSet):
    """AuditEvent: https://hl7.org/fhir/R4/auditevent.html. What /api/patients/<id>/access-log/ answers: the accesses to
    the owner's active patients, until they are archived. An access to several patients is one event of each."""

    resource_type = "AuditEvent"
    key_converter = "id"
    queryset = PatientAccess.objects.none()
    event_model = PatientEvent
    search_parameters = {
        "_id": AccessIdParameter(),
        "date": InstantParameter(column="at"),
        "entity": ReferenceParameter(rows={"Patient": with_patient}, other_types=ANY_TYPE, documentation=ONE_OF_THESE),
        "patient": ReferenceParameter(rows={"Patient": with_patient}, documentation=ONE_OF_THESE),
    }

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

    def searched(self, criteria: Sequence[Criterion]) -> QuerySet:
        require_one_of(criteria, "entity", "patient", "_id")
        return self.accesses()

    def find_page(self, rows: QuerySet, query: Query) -> Page:
        return page(Keyset(rows, ["id", "patient_id"], descending=True), query.results)

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [write_audit_event(row) for row in rows]


def of_record(key: int) -> Q:
    return Q(id=key)


@dataclass(frozen=True, kw_only=True)
class EventIdParameter(IdParameter):
    def condition(self, text: str, modifier: str, context: Context) -> Q:
        found = PROVENANCE_ID.fullmatch(text)
        return Q(pk=int(found["event"])) if found else NONE


@dataclass(frozen=True, kw_only=True)
class TargetParameter(ReferenceParameter):
    """A record whose versions are searched, by a reference with its type."""

    def check(self, text: str) -> None:
        if "/" not in text or "/_history/" in text:
            wanted = " or ".join(f"{name}/<id>" for name in self.rows)
            raise BadValueError(f"Write {wanted}, without a version.")
        super().check(text)


class ProvenanceViewSet(ReadOnlyViewSet):
    """Provenance: https://hl7.org/fhir/R4/provenance.html. Of each version of a patient or a doctor, those of deleted
    ones included."""

    resource_type = "Provenance"
    key_converter = "id"
    queryset = PatientEvent.objects.none()
    event_model = PatientEvent
    path_names_patient = False
    key_column = "pgh_id"
    search_parameters = {
        "_id": EventIdParameter(),
        "patient": TargetParameter(rows={"Patient": of_record}, documentation=ONE_OF_THESE),
        "recorded": InstantParameter(column="pgh_created_at"),
        "target": TargetParameter(
            rows={"Patient": of_record, "Practitioner": of_record}, other_types=ANY_TYPE, documentation=ONE_OF_THESE
        ),
    }
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

    def searched(self, criteria: Sequence[Criterion]) -> QuerySet:
        require_one_of(criteria, "target", "patient", "_id")
        types = {self.type_in(value) for one in criteria if one.name in NAMING for value in one.values}
        types &= self.targets.keys()
        if len(types) > 1:
            raise Invalid(Issue("not-supported", "Search for one type of target at a time.", "http.target"))
        return self.events_of(types.pop()) if types else PatientEvent.objects.none()

    def type_in(self, value: str) -> str:
        found = PROVENANCE_ID.fullmatch(value)
        if found:
            return found["type"].capitalize()
        reference = own_reference(value, self.base)
        return reference[0] if reference else ""

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [self.represent("Patient" if isinstance(row, PatientEvent) else "Practitioner", row) for row in rows]

    def represent(self, resource_type: str, event: Any) -> dict[str, Any]:
        if resource_type == "Patient":
            self.patients_read |= patient_ids_of([event])
        deleted = self.targets[resource_type].is_deleted(event)
        return write_provenance(resource_type, event, deleted=deleted)
