"""/api/doctors/: the public directory. Anyone reads it, anyone with a token keeps it."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.permissions import IsAuthenticatedOrReadOnly

from doctors.models import Doctor
from doctors.serializers import DoctorSerializer
from healthcare.api.schema import PROBLEM, described
from healthcare.api.viewsets import RestorableViewSet


@extend_schema_view(
    destroy=extend_schema(
        description="409 while the doctor treats anybody: end those assignments first.",
        responses={204: None, 409: PROBLEM},
    )
)
@described("doctors", one="a doctor", many="the doctors")
class DoctorViewSet(RestorableViewSet):
    """Doctors, public to read."""

    queryset = Doctor.objects.none()
    serializer_class = DoctorSerializer
    permission_classes = [IsAuthenticatedOrReadOnly]

    def get_queryset(self) -> QuerySet[Doctor]:
        return self.shown(Doctor.objects.all())
