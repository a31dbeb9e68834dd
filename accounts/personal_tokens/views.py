"""/api/auth/tokens/"""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.client_address import client_address
from accounts.delegations.named_users import NamedUser
from accounts.identity import prove_identity_with_factor
from accounts.models import LoginSession
from accounts.personal_tokens.rules import create_token
from accounts.personal_tokens.serializers import (
    CreatedPersonalTokenSerializer,
    NewPersonalTokenSerializer,
    PersonalTokenSerializer,
)
from healthcare.api.idempotency import NoKeyMixin
from healthcare.api.schema import PROBLEM
from healthcare.api.token_scopes import NotByToken
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.rls.context import entered


def own_living_tokens(request: Request) -> QuerySet[LoginSession]:
    living = LoginSession.objects.live().tokens().filter(user_id=request.user.pk or 0)
    return living.annotate(owner_named=NamedUser("acting_for"))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PersonalTokensViewSet(NoKeyMixin, mixins.ListModelMixin, UnknownParametersViewSet):
    """The caller's living tokens, and new ones, which no token makes.

    Not one transaction: a wrong current password is counted, and the count commits.
    """

    queryset = LoginSession.objects.none()
    serializer_class = PersonalTokenSerializer

    def get_queryset(self) -> QuerySet[LoginSession]:
        return own_living_tokens(self.request)

    @extend_schema(
        operation_id="auth_tokens_list",
        summary="List your personal access tokens",
        description="Those that have not ended, without their secrets. They are among `GET /api/auth/sessions/`, too.",
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with entered(request.user.pk, request):
            return super().list(request, *args, **kwargs)

    @extend_schema(
        operation_id="auth_tokens_create",
        summary="Create a personal access token",
        description="What a script sends as its Bearer token instead of logging in. `token` is answered this once. A "
        "`read` token writes nothing (403 `insufficient_scope`), and no token changes the account, makes tokens or "
        "founds clinics (403 `not_by_token`). It ends at `expires_at`, when it is ended here or among the login "
        "sessions, and with a new password unless that is set with `keep_tokens`. 403 `not_a_delegate` unless the "
        "owner in `acting_for` has made you a delegate. 409 `too_many_tokens` beyond 20. 429 after repeated wrong "
        "passwords. An `Idempotency-Key` is refused (400): the stored answer would hold the secret.",
        request=NewPersonalTokenSerializer,
        responses={201: CreatedPersonalTokenSerializer, 403: PROBLEM, 409: PROBLEM, 429: PROBLEM},
    )
    def create(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = NewPersonalTokenSerializer(data=request.data, context=self.get_serializer_context())
        self.check_unknown_fields(serializer).is_valid(raise_exception=True)
        values = serializer.validated_data
        prove_identity_with_factor(request, values.pop("current_password"), values.pop("otp", None))
        user_agent, address = request.headers.get("User-Agent", ""), client_address(request) or None
        created = create_token(caller, **values, user_agent=user_agent, address=address)
        headers = {"Location": f"{request.path}{created.session.pk}/"}
        answer = CreatedPersonalTokenSerializer(created).data
        return Response(answer, status=status.HTTP_201_CREATED, headers=headers)


@extend_schema_view(
    retrieve=extend_schema(operation_id="auth_tokens_retrieve", summary="Read a personal access token"),
)
class PersonalTokenViewSet(mixins.RetrieveModelMixin, UnknownParametersViewSet):
    """One of the caller's living tokens."""

    queryset = LoginSession.objects.none()
    serializer_class = PersonalTokenSerializer
    writable_by_tokens = True  # a token ends itself, and no other
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[LoginSession]:
        return own_living_tokens(self.request)

    @extend_schema(
        operation_id="auth_tokens_destroy",
        summary="End a personal access token",
        description="It takes no password: this only takes access away. A token can end itself alone.",
        responses={204: None, 403: PROBLEM},
    )
    def destroy(self, request: Request, pk: int) -> Response:
        own: Any = request.auth
        token = self.get_object()
        if own.kind == LoginSession.Kind.TOKEN and own.pk != token.pk:
            raise NotByToken
        LoginSession.objects.filter(pk=token.pk).revoke()
        return Response(status=status.HTTP_204_NO_CONTENT)
