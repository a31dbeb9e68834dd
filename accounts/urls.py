from rest_framework.routers import SimpleRouter

from accounts.delegations.views import ClinicViewSet, DelegationViewSet, NoticeViewSet
from accounts.email_links.views import EmailChangeViewSet, EmailLinkViewSet
from accounts.invitations.views import InvitationViewSet
from accounts.leaving.views import AccountFileViewSet
from accounts.personal_tokens.views import PersonalTokensViewSet, PersonalTokenViewSet
from accounts.second_factor.views import SecondFactorViewSet
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
router.register("auth/tokens", PersonalTokensViewSet, basename="tokens")
router.register("auth/tokens", PersonalTokenViewSet, basename="token")
router.register("auth", CredentialsViewSet, basename="credentials")
router.register("auth", AccountFileViewSet, basename="account-file")
router.register("auth", AccountViewSet, basename="account")
router.register("auth", LogoutViewSet, basename="logout")
router.register("auth", PasswordViewSet, basename="password")
router.register("auth", EmailLinkViewSet, basename="email-link")
router.register("auth", EmailChangeViewSet, basename="email-change")
router.register("auth/invitations", InvitationViewSet, basename="invitation")
router.register("auth", SecondFactorViewSet, basename="second-factor")
router.register("clinics", ClinicViewSet, basename="clinic")
router.register("delegations", DelegationViewSet, basename="delegation")
router.register("notices", NoticeViewSet, basename="notice")

urlpatterns = router.urls
