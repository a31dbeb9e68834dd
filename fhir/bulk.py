"""$export: all resources of an owner as files, by the FHIR Bulk Data Access IG
(https://hl7.org/fhir/uv/bulkdata/STU2/export.html).

An export is a row: its caller, its parameters and its moment. A file is made when it is fetched, from the history as of
this moment, and streamed as the exports of /api/ are. So there is nothing to wait for but the transactions that had
begun before the moment.
"""

import datetime
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef, Q
from django.http import Http404
from django.utils.http import http_date
from rest_framework import viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.exports import RecordedExportMixin
from audit.history import changed_until
from doctors.models import Doctor, DoctorEvent
from fhir.bundles import link
from fhir.care_team import Team, versions_of, write_care_team
from fhir.elements import instant
from fhir.exceptions import Invalid
from fhir.issues import Issue
from fhir.json import encode
from fhir.models import BulkExport
from fhir.operations import OF_SYSTEM, Operation, read_since, read_types
from fhir.patient import write_patient
from fhir.practitioner import write_practitioner
from fhir.read_only_views import doctor_names
from fhir.rendering import JSON_TYPES, FhirNegotiation, format_of
from fhir.requests import FhirView
from healthcare.api.cursors import Keyset
from healthcare.api.viewsets import ActsForOwner
from healthcare.exports.formats import ExportFormat
from healthcare.exports.views import ExportMixin, StreamedResponse
from healthcare.ownership import RecordOwner
from mappings.models import MappingEvent
from patients.models import PatientEvent

NDJSON = "application/fhir+ndjson"
OUTPUT_FORMATS = {NDJSON, "application/ndjson", "ndjson"}  # names of the one format
POLL_AGAIN = 1  # seconds


@dataclass(frozen=True)
class Contents:
    """The resources of one type that an owner had at a moment, or of these the ones that had changed after `since`.

    A change is as late as its event, which comes a moment after the `meta.lastUpdated` of the resource: a client that
    sends the `transactionTime` of its last export misses nothing that was being written then.
    """

    owner: RecordOwner
    at: datetime.datetime
    since: datetime.datetime | None

    def rows(self) -> Any:
        """The events that they are written from."""
        raise NotImplementedError

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        raise NotImplementedError

    def changed(self, events: Any) -> Any:
        return events if self.since is None else events.filter(pgh_created_at__gt=self.since)

    @property
    def assignments(self) -> Any:
        """The history of the owner's assignments."""
        return MappingEvent.objects.owned_by(self.owner)


class PatientContents(Contents):
    """Those who were not deleted, and those who were merged into others, as a read answers them."""

    def rows(self) -> Any:
        events = PatientEvent.objects.owned_by(self.owner).as_of(self.at, ended=True)
        return self.changed(events.filter(Q(deleted_at=None) | ~Q(merged_into=None)))

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        primary = self.primary_doctors([row.id for row in rows])
        return [write_patient(row, practitioner=primary.get(row.id), survivor=row.merged_into_id) for row in rows]

    def primary_doctors(self, patients: list[int]) -> dict[int, tuple[int, str]]:
        """The id and the present name of each one's primary doctor at that moment."""
        primary = self.assignments.as_of(self.at).filter(patient__in=patients, is_primary=True)
        found = dict(primary.values_list("patient", "doctor"))
        names = dict(Doctor.objects.filter(pk__in=found.values()).values_list("pk", "name"))
        return {patient: (doctor, names.get(doctor, "")) for patient, doctor in found.items()}


class PractitionerContents(Contents):
    """The directory of doctors."""

    def rows(self) -> Any:
        return self.changed(DoctorEvent.objects.as_of(self.at))

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [write_practitioner(row) for row in rows]


class CareTeamContents(Contents):
    """Those of the patients who were not deleted. The rows are these patients."""

    def rows(self) -> Any:
        assigned = self.assignments.as_of(self.at, ended=True).filter(patient=OuterRef("id"))
        patients = PatientEvent.objects.owned_by(self.owner).as_of(self.at).filter(Exists(assigned))
        if self.since is None:
            return patients
        until = self.assignments.filter(changed_until(self.at))
        of_changed = until.filter(id__in=self.changed(until).values("id"))
        # Not correlated with the patients: PostgreSQL hashes it.
        return patients.filter(id__in=of_changed.values("patient_id"))

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        teams = self.find_teams([row.id for row in rows])
        names = doctor_names(teams)
        return [write_care_team(team, names) for team in teams]

    def find_teams(self, patients: list[int]) -> list[Team]:
        """The last state until the moment of the team of each of these patients."""
        until = self.assignments.filter(changed_until(self.at))
        own = until.filter(id__in=until.filter(patient__in=patients).values("id"))
        events = list(own.order_by("pgh_id"))
        ever_of: dict[int, set[int]] = {patient: set() for patient in patients}
        for event in events:
            ever_of.get(event.patient_id, set()).add(event.id)
        by_assignment: dict[int, list[Any]] = {}
        for event in events:
            by_assignment.setdefault(event.id, []).append(event)
        teams = []
        for patient, assignments in ever_of.items():
            own_events = [event for key in assignments for event in by_assignment[key]]
            *_, team = versions_of(patient, sorted(own_events, key=lambda event: int(event.pgh_id)))
            teams.append(team)
        return teams


CONTENTS: dict[str, type[Contents]] = {
    "Patient": PatientContents, "Practitioner": PractitionerContents, "CareTeam": CareTeamContents,
}  # fmt: skip


