from rest_framework.routers import SimpleRouter

from accounts.views import AccountViewSet, EntryViewSet, PasswordViewSet, SessionViewSet

router = SimpleRouter(use_regex_path=False)
router.register("auth/sessions", SessionViewSet, basename="session")
router.register("auth", EntryViewSet, basename="entry")
router.register("auth", AccountViewSet, basename="account")
router.register("auth", PasswordViewSet, basename="password")

urlpatterns = router.urls
