"""/api/doctors/: a public directory. Anyone reads it; `DIRECTORY_EDITORS` says who writes it."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticatedOrReadOnly

from audit.views import AS_OF, HistoryViewSet
from doctors.filters import DoctorFilter
from doctors.imports import DoctorImporter
from doctors.models import DOCTOR_SEARCH, Doctor, DoctorEvent
from doctors.permissions import DirectoryPermission
from doctors.serializers import DoctorSerializer
from healthcare.api.schema import PROBLEM, describe_operations, describe_view
from healthcare.api.viewsets import DELETED, RestorableViewSet
from healthcare.exports.views import ExportMixin
from healthcare.fastpath.views import FastPathMixin
from healthcare.imports.mixins import ImportMixin
from healthcare.ownership import Owner


@describe_view(
    list=extend_schema(parameters=[AS_OF, DELETED]),
    retrieve=extend_schema(parameters=[AS_OF]),
    import_records=extend_schema(operation_id="doctors_import", summary="Import doctors"),
    destroy=extend_schema(
        description="409 while the doctor has active assignments; end those first.",
        responses={204: None, 409: PROBLEM},
    ),
)
@describe_operations("doctors", one="a doctor", many="the doctors")
class DoctorViewSet(FastPathMixin, ImportMixin, ExportMixin, HistoryViewSet, RestorableViewSet):
    """Doctors. Anyone may read them."""

    queryset = Doctor.objects.none()
    event_model = DoctorEvent
    serializer_class = DoctorSerializer
    filterset_class = DoctorFilter
    search_index = DOCTOR_SEARCH
    importer_class = DoctorImporter
    more_columns = ["fhir"]
    ordering_fields = ["name", "created_at", "updated_at"]
    permission_classes = [IsAuthenticatedOrReadOnly, DirectoryPermission]
    fast_actions = frozenset(
        action
        for action in ("list", "retrieve", "create", "update", "partial_update", "history")
        if DirectoryPermission.equivalent(action)
    )
    cached_by_table_version = True

    @staticmethod
    def scope(owner: Owner) -> QuerySet:
        return Doctor.objects.all()

    @classmethod
    def past_scope(cls, owner: Owner) -> QuerySet:
        return DoctorEvent.objects.all()  # type: ignore[no-any-return]
