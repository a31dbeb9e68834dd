"""/api/doctors/: the public directory. Anyone reads it, anyone with a token keeps it."""

from django.db.models import QuerySet
from rest_framework.permissions import IsAuthenticatedOrReadOnly

from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from healthcare.api.errors import Conflict
from healthcare.api.viewsets import RecordViewSet
from healthcare.ownership import Record


class DoctorViewSet(RecordViewSet):
    """Doctors, public to read."""

    queryset = Doctor.objects.none()
    serializer_class = DoctorSerializer
    permission_classes = [IsAuthenticatedOrReadOnly]

    def get_queryset(self) -> QuerySet[Doctor]:
        return Doctor.objects.active()

    def perform_destroy(self, instance: Record) -> None:
        doctor = Doctor.objects.locked().get(pk=instance.pk)
        if doctor.mappings.active().exists():
            raise Conflict("This doctor treats patients; end those assignments first.")
        super().perform_destroy(doctor)
