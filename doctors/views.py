"""/api/doctors/: the public directory. Anyone reads it, anyone with a token keeps it."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.permissions import IsAuthenticatedOrReadOnly

from audit.views import AS_OF, HistoryViewSet
from doctors.models import Doctor, DoctorEvent
from doctors.serializers import DoctorSerializer


@extend_schema_view(list=extend_schema(parameters=[AS_OF]), retrieve=extend_schema(parameters=[AS_OF]))
class DoctorViewSet(HistoryViewSet):
    """Doctors, public to read."""

    queryset = Doctor.objects.none()
    event_model = DoctorEvent
    serializer_class = DoctorSerializer
    permission_classes = [IsAuthenticatedOrReadOnly]

    def get_queryset(self) -> QuerySet:
        return DoctorEvent.objects.as_of(self.as_of) if self.as_of else Doctor.objects.active()
