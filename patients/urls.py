from rest_framework.routers import SimpleRouter

from patients.views import PatientViewSet

router = SimpleRouter(use_regex_path=False)
router.register("patients", PatientViewSet, basename="patient")

urlpatterns = router.urls
