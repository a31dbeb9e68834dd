"""/api/auth/: registration, login, refresh, logout, the caller's account and its login sessions."""

from contextlib import nullcontext
from typing import Any, ClassVar

import pghistory
from django.conf import settings
from django.contrib.auth import authenticate
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import mail
from accounts.authentication import SessionJWTAuthentication
from accounts.email_links.rules import send_first_verification
from accounts.hashing_limit import hashing_slot
from accounts.identity import check_unchanged, prove_identity, prove_identity_with_factor
from accounts.leaving.rules import leave_account
from accounts.leaving.serializers import LeavingSerializer
from accounts.limits import count_registration, counted_email_change
from accounts.mail import Message, send_on_commit
from accounts.models import LoginSession, LoginSessionQuerySet, User
from accounts.serializers import (
    AccountSerializer,
    LoginSerializer,
    LoginSessionSerializer,
    PasswordChangeSerializer,
    RefreshSerializer,
    RegistrationSerializer,
    SessionEndSerializer,
    TokenPairSerializer,
    UserSerializer,
    check_password_rules,
)
from accounts.tokens import exchange_refresh_token, issue_token_pair, start_session
from healthcare.api.acting_for import OWN_RECORDS, parse_owner_name
from healthcare.api.conditional_requests import ConditionalRequests
from healthcare.api.idempotency import KEY_PARAMETER, IdempotentMixin, Key, execute_once
from healthcare.api.schema import PROBLEM
from healthcare.api.token_scopes import NotByToken
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.rls.context import enter, entered

PASSWORD_CHANGED = Message(
    "Your password was changed",
    "The password of your account was changed by somebody who knew it, and every other login has ended. If it was not "
    "you, reset your password, and tell those who operate this service.\n",
)


class RegistrationClosed(PermissionDenied):
    default_detail = "Nobody can register here; ask the staff for an account."
    members: ClassVar = {"code": "registration_closed"}


