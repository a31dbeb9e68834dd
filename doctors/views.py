"""/api/doctors/: the public directory. Anyone reads it, anyone with a token keeps it."""

from django.db.models import QuerySet
from rest_framework.permissions import IsAuthenticatedOrReadOnly

from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from healthcare.api.viewsets import RestorableViewSet


class DoctorViewSet(RestorableViewSet):
    """Doctors, public to read."""

    queryset = Doctor.objects.none()
    serializer_class = DoctorSerializer
    permission_classes = [IsAuthenticatedOrReadOnly]

    def get_queryset(self) -> QuerySet[Doctor]:
        return self.shown(Doctor.objects.all())
