"""/api/auth/otp/: the caller's second factor."""

from typing import Any

from django.db import transaction
from django.urls import reverse
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import check_unchanged, prove_identity, prove_identity_with_factor
from accounts.limits import SessionAttempt
from accounts.second_factor.rules import FACTOR_REMOVED, begin_factor, confirm_factor, remove_factor
from accounts.second_factor.serializers import (
    FactorBeginSerializer,
    FactorConfirmSerializer,
    FactorRemoveSerializer,
    NewFactorSerializer,
    NewRecoveryCodesSerializer,
)
from healthcare.api.idempotency import NoKeyMixin
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.rls.context import leave


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class SecondFactorViewSet(NoKeyMixin, UnknownParametersViewSet):
    """Set up and remove the caller's second factor. Not one transaction: wrong passwords and codes are counted, and the
    counts commit; so does a code that was used."""

    delete_has_body = True

    def get_serializer_class(self) -> Any:
        # DRF gives the methods of one path the serializer of the first.
        return FactorRemoveSerializer if self.action == "remove" else super().get_serializer_class()

    @extend_schema(
        operation_id="auth_otp_begin",
        summary="Begin a second factor",
        description="Gives the secret for an authenticator app, which is not shown again. Logins ask for a code once "
        "`POST /api/auth/otp/confirm/` has received one; before that, a repeated request gives another secret. 409, "
        "with the code `otp_enrolled`, if you have a confirmed one. 429 after repeated wrong passwords.",
        request=FactorBeginSerializer,
        responses={201: NewFactorSerializer, 409: PROBLEM, 429: PROBLEM},
    )
    @action(detail=False, methods=["post"], serializer_class=FactorBeginSerializer)
    def otp(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        prove_identity(request, serializer.validated_data["current_password"])
        with transaction.atomic():
            check_unchanged(caller)
            factor = begin_factor(caller)
        headers = {"Location": reverse("second-factor-otp")}
        return Response(NewFactorSerializer(factor).data, status=status.HTTP_201_CREATED, headers=headers)

    @extend_schema(
        operation_id="auth_otp_confirm",
        summary="Confirm a second factor",
        description="From now on logins ask for a code. Gives ten recovery codes, which are not shown again. 409, with "
        "the code `otp_not_enrolled` before `POST /api/auth/otp/`, or `otp_enrolled` if you have a confirmed one. 429 "
        "after repeated wrong codes.",
        request=FactorConfirmSerializer,
        responses={200: NewRecoveryCodesSerializer, 409: PROBLEM, 429: PROBLEM},
    )
    @action(detail=False, methods=["post"], url_path="otp/confirm", serializer_class=FactorConfirmSerializer)
    def confirm(self, request: Request) -> Response:
        caller: Any = request.user
        session: Any = request.auth
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        leave()
        attempt = SessionAttempt.begin(request, session.pk, caller.pk)
        with transaction.atomic():
            check_unchanged(caller)
            codes = confirm_factor(request, caller, serializer.validated_data["otp"])
        if codes is None:
            message = "This is not the code of this secret; send the one that your app shows now."
            raise serializers.ValidationError({"otp": [message]})
        attempt.succeed()
        return Response(NewRecoveryCodesSerializer({"recovery_codes": codes}).data)

    @extend_schema(
        operation_id="auth_otp_remove",
        summary="Remove your second factor",
        description="Removes its recovery codes, too. If you have lost the app, send a recovery code as `otp`. 404 "
        "without a second factor. 429 after repeated wrong passwords or codes.",
        request=FactorRemoveSerializer,
        responses={204: None, 404: PROBLEM, 429: PROBLEM},
    )
    @otp.mapping.delete
    def remove(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        proof = serializer.validated_data
        prove_identity_with_factor(request, proof["current_password"], proof.get("otp"))
        with transaction.atomic():
            check_unchanged(caller)
            if not remove_factor(request, caller, FACTOR_REMOVED):
                raise NotFound
        return Response(status=status.HTTP_204_NO_CONTENT)
