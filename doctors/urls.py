from rest_framework.routers import SimpleRouter

from doctors.views import DoctorViewSet

router = SimpleRouter(use_regex_path=False)
router.register("doctors", DoctorViewSet, basename="doctor")

urlpatterns = router.urls
