from rest_framework.routers import SimpleRouter

from accounts.views import (
    AccountViewSet,
    CredentialsViewSet,
    LogoutViewSet,
    PasswordViewSet,
    SessionEndViewSet,
    SessionViewSet,
)

router = SimpleRouter(use_regex_path=False)
router.register("auth/sessions", SessionViewSet, basename="sessions")
router.register("auth/sessions", SessionEndViewSet, basename="session")
router.register("auth", CredentialsViewSet, basename="credentials")
router.register("auth", AccountViewSet, basename="account")
router.register("auth", LogoutViewSet, basename="logout")
router.register("auth", PasswordViewSet, basename="password")

urlpatterns = router.urls
