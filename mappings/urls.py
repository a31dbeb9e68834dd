from django.urls import path

from healthcare.api.routing import as_view_by_method
from mappings.views import DoctorPatientsViewSet, MappingDoctorsViewSet, MappingViewSet, PatientDoctorsViewSet

urlpatterns = [
    path(
        "mappings/",
        MappingViewSet.as_view({"get": "list", "post": "create"}, suffix="List"),
        name="mapping-list",
    ),
    path(
        "mappings/export/",
        MappingViewSet.as_view({"get": "export"}, **MappingViewSet.export.kwargs),
        name="mapping-export",
    ),
    # GET takes the id of a patient here, the other methods the id of a mapping: the contract names one path for both.
    path(
        "mappings/<int:pk>/",
        as_view_by_method(
            (MappingViewSet, {"patch": "partial_update", "delete": "destroy"}),
            (MappingDoctorsViewSet, {"get": "list"}),
            suffix="Instance",
        ),
        name="mapping-detail",
    ),
    path(
        "mappings/import/",
        MappingViewSet.as_view({"post": "import_records"}, **MappingViewSet.import_records.kwargs),
        name="mapping-import",
    ),
    path("assignments/<int:pk>/", MappingViewSet.as_view({"get": "retrieve"}, suffix="Instance"), name="assignment"),
    path(
        "mappings/<int:pk>/history/",
        MappingViewSet.as_view({"get": "history"}, **MappingViewSet.history.kwargs),
        name="mapping-history",
    ),
    path("patients/<int:pk>/doctors/", PatientDoctorsViewSet.as_view({"get": "list"}), name="patient-doctors"),
    path("doctors/<int:pk>/patients/", DoctorPatientsViewSet.as_view({"get": "list"}), name="doctor-patients"),
]
