"""/api/auth/: registering, logging in and out, the own account and its sessions."""

from typing import Any

import pghistory
from django.contrib.auth import authenticate
from django.db import transaction
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken

from accounts.limits import LoginAttempt, address_of, count_registration
from accounts.models import LoginSession, User
from accounts.serializers import (
    LoginSerializer,
    LoginSessionSerializer,
    PasswordChangeSerializer,
    RefreshSerializer,
    RegistrationSerializer,
    TokenPairSerializer,
    UserSerializer,
    check_password_rules,
)
from accounts.tokens import pair
from healthcare.isolation.caller import enter


# Not one transaction a request: what a refused login counts, and what a replayed token revokes, must stay.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class EntryViewSet(GenericViewSet):
    """The ways in, open to anyone."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        # Without an authentication class DRF would answer 403 for a wrong password.
        return 'Bearer realm="api"'

    @extend_schema(operation_id="auth_register", responses={201: RegistrationSerializer})
    @action(detail=False, methods=["post"], serializer_class=RegistrationSerializer)
    def register(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        count_registration(request)
        with pghistory.context(actor=None, request_id=request._request.request_id):  # type: ignore[attr-defined]
            serializer.save()
        return Response(serializer.data, status=status.HTTP_201_CREATED)

    @extend_schema(operation_id="auth_login", responses={200: TokenPairSerializer})
    @action(detail=False, methods=["post"], serializer_class=LoginSerializer)
    def login(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        credentials = serializer.validated_data
        identifier = credentials.get("username") or credentials.get("email")
        user = authenticate(request._request, username=identifier, password=credentials["password"])
        session = start_session(user, request) if isinstance(user, User) else None
        if session is None:
            raise AuthenticationFailed("The username or the password is wrong.")
        return Response(pair(session))

    @extend_schema(operation_id="auth_refresh", responses={200: TokenPairSerializer})
    @action(detail=False, methods=["post"], serializer_class=RefreshSerializer)
    def refresh(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        session, token_id = session_of(serializer.validated_data["refresh"])
        session.token_id = session.rotate(token_id) or ""
        if not session.token_id:
            raise AuthenticationFailed("The refresh token is not valid; log in again.")
        return Response(pair(session))


def start_session(user: User, request: Request) -> LoginSession | None:
    """A session for a user whose password was just checked; None when it changed since, or the user was deactivated."""
    with transaction.atomic():
        unchanged = User.objects.select_for_update(no_key=True).filter(
            pk=user.pk, password=user.password, is_active=True
        )
        if not unchanged.exists():
            return None
        return LoginSession.objects.start(user, request.headers.get("User-Agent", ""), address_of(request) or None)


def session_of(refresh: str) -> tuple[LoginSession, str]:
    """The session and the token id of a genuine refresh token. AuthenticationFailed (401) for any other."""
    try:
        token = RefreshToken(refresh)  # type: ignore[arg-type]
        session_id = int(token["sid"])
    except (TokenError, KeyError, TypeError, ValueError) as error:
        raise AuthenticationFailed("The refresh token is not valid; log in again.") from error
    session = LoginSession.objects.live().filter(pk=session_id).select_related("user").first()
    if session is None:
        raise AuthenticationFailed("The refresh token is not valid; log in again.")
    return session, str(token["jti"])


class AccountViewSet(GenericViewSet):
    """The caller's own account."""

    serializer_class = UserSerializer

    @extend_schema(operation_id="auth_me")
    @action(detail=False, methods=["get"])
    def me(self, request: Request) -> Response:
        return Response(self.get_serializer(request.user).data)

    @extend_schema(operation_id="auth_me_update")
    @me.mapping.patch
    def update_me(self, request: Request) -> Response:
        serializer = self.get_serializer(request.user, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data)

    @extend_schema(operation_id="auth_logout", request=None, responses={204: None})
    @action(detail=False, methods=["post"], serializer_class=serializers.Serializer)
    def logout(self, request: Request) -> Response:
        LoginSession.objects.filter(pk=request.auth.pk).revoke()
        return Response(status=status.HTTP_204_NO_CONTENT)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PasswordViewSet(GenericViewSet):
    """Changing the own password. Not one transaction: a wrong current password is counted, and the count must stay."""

    serializer_class = PasswordChangeSerializer

    @extend_schema(operation_id="auth_password", responses={204: None})
    @action(detail=False, methods=["post"])
    def password(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user: Any = request.user
        attempt = LoginAttempt.begin(request, user.username, user)
        if not user.check_password(serializer.validated_data["current_password"]):
            raise serializers.ValidationError({"current_password": ["This is not the current password."]})
        attempt.succeed()
        check_password_rules(serializer.validated_data["new_password"], user, "new_password")
        with transaction.atomic():
            enter(user.pk, request)
            user.set_password(serializer.validated_data["new_password"])
            user.save(update_fields=["password"], keep=request.auth)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SessionViewSet(mixins.ListModelMixin, mixins.DestroyModelMixin, GenericViewSet):
    """The caller's live logins; deleting one logs that device out."""

    queryset = LoginSession.objects.none()
    serializer_class = LoginSessionSerializer
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[LoginSession]:
        return LoginSession.objects.live().filter(user_id=self.request.user.pk or 0)

    def perform_destroy(self, instance: LoginSession) -> None:
        LoginSession.objects.filter(pk=instance.pk).revoke()
