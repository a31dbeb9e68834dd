"""/api/patients/: the caller's own patients."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.models import PatientAccess
from audit.serializers import PatientAccessSerializer
from audit.views import AS_OF, ReadsRecordedViewSet
from healthcare.api.schema import described
from healthcare.api.viewsets import DELETED, RestorableViewSet
from patients.filters import PatientFilter
from patients.models import PATIENT_SEARCH, Patient, PatientEvent
from patients.serializers import PatientSerializer


@extend_schema_view(list=extend_schema(parameters=[AS_OF, DELETED]), retrieve=extend_schema(parameters=[AS_OF]))
@described("patients", one="a patient", many="your patients")
class PatientViewSet(ReadsRecordedViewSet, RestorableViewSet):
    """Patients are seen by nobody but the user who created them."""

    queryset = Patient.objects.none()
    event_model = PatientEvent
    serializer_class = PatientSerializer
    filterset_class = PatientFilter
    search_index = PATIENT_SEARCH
    ordering_fields = ["name", "created_at", "updated_at"]

    def get_queryset(self) -> QuerySet:
        if self.as_of:
            then: QuerySet = PatientEvent.objects.owned_by(self.request.user).as_of(self.as_of)
            return then
        return self.shown(Patient.objects.owned_by(self.request.user))

    @extend_schema(operation_id="patients_access_log", responses=PatientAccessSerializer(many=True))
    @action(detail=True, url_path="access-log")
    def access_log(self, request: Request, pk: int) -> Response:
        """Who read this patient's data or was refused it, the latest first."""
        page = self.paginate_queryset(PatientAccess.objects.filter(patient_id=self.get_object().pk))
        return self.get_paginated_response(PatientAccessSerializer(page, many=True).data)
