"""The resource types that stand for records: the interactions of R4's RESTful API over the viewsets of /api/, whose
scopes, roles, access log and idempotency keys apply (https://hl7.org/fhir/R4/http.html)."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from django.db.models import FilteredRelation, Model, Q, QuerySet
from django.http import Http404
from rest_framework.permissions import IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request
from rest_framework.response import Response

from audit.history import Deleted, Event, Inserted
from audit.views import HistoryViewSet, ReadsRecordedViewSet
from doctors.models import Doctor, DoctorEvent
from doctors.permissions import DirectoryPermission
from doctors.serializers import DoctorSerializer
from fhir.bundles import CURSOR_PARAMETER, bundle, history_entry, page, parameters_of_page
from fhir.elements import Incoming, expression_of
from fhir.exceptions import Invalid, ResourceDeleted
from fhir.fast_reads import FastResourceRead, FastResourceSearch
from fhir.issues import Issue
from fhir.outcomes import CODES_OF_ERRORS
from fhir.patient import keep_patient, read_patient, write_patient
from fhir.practitioner import keep_practitioner, read_practitioner, write_practitioner
from fhir.references import check_references, own_reference
from fhir.search.query import Criterion
from fhir.search.records import PATIENT_PARAMETERS, PRACTITIONER_PARAMETERS, SORT_COLUMNS
from fhir.search.views import IF_NONE_EXIST, SearchMixin, find, lock_condition
from fhir.structure import check_structure
from fhir.versions import version_headers, version_tag, weak
from healthcare.api.cursors import Keyset
from healthcare.api.errors import flatten
from healthcare.api.exceptions import Conflict, PreconditionFailed
from healthcare.coverage import covered_by_fast_path
from healthcare.fastpath.views import FastPathMixin
from healthcare.ownership import Owner, Record
from mappings.models import Mapping as Assignment
from patients.models import Patient, PatientEvent
from patients.serializers import PatientSerializer


@covered_by_fast_path
class ResourceViewSet(FastPathMixin, SearchMixin, HistoryViewSet):
    """Read, vread, history, search, create, update and delete of the records of one resource type.

    A subclass maps them: `read` gives the values for the API's serializer, `keep` what is kept beside the row, and
    `represent` the resource of a record or of an event of its history.

    The fast path finds the same records by `scope` and `readable`. `related_values` are lookups of what a resource has
    of other rows, from the rows that `with_related` returns, and `resource_of` writes the resource of a row with these.
    """

    resource_type: ClassVar[str]
    interactions: ClassVar[Sequence[str]] = (  # R4's codes of those that the paths of `urls` answer
        "read", "vread", "update", "delete", "history-instance", "create", "search-type",
    )  # fmt: skip
    filter_backends = []
    pagination_class = None
    selecting_actions = frozenset()
    parameters = {"history": {"_count", CURSOR_PARAMETER}}
    sort_columns = SORT_COLUMNS
    fast_actions = frozenset({"retrieve", "list"})
    fast_implementations = {"retrieve": FastResourceRead, "list": FastResourceSearch}
    related_values: ClassVar[dict[str, str]] = {}

    def read(self, resource: dict[str, Any]) -> Incoming:
        raise NotImplementedError

    def keep(self, resource: dict[str, Any], row: Any) -> str:
        raise NotImplementedError

    def represent(self, row: Any) -> dict[str, Any]:
        raise NotImplementedError

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The resources of several records, in a number of statements that does not grow with them."""
        return [self.represent(row) for row in rows]

    @staticmethod
    def resource_of(row: Any) -> dict[str, Any]:
        raise NotImplementedError

    @staticmethod
    def with_related(records: QuerySet) -> QuerySet:
        return records

    @staticmethod
    def readable(records: Any) -> QuerySet:
        """Those that are not deleted."""
        return records.active()  # type: ignore[no-any-return]

    def get_queryset(self) -> QuerySet:
        return self.scope(self.owner)

    def url_of(self, key: int) -> str:
        return f"{self.base}/{self.resource_type}/{key}"

    # Reading

    @staticmethod
    def is_deleted(row: Any) -> bool:
        """Whether a record, or a version of one, is deleted."""
        return row.deleted_at is not None or getattr(row, "pgh_label", "") == Deleted.label

    def find_object(self) -> Any:
        try:
            return super().find_object()
        except Http404:
            if self.request.method != "PUT":
                raise
            # A delegate with the role `write` may not lock a deleted record, and may read that it is.
            record = self.scope(self.owner).filter(pk=self.kwargs["pk"]).first()
            if record is None or not self.is_deleted(record):
                raise
            raise ResourceDeleted from None

    def get_object(self) -> Any:
        record = super().get_object()
        if self.is_deleted(record) and self.request.method != "DELETE":
            raise ResourceDeleted
        return record

    def check_preconditions(self, record: Model) -> None:
        """Raise PreconditionFailed (412) for a write whose If-Match names another version, or whose If-None-Match names
        this one."""
        conditional = self.if_match or self.if_none_match
        if self.request.method in {"GET", "HEAD"} or not conditional or not isinstance(record, Record):
            return
        current = {"*", version_tag(record.version)}
        if (self.if_match and not current & weak(self.if_match)) or current & weak(self.if_none_match):
            raise PreconditionFailed
        record.pinned = self.if_match != {"*"}

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.answer_version(self.get_object())

    def answer_version(self, row: Any) -> Response:
        """A version of a record; 304 if the client has it (https://hl7.org/fhir/R4/http.html#cread)."""
        headers = version_headers(row)
        if headers["ETag"] in weak(self.if_none_match) or "*" in self.if_none_match:
            return self.answer_not_modified(self.represent(row), headers)
        return self.answer(self.represent(row), headers=headers)

    def events(self) -> QuerySet:
        """The history of the record in the path. Raises Http404 for one that is missing or another owner's."""
        events = self.past_scope(self.owner).filter(id=self.kwargs["pk"])
        if not self.scope(self.owner).filter(pk=self.kwargs["pk"]).exists():
            raise Http404
        return events

    def vread(self, request: Request, pk: int, version: int) -> Response:
        event = self.events().filter(version=version).order_by("-pgh_id").first()
        if event is None:
            raise Http404
        if self.is_deleted(event):
            raise ResourceDeleted
        return self.answer_version(event)

    def history(self, request: Request, pk: int) -> Response:  # type: ignore[override]
        """Every version, the latest first."""
        events, following = page(Keyset(self.events(), ["pgh_id"], descending=True), request.query_params)
        url = self.url_of(pk)
        entries = [self.history_entry(url, event) for event in events]
        used = parameters_of_page(request.query_params)
        return self.answer(bundle("history", f"{url}/_history", entries, used=used, following=following))

    def history_entry(self, url: str, event: Event) -> Any:
        row: Any = event
        if self.is_deleted(row):
            return history_entry(url, None, "DELETE", row.version, row.updated_at)
        method = "POST" if event.pgh_label == Inserted.label else "PUT"
        return history_entry(url, self.represent(event), method, row.version, row.updated_at)

    def searched(self, criteria: Sequence[Criterion]) -> QuerySet:
        records: QuerySet = self.scope(self.owner).active()  # type: ignore[attr-defined]
        return records

    # Writing

    def read_resource(self) -> dict[str, Any]:
        """The resource in the body. Raises Invalid (400) unless it is valid R4."""
        resource = dict(self.request.data)
        issues = check_structure(self.resource_type, resource)
        if issues:
            raise Invalid(*issues)
        check_references(resource, self.base, self.owner)
        return resource

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        condition = request.headers.get(IF_NONE_EXIST)
        if condition is not None and (existing := self.find_existing(condition)):
            return self.answer_existing(existing)
        record = self.save(self.read_resource())
        headers = version_headers(record) | {"Location": self.version_url(record)}
        return self.answer_write(lambda: self.represent(record), 201, headers)

    def find_existing(self, condition: str) -> Any:
        """The record that fulfils the condition of a conditional create (https://hl7.org/fhir/R4/http.html#ccreate);
        None if there is none. Raises PreconditionFailed (412) if there are several."""
        lock_condition(self.resource_type, self.owner.pk, condition)
        found = find(self, condition)
        if len(found) > 1:
            raise PreconditionFailed(
                "Several resources match If-None-Exist; send a condition that at most one matches."
            )
        return self.scope(self.owner).get(pk=found[0]) if found else None

    def answer_existing(self, record: Any) -> Response:
        self.action = "retrieve"  # in the access log: the answer tells what is on record
        if isinstance(self, ReadsRecordedViewSet):
            self.note_reads({record.pk})
        headers = version_headers(record) | {"Location": self.version_url(record)}
        return self.answer_write(lambda: self.represent(record), 200, headers)

    def version_url(self, record: Any) -> str:
        return f"{self.url_of(record.pk)}/_history/{record.version}"

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        record = self.get_object()
        resource = self.read_resource()
        if resource.get("id") != str(record.pk):
            raise Invalid(
                Issue("value", "Send the id of the path as the id of the resource.", f"{self.resource_type}.id")
            )
        record = self.save(resource, record)
        return self.answer_write(lambda: self.represent(record), 200, version_headers(record))

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        record = self.get_object()
        if not self.is_deleted(record):
            self.perform_destroy(record)
        return Response(None, 204)

    def save(self, resource: dict[str, Any], record: Any = None) -> Any:
        """Store the resource as a new record, or in this one. Raises Invalid."""
        incoming = self.read(resource)
        context = self.get_serializer_context()
        serializer_class: Any = self.serializer_class
        serializer = serializer_class(record, data=incoming.values, partial=record is not None, context=context)
        if not serializer.is_valid():
            raise Invalid(*issues_of(serializer.errors, incoming))
        row = copy.copy(record) or serializer.Meta.model()
        for name, value in serializer.validated_data.items():
            setattr(row, name, value)
        row.complete()
        self.check_against(resource, record)
        kept = self.keep(resource, row)
        return serializer.save(fhir=kept) if record else serializer.save(created_by_id=self.owner.pk, fhir=kept)

    def check_against(self, resource: dict[str, Any], record: Any) -> None:
        """Raises Invalid (422) where the resource contradicts what other records say of this one."""


