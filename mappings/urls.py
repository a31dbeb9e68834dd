from django.urls import path
from rest_framework.routers import SimpleRouter

from mappings.views import MappingViewSet

router = SimpleRouter(use_regex_path=False)
router.register("mappings", MappingViewSet, basename="mapping")

urlpatterns = [
    *router.urls,
    path("patients/<int:pk>/doctors/", MappingViewSet.as_view({"get": "doctors"}), name="patient-doctors"),
    path("doctors/<int:pk>/patients/", MappingViewSet.as_view({"get": "patients"}), name="doctor-patients"),
]