# Not one transaction per request: the count of a refused login and the revocation by a replayed token must commit.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class CredentialsViewSet(UnknownParametersViewSet):
    """Register, log in and refresh: open to anyone, since the body carries the credentials."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        # Without an authentication class DRF would answer 403 for a wrong password.
        return 'Bearer realm="api"'

    @extend_schema(
        operation_id="auth_register",
        summary="Register",
        description="At most 60 an hour from one address. Where the operator has closed registration, 403 with the "
        "code `registration_closed`; where people are invited, `invitation` is required. One that cannot be used is "
        "a 400.",
        parameters=[KEY_PARAMETER],
        responses={201: UserSerializer, 403: PROBLEM, 429: PROBLEM},
    )
    @action(detail=False, methods=["post"], serializer_class=RegistrationSerializer)
    def register(self, request: Request) -> Response:
        if settings.REGISTRATION == "closed":  # whatever the body is: it is not read
            raise RegistrationClosed
        key = Key.of(request._request, request.user.pk)
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)

        def save() -> Response:
            with pghistory.context(actor=None, request_id=request._request.request_id):  # type: ignore[attr-defined]
                user = serializer.save()
            send_first_verification(user)
            headers = {"Location": reverse("account-me")}
            return Response(serializer.data, status=status.HTTP_201_CREATED, headers=headers)

        with hashing_slot():
            count_registration(request)
            with transaction.atomic():
                return execute_once(key, save)

    @extend_schema(
        operation_id="auth_login",
        summary="Log in",
        description="Starts a login session. After repeated failures an account, an address or one from the other has "
        "to wait: 429. Who has a second factor sends a code as `otp`: 401 with the code `otp_required` without a right "
        "one. Where logins need a verified e-mail: 401 with the code `email_unverified` without one. With `acting_for` "
        "its requests act for that owner, as with the header `X-Acting-For`; 403 with the code `not_a_delegate` unless "
        "the owner has made you a delegate.",
        responses={200: TokenPairSerializer, 401: PROBLEM, 403: PROBLEM, 429: PROBLEM},
    )
    @action(detail=False, methods=["post"], serializer_class=LoginSerializer)
    def login(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        credentials = serializer.validated_data
        identifier = credentials.get("username") or credentials.get("email")
        user = authenticate(
            request._request,
            username=identifier,
            password=credentials["password"],
            otp=credentials.get("otp"),
            verified_email=settings.REQUIRE_VERIFIED_EMAIL,
        )
        acting_for = parse_owner_name(credentials.get("acting_for") or OWN_RECORDS)
        session = start_session(user, request, acting_for) if isinstance(user, User) else None
        if session is None:
            raise AuthenticationFailed("The username or the password is wrong.")
        return Response(issue_token_pair(session))

    @extend_schema(
        operation_id="auth_refresh",
        summary="Exchange a refresh token for a new pair",
        description="Each refresh token works once. Repeated within 10 seconds it returns the same pair again; used "
        "later, or after its successor was used, it ends its session.",
        responses={200: TokenPairSerializer, 401: PROBLEM},
    )
    @action(detail=False, methods=["post"], serializer_class=RefreshSerializer)
    def refresh(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        session = exchange_refresh_token(serializer.validated_data["refresh"], request)
        return Response(issue_token_pair(session))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class AccountViewSet(ConditionalRequests, UnknownParametersViewSet):
    """The caller's own account. Not one transaction: a wrong current password is counted, and the count commits."""

    serializer_class = AccountSerializer
    delete_has_body = True

    @extend_schema(operation_id="auth_me", summary="Read your account")
    @action(detail=False, methods=["get"])
    def me(self, request: Request) -> Response:
        return Response(self.get_serializer(request.user).data)

    @extend_schema(
        operation_id="auth_me_update",
        summary="Change your name or e-mail",
        description="Another e-mail requires `current_password`. Where this server sends e-mails it is refused: send "
        "it to `/api/auth/email/`. 429 after repeated wrong passwords, and after 20 e-mails within an hour that belong "
        "to other accounts.",
        request=UserSerializer,
        responses={200: AccountSerializer, 429: PROBLEM},
    )
    @me.mapping.patch
    def update_me(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = self.get_serializer(caller, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        unchanged = User.objects.select_for_update(no_key=True).filter(pk=caller.pk)
        counted: Any = nullcontext()
        if serializer.validated_data.get("email", caller.email) != caller.email:
            if mail.is_configured():
                message = "Send another e-mail to POST /api/auth/email/: it changes when the new one is confirmed."
                raise serializers.ValidationError({"email": [serializers.ErrorDetail(message, "unconfirmed")]})
            prove_identity(request, serializer.validated_data.get("current_password"))
            unchanged = User.objects.get_queryset().lock_if_unchanged(caller)
            counted = counted_email_change(request, caller)
        with counted, entered(caller.pk, request):
            # Lock the row: users have no version to compare.
            user = unchanged.first()
            if user is None:
                raise AuthenticationFailed("The session has ended; log in again.")
            self.check_preconditions(user)
            serializer.instance = user
            serializer.save()
        return Response(serializer.data)

    @extend_schema(
        operation_id="auth_leave",
        summary="End your account",
        description="It takes the current password, and a code if you have a second factor. 409 `records_left` while "
        "you own patients, deleted ones included: the member `records` counts them. 409 `last_manager` while a clinic "
        "would be left without a manager, and 409 `staff_account` for members of staff. Your sessions, tokens and "
        "delegations end, and nobody can log in to the account. 429 after repeated wrong passwords.",
        request=LeavingSerializer,
        responses={204: None, 403: PROBLEM, 409: PROBLEM, 429: PROBLEM},
    )
    @me.mapping.delete
    def leave(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = self.check_unknown_fields(LeavingSerializer(data=request.data))
        serializer.is_valid(raise_exception=True)
        sent = serializer.validated_data
        self.check_preconditions(caller)
        prove_identity_with_factor(request, sent["current_password"], sent.get("otp"))
        with entered(caller.pk, request):
            leave_account(caller)
        return Response(status=status.HTTP_204_NO_CONTENT)


class LogoutViewSet(IdempotentMixin, UnknownParametersViewSet):
    """Ends the login session of the request, which a repeated request with the same key finds ended."""

    writable_by_tokens = True

    @extend_schema(
        operation_id="auth_logout",
        summary="Log out",
        description="Ends this login session: its access and refresh tokens stop working at once.",
        request=None,
        responses={204: None},
    )
    @action(detail=False, methods=["post"], serializer_class=serializers.Serializer)
    def logout(self, request: Request) -> Response:
        self.check_unused_body(request, ignored={"refresh"})  # many clients send their refresh token
        LoginSession.objects.filter(pk=request.auth.pk).revoke()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except AuthenticationFailed:
            caller = SessionJWTAuthentication().caller_of_ended_session(request)
            if caller:
                user_id, session_id = caller
                enter(user_id, request)
                key = Key.of(request._request, user_id, session_id)
                if key:
                    key.replay()
            raise

    def find_key(self, request: Request) -> Key | None:
        return Key.of(request._request, request.user.pk, request.auth.pk)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PasswordViewSet(UnknownParametersViewSet):
    """Change the caller's password. Not one transaction: a wrong current password is counted, and the count commits."""

    serializer_class = PasswordChangeSerializer

    @extend_schema(
        operation_id="auth_password",
        summary="Change your password",
        description="Ends your other login sessions, and your personal access tokens unless `keep_tokens` is true.",
        parameters=[KEY_PARAMETER],
        responses={204: None, 429: PROBLEM},
    )
    @action(detail=False, methods=["post"])
    def password(self, request: Request) -> Response:
        user: Any = request.user
        key = Key.of(request._request, request.user.pk)
        if key:  # replay before the check: after the first request `current_password` is no longer the current one
            with entered(user.pk, request):
                key.claim()
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        prove_identity(request, serializer.validated_data["current_password"])
        check_password_rules(serializer.validated_data["new_password"], user, "new_password")

        def change() -> Response:
            # Of two concurrent changes the second proved the old password, and the first revoked its session.
            check_unchanged(user)
            user.set_password(serializer.validated_data["new_password"])
            keep_tokens = serializer.validated_data["keep_tokens"]
            user.save(update_fields=["password"], keep_session=request.auth, keep_tokens=keep_tokens)
            send_on_commit(PASSWORD_CHANGED, user.email)
            return Response(status=status.HTTP_204_NO_CONTENT)

        with entered(user.pk, request):
            return execute_once(key, change)


def own_live_sessions(request: Request) -> LoginSessionQuerySet:
    return LoginSession.objects.live().filter(user_id=request.user.pk or 0)


@extend_schema_view(list=extend_schema(operation_id="auth_sessions_list", summary="List your login sessions"))
class SessionViewSet(mixins.ListModelMixin, UnknownParametersViewSet):
    """The caller's live login sessions."""

    queryset = LoginSession.objects.none()
    serializer_class = LoginSessionSerializer

    def get_queryset(self) -> QuerySet[LoginSession]:
        return own_live_sessions(self.request)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class SessionEndViewSet(UnknownParametersViewSet):
    """Ends one of the caller's login sessions, which logs that device out.

    Not one transaction: a wrong current password is counted, and the count commits.
    """

    queryset = LoginSession.objects.none()
    serializer_class = SessionEndSerializer
    delete_has_body = True
    writable_by_tokens = True  # a token ends itself, and no other session
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[LoginSession]:
        return own_live_sessions(self.request)

    @extend_schema(
        operation_id="auth_sessions_destroy",
        summary="End a login session",
        description="Another session than this one requires `current_password` in the body. 429 after repeated wrong "
        "passwords.",
        request=SessionEndSerializer,
        responses={204: None, 403: PROBLEM, 429: PROBLEM},
    )
    def destroy(self, request: Request, pk: int) -> Response:
        caller: Any = request.user
        serializer = self.get_serializer(data=request.data)
        with entered(caller.pk, request):
            session = self.get_object()
        serializer.is_valid(raise_exception=True)
        own: Any = request.auth
        if session.pk != own.pk:
            if own.kind == LoginSession.Kind.TOKEN:
                raise NotByToken
            prove_identity(request, serializer.validated_data.get("current_password"))
        with entered(caller.pk, request):
            own_live_sessions(request).filter(pk=session.pk).revoke()
        return Response(status=status.HTTP_204_NO_CONTENT)