def issues_of(errors: Any, incoming: Incoming) -> Iterator[Issue]:
    """The issues of a serializer's errors, one of each kind about an element: two columns may come from it."""
    found: dict[tuple[str, str], Issue] = {}
    for error in flatten(errors):
        code, expression = CODES_OF_ERRORS.get(error["code"], "value"), expression_of(incoming, error["pointer"])
        found.setdefault((code, expression), Issue(code, error["detail"], expression))
    yield from found.values()


@covered_by_fast_path
class PatientFhirViewSet(ResourceViewSet, ReadsRecordedViewSet):
    """Patient: https://hl7.org/fhir/R4/patient.html."""

    resource_type = "Patient"
    queryset = Patient.objects.none()
    event_model = PatientEvent
    serializer_class = PatientSerializer
    search_parameters = PATIENT_PARAMETERS
    reads_replicas = True
    related_values = {
        "practitioner_id": "primary_assignment__doctor",
        "practitioner_name": "primary_assignment__doctor__name",
    }

    @staticmethod
    def scope(owner: Owner) -> QuerySet:
        records: QuerySet = Patient.objects.owned_by(owner)
        return records

    def read(self, resource: dict[str, Any]) -> Incoming:
        return read_patient(resource)

    def keep(self, resource: dict[str, Any], row: Any) -> str:
        return keep_patient(resource, row, practitioner=self.primary_doctor(row))

    @staticmethod
    def resource_of(row: Any) -> dict[str, Any]:
        practitioner = (row.practitioner_id, row.practitioner_name) if row.practitioner_id else None
        return write_patient(row, practitioner=practitioner, survivor=row.merged_into_id)

    @staticmethod
    def with_related(records: QuerySet) -> QuerySet:
        primary = Q(mappings__is_primary=True, mappings__ended_at=None)
        return records.annotate(primary_assignment=FilteredRelation("mappings", condition=primary))  # type: ignore[no-any-return]

    @staticmethod
    def readable(records: Any) -> QuerySet:
        return records.active() | records.merged()  # type: ignore[no-any-return]

    def represent(self, row: Any) -> dict[str, Any]:
        return write_patient(row, practitioner=self.primary_doctor(row), survivor=row.merged_into_id)

    def represent_all(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        primary = primary_doctors(row.id for row in rows)
        return [write_patient(row, practitioner=primary.get(row.id), survivor=row.merged_into_id) for row in rows]

    @staticmethod
    def is_deleted(row: Any) -> bool:
        return ResourceViewSet.is_deleted(row) and row.merged_into_id is None

    def get_object(self) -> Any:
        record = super().get_object()
        if record.merged_into_id is not None and self.request.method in {"PUT", "DELETE"}:
            raise Conflict("This patient was merged into the one in its `link`; use that one.")
        return record

    def searched(self, criteria: Sequence[Criterion]) -> QuerySet:
        patients = Patient.objects.owned_by(self.owner)
        merged = patients.none() if self.is_indexed(criteria) else patients.merged()
        found: QuerySet = patients.active() | merged
        return found

    @staticmethod
    def is_indexed(criteria: Sequence[Criterion]) -> bool:
        """Whether records that were merged into others are left out: R4 has them found as inactive ones only
        (https://hl7.org/fhir/R4/patient.html#links)."""
        return not any(one.name == "active" and {"false"} & {*one.values} for one in criteria)

    def primary_doctor(self, row: Any) -> tuple[int, str] | None:
        """The id and the name of the patient's primary doctor at present; none for a version of the past."""
        if row.pk is None or isinstance(row, Event):
            return None
        return primary_doctors([row.pk]).get(row.pk)

    def check_against(self, resource: dict[str, Any], record: Any) -> None:
        """A practitioner of ours in `generalPractitioner` must be the primary doctor, whom mappings decide."""
        primary = self.primary_doctor(record) if record else None
        for place, one in enumerate(resource.get("generalPractitioner", ())):
            found = own_reference(one.get("reference", ""), self.base)
            if found and found[0] == "Practitioner" and (primary is None or found[1] != str(primary[0])):
                raise Invalid(
                    Issue(
                        "business-rule",
                        "The general practitioner is the primary doctor of the patient; assign one by /api/mappings/.",
                        f"Patient.generalPractitioner[{place}]",
                    ),
                    status=422,
                )


def primary_doctors(patients: Iterable[int]) -> dict[int, tuple[int, str]]:
    """The id and the name of the primary doctor at present of each of these patients who has one."""
    primary = Assignment.objects.active().filter(patient__in=[*patients], is_primary=True)
    return {patient: (key, name) for patient, key, name in primary.values_list("patient", "doctor", "doctor__name")}


@covered_by_fast_path
class PractitionerFhirViewSet(ResourceViewSet):
    """Practitioner: https://hl7.org/fhir/R4/practitioner.html. Anybody may read it, as the directory of doctors."""

    resource_type = "Practitioner"
    queryset = Doctor.objects.none()
    event_model = DoctorEvent
    serializer_class = DoctorSerializer
    search_parameters = PRACTITIONER_PARAMETERS
    permission_classes = [IsAuthenticatedOrReadOnly, DirectoryPermission]

    def get_permissions(self) -> Any:
        if self.action == "search":
            return []  # a read, by POST
        # What a public record held before may have been removed on purpose: see `HistoryViewSet`.
        of_the_past = {"history", "vread"} & {*(self.action_map or {}).values()}
        return [IsAuthenticated()] if of_the_past else super().get_permissions()

    @staticmethod
    def scope(owner: Owner) -> QuerySet:
        return Doctor.objects.all()

    @classmethod
    def past_scope(cls, owner: Owner) -> QuerySet:
        return DoctorEvent.objects.all()  # type: ignore[no-any-return]

    def read(self, resource: dict[str, Any]) -> Incoming:
        return read_practitioner(resource)

    def keep(self, resource: dict[str, Any], row: Any) -> str:
        return keep_practitioner(resource, row)

    @staticmethod
    def resource_of(row: Any) -> dict[str, Any]:
        return write_practitioner(row)

    def represent(self, row: Any) -> dict[str, Any]:
        return self.resource_of(row)
