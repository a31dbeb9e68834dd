"""/api/auth/password/reset/, /api/auth/email/verify/ and /api/auth/email/: what links in e-mails confirm."""

from typing import Any

from django.db import transaction
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed, ErrorDetail, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import mail
from accounts.email_links import rules
from accounts.email_links.limits import Purpose, count_email, counted_token
from accounts.email_links.serializers import (
    EmailChangeSerializer,
    LinkRequestSerializer,
    LinkSerializer,
    PasswordResetSerializer,
)
from accounts.hashing_limit import hashing_slot
from accounts.identity import prove_identity
from accounts.models import User
from healthcare.api.idempotency import KEY_PARAMETER, Key, execute_once
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.rls.context import entered

NOT_CONFIGURED = "404 with the code `email_not_configured` where this server sends no e-mails."
MAIL_LIMITS = (
    f"At most 3 e-mails an hour are sent to one address, and 20 an hour for one client: then 429. {NOT_CONFIGURED}"
)
LINK_LIMITS = f"400 on `token` for one that does not work; 429 after 20 of them within an hour. {NOT_CONFIGURED}"


# Not one transaction per request: what is counted must commit.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class EmailViewSet(UnknownParametersViewSet):
    """Calls that exist where e-mail is configured."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not mail.is_configured():
            raise rules.EmailNotConfigured
        super().initial(request, *args, **kwargs)

    def validated(self, request: Request) -> dict[str, Any]:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data: dict[str, Any] = serializer.validated_data
        return data


class EmailLinkViewSet(EmailViewSet):
    """Send a link, and do what it is for: open to anyone, since a caller with the token has read the e-mail."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="auth_password_reset",
        summary="Ask for a new password",
        description="Sends a link to the e-mail of an active account. It answers the same for any address. "
        + MAIL_LIMITS,
        responses={202: None, 404: PROBLEM},
    )
    @action(detail=False, methods=["post"], url_path="password/reset", serializer_class=LinkRequestSerializer)
    def request_reset(self, request: Request) -> Response:
        rules.request_password_reset(request, self.validated(request)["email"])
        return Response(status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        operation_id="auth_password_reset_confirm",
        summary="Set a new password by a link",
        description="Ends every login session, verifies the e-mail, and leaves the second factor as it is; personal "
        f"access tokens too, unless the server ends them. {LINK_LIMITS}",
        parameters=[KEY_PARAMETER],
        responses={204: None, 404: PROBLEM},
    )
    @action(detail=False, methods=["post"], url_path="password/reset/confirm", serializer_class=PasswordResetSerializer)
    def confirm_reset(self, request: Request) -> Response:
        key = Key.of(request._request, None)
        data = self.validated(request)

        def confirm() -> Response:
            rules.reset_password(request, **data)
            return Response(status=status.HTTP_204_NO_CONTENT)

        with hashing_slot(), counted_token(request), transaction.atomic():
            return execute_once(key, confirm)

    @extend_schema(
        operation_id="auth_email_verify",
        summary="Ask for a link that verifies your e-mail",
        description="Sends a link to the e-mail of an active account, unless it is verified. It answers the same for "
        f"any address. {MAIL_LIMITS}",
        responses={202: None, 404: PROBLEM},
    )
    @action(detail=False, methods=["post"], url_path="email/verify", serializer_class=LinkRequestSerializer)
    def request_verification(self, request: Request) -> Response:
        rules.request_verification(request, self.validated(request)["email"])
        return Response(status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        operation_id="auth_email_verify_confirm",
        summary="Confirm an e-mail by a link",
        description="Verifies the e-mail of the account, or changes it to the one that was asked for at "
        f"`/api/auth/email/`. {LINK_LIMITS}",
        parameters=[KEY_PARAMETER],
        responses={204: None, 404: PROBLEM},
    )
    @action(detail=False, methods=["post"], url_path="email/verify/confirm", serializer_class=LinkSerializer)
    def confirm_email(self, request: Request) -> Response:
        key = Key.of(request._request, None)
        data = self.validated(request)

        def confirm() -> Response:
            rules.confirm_email(request, **data)
            return Response(status=status.HTTP_204_NO_CONTENT)

        with counted_token(request), transaction.atomic():
            return execute_once(key, confirm)


class EmailChangeViewSet(EmailViewSet):
    """Change the caller's e-mail."""

    serializer_class = EmailChangeSerializer

    @extend_schema(
        operation_id="auth_email",
        summary="Ask to change your e-mail",
        description="Sends a link to the new e-mail, and tells the present one. The e-mail, and a username that is the "
        "same, change when the link is opened. It answers the same for an e-mail that another account has. 429 after "
        f"repeated wrong passwords. {MAIL_LIMITS}",
        parameters=[KEY_PARAMETER],
        responses={202: None, 404: PROBLEM},
    )
    @action(detail=False, methods=["post"], url_path="email")
    def change_email(self, request: Request) -> Response:
        caller: Any = request.user
        key = Key.of(request._request, caller.pk)
        data = self.validated(request)
        if data["email"] == caller.email:
            raise ValidationError({"email": [ErrorDetail("This is your e-mail already; send another one.", "same")]})
        if key:  # replay before anything is counted
            with entered(caller.pk, request):
                key.claim()
        prove_identity(request, data["current_password"])
        is_allowed = count_email(request, Purpose.CHANGE, data["email"])

        def ask() -> Response:
            user = User.objects.get_queryset().lock_if_unchanged(caller).first()
            if user is None:
                raise AuthenticationFailed("The session has ended; log in again.")
            rules.request_email_change(request, user, data["email"], is_allowed=is_allowed)
            return Response(status=status.HTTP_202_ACCEPTED)

        with entered(caller.pk, request):
            return execute_once(key, ask)
