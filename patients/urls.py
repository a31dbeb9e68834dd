from rest_framework.routers import SimpleRouter

from patients.person_file.views import PersonFileViewSet
from patients.transfer_views import TransferViewSet
from patients.views import PatientViewSet

router = SimpleRouter(use_regex_path=False)
router.register("patients", PatientViewSet, basename="patient")
router.register("patients", PersonFileViewSet, basename="person")
router.register("transfers", TransferViewSet, basename="transfer")

urlpatterns = router.urls