def find_export(view: Any) -> BulkExport:
    """The export that the path names. Raises Http404 for one of another caller, of another owner, or expired."""
    exports = BulkExport.objects.visible_to(view.request.user, view.owner)
    found: BulkExport = get_object_or_404(exports, pk=view.kwargs["pk"])
    return found


def contents_of(export: BulkExport, owner: RecordOwner) -> dict[str, Contents]:
    """What the files of an export hold, by resource type."""
    types = read_types(export.query, [*CONTENTS], lenient=True)
    return {name: CONTENTS[name](owner, export.created_at, read_since(export.query)) for name in types}


class BulkExportViewSet(FhirView, ActsForOwner, viewsets.ViewSet):
    """The kick-off, the status and the end of an export."""

    resource_type = OF_SYSTEM
    operation = Operation("export", "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export")
    parameters = {"kick_off": {"_outputFormat", "_since", "_type"}}
    writable_by_tokens = True
    action_roles = {"cancel": "read"}  # it ends a read of the caller's own

    @property
    def is_lenient(self) -> bool:
        return self.preferences.get("handling") == "lenient"

    def check_query(self, request: Request, known: Set[str]) -> None:
        if not (self.action == "kick_off" and self.is_lenient):
            super().check_query(request, known)

    def kick_off(self, request: Request) -> Response:
        if "respond-async" not in self.preferences:
            wanted = "Send `Prefer: respond-async`: the answer says where to ask for the files."
            raise Invalid(Issue("required", wanted, "http.Prefer"))
        query = request.query_params
        if format_of(query.get("_outputFormat", NDJSON)) not in OUTPUT_FORMATS:
            raise ValidationError({"_outputFormat": [f"Write {NDJSON}, or leave this out."]})
        read_since(query)
        read_types(query, [*CONTENTS], lenient=self.is_lenient)
        used = {name: query.getlist(name) for name in sorted(self.parameters["kick_off"]) if name in query}
        export = BulkExport.objects.start(request.user, self.owner, used)
        headers = {"Content-Location": self.status_url(export), "Preference-Applied": "respond-async"}
        return Response(None, 202, headers=headers)

    def status_url(self, export: BulkExport) -> str:
        return f"{self.base}/$export/{export.pk}"

    def status(self, request: Request, pk: int) -> Response:
        export = find_export(self)
        if not export.is_settled():
            headers = {"X-Progress": "waiting for writes that had begun before", "Retry-After": str(POLL_AGAIN)}
            return Response(None, 202, headers=headers)
        headers = {"Expires": http_date(export.expires_at.timestamp())}
        return Response(encode(self.manifest(export)), headers=headers, content_type="application/json")

    def manifest(self, export: BulkExport) -> dict[str, Any]:
        output = []
        for name, contents in contents_of(export, self.owner).items():
            count = count_resources(contents)
            if count != 0:
                counted = {} if count is None else {"count": count}
                output.append({"type": name, "url": f"{self.status_url(export)}/{name}", **counted})
        return {
            "transactionTime": instant(export.created_at),
            "request": link(f"{self.base}/$export", export.parameters),
            "requiresAccessToken": True,
            "output": output,
            "error": [],
        }

    def cancel(self, request: Request, pk: int) -> Response:
        find_export(self).delete()
        return Response(None, 202)


def count_resources(contents: Contents) -> int | None:
    """The number of resources; None if it takes too long to count them. The IG does not need it."""
    try:
        with transaction.atomic():
            count: int = contents.rows().count()
    except OperationalError:
        return None
    return count


class BulkNDJSON(ExportFormat):
    """A resource on each line, in UTF-8."""

    name, media_type, content_type = "ndjson", NDJSON, NDJSON

    def line(self, values: Any) -> bytes:
        return encode(values).encode() + b"\n"


class BulkFileNegotiation(FhirNegotiation):
    """NDJSON, which a client may ask for as JSON, since many send one `Accept` with every request."""

    types = JSON_TYPES | {NDJSON, "application/ndjson", "application/x-ndjson"}


class BulkFileViewSet(FhirView, ExportMixin):
    """A file of an export, with the limits of the exports of /api/, of which one runs at a time."""

    content_negotiation_class = BulkFileNegotiation
    resource_type: ClassVar[str]
    acts_for_owner = True
    filter_backends = []
    pagination_class = None
    selecting_actions = frozenset()

    def download(self, request: Request, pk: int) -> StreamedResponse:
        export = find_export(self)
        contents = contents_of(export, self.owner).get(self.resource_type)
        if contents is None or not export.is_settled():
            raise Http404
        self.written_as = BulkNDJSON([])
        if request.method == "HEAD":
            return self.as_file([])
        rows = Keyset(contents.rows(), ["id"], descending=True)
        self.stream = self.open_stream(rows, contents.represent_all)
        return self.as_file(self.stream)

    def kind_of_records(self) -> str:
        return self.resource_type


class PractitionerFileViewSet(BulkFileViewSet):
    resource_type = "Practitioner"
    queryset = DoctorEvent.objects.none()


class RecordedFileViewSet(BulkFileViewSet, RecordedExportMixin):
    path_names_patient = False

    @classmethod
    def access_action(cls, action: str) -> str:
        return super().access_action("export")  # the words of the exports of /api/


class PatientFileViewSet(RecordedFileViewSet):
    resource_type = "Patient"
    queryset = PatientEvent.objects.none()
    event_model = PatientEvent


class CareTeamFileViewSet(RecordedFileViewSet):
    resource_type = "CareTeam"
    queryset = MappingEvent.objects.none()
    event_model = MappingEvent


BULK_FILES: dict[str, Any] = {
    view.resource_type: view for view in (PatientFileViewSet, PractitionerFileViewSet, CareTeamFileViewSet)
}
