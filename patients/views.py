"""/api/patients/: the caller's own patients."""

from django.db.models import Q, QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from audit.models import PatientAccess
from audit.serializers import PatientAccessSerializer
from audit.views import AS_OF, ReadsRecordedViewSet
from healthcare.api.schema import described
from healthcare.api.viewsets import DELETED, RestorableViewSet
from patients import merges
from patients.filters import PatientFilter
from patients.models import PATIENT_SEARCH, Patient, PatientEvent
from patients.serializers import MergeSerializer, PatientSerializer

NO_DUPLICATE = ErrorDetail("There is no such record.", "does_not_exist")


@extend_schema_view(list=extend_schema(parameters=[AS_OF, DELETED]), retrieve=extend_schema(parameters=[AS_OF]))
@described("patients", one="a patient", many="your patients")
class PatientViewSet(ReadsRecordedViewSet, RestorableViewSet):
    """Patients are seen by nobody but the user who created them."""

    queryset = Patient.objects.none()
    event_model = PatientEvent
    serializer_class = PatientSerializer
    succeeded = frozenset(
        {"retrieve", "update", "partial_update", "destroy", "restore", "access_log", "merge", "unmerge"}
    )
    filterset_class = PatientFilter
    search_index = PATIENT_SEARCH
    ordering_fields = ["name", "created_at", "updated_at"]

    def get_queryset(self) -> QuerySet:
        if self.as_of:
            then: QuerySet = PatientEvent.objects.owned_by(self.request.user).as_of(self.as_of)
            return then
        mine = Patient.objects.owned_by(self.request.user)
        if self.action == "history":
            return mine.active() | mine.merged()
        return self.shown(mine.unmerged())

    def successor(self) -> str | None:
        return merges.successor(self.request.user, self.kwargs["pk"])

    @extend_schema(operation_id="patients_access_log", responses=PatientAccessSerializer(many=True))
    @action(detail=True, url_path="access-log")
    def access_log(self, request: Request, pk: int) -> Response:
        """Who read this patient's data or was refused it, the latest first."""
        page = self.paginate_queryset(PatientAccess.objects.filter(patient_id=self.get_object().pk))
        return self.get_paginated_response(PatientAccessSerializer(page, many=True).data)

    @extend_schema(operation_id="patients_merge", summary="Merge a duplicate into a patient", request=MergeSerializer)
    @action(detail=True, methods=["post"])
    def merge(self, request: Request, pk: int) -> Response:
        """Two records of one person become one: what this patient's says nothing of is filled from the duplicate, whose
        assignments become this patient's. Where both have an active assignment of the same doctor, or a primary doctor,
        this patient's stays. The duplicate answers 410 from then on, but for its history."""
        pair = self.locked_pair(Q(deleted_at=None))
        return Response(self.get_serializer(merges.merge(*pair)).data)

    @extend_schema(operation_id="patients_unmerge", summary="Take a duplicate out again", request=MergeSerializer)
    @action(detail=True, methods=["post"])
    def unmerge(self, request: Request, pk: int) -> Response:
        """Undo a merge: the duplicate is back with its values and assignments, and what this patient had from it is
        empty again. What was changed or added since stays."""
        pair = self.locked_pair(Q(merged_into=pk))
        return Response(self.get_serializer(merges.unmerge(*pair)).data)

    def locked_pair(self, state: Q) -> tuple[Patient, Patient]:
        """The patient of the path and the `duplicate` of the body, which is in that state.

        Locked in the order of their ids, so that two opposite merges wait for each other. Raises Http404 for the
        first and ValidationError (400) for the second.
        """
        wanted = MergeSerializer(data=self.request.data)
        wanted.is_valid(raise_exception=True)
        key, duplicate_key = self.kwargs["pk"], wanted.validated_data["duplicate"]
        mine = Patient.objects.owned_by(self.request.user)
        rows = mine.filter(Q(pk=key, deleted_at=None) | (Q(pk=duplicate_key) & state))
        found = {patient.pk: patient for patient in rows.order_by("pk").locked()}
        survivor, duplicate = found.pop(key, None), found.pop(duplicate_key, None)
        if survivor is None:
            raise Http404
        self.require(survivor)
        if duplicate is None:
            raise ValidationError({"duplicate": [NO_DUPLICATE]})
        self.patients_read |= {survivor.pk, duplicate.pk}
        return survivor, duplicate
