from django.urls import include, path
from rest_framework.routers import DefaultRouter
from rest_framework_simplejwt.views import TokenObtainPairView

from benchmarks.references.stock.views import DoctorViewSet, PatientViewSet

router = DefaultRouter()
router.register("patients", PatientViewSet)
router.register("doctors", DoctorViewSet)

urlpatterns = [path("api/auth/login/", TokenObtainPairView.as_view()), path("api/", include(router.urls))]
