"""/api/patients/: the caller's own patients."""

from django.db.models import QuerySet

from healthcare.api.schema import described
from healthcare.api.viewsets import RestorableViewSet
from patients.models import Patient
from patients.serializers import PatientSerializer


@described("patients", one="a patient", many="your patients")
class PatientViewSet(RestorableViewSet):
    """Patients are seen by nobody but the user who created them."""

    queryset = Patient.objects.none()
    serializer_class = PatientSerializer

    def get_queryset(self) -> QuerySet[Patient]:
        return self.shown(Patient.objects.owned_by(self.request.user))
