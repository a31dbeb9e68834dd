"""/api/auth/invitations/"""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.invitations.models import Invitation
from accounts.invitations.serializers import InvitationSerializer
from healthcare.api.idempotency import NoKeyMixin
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.rls.context import without_role


class InvitesUsers(BasePermission):
    message = "Ask a member of staff: only staff may invite people."

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user.is_staff)


class InvitationViewSet(NoKeyMixin, UnknownParametersViewSet):
    """Invitations to register. The admin lists and withdraws them."""

    queryset = Invitation.objects.none()
    serializer_class = InvitationSerializer
    permission_classes = [IsAuthenticated, InvitesUsers]

    @extend_schema(
        operation_id="auth_invitations_create",
        summary="Invite somebody to register",
        description="By staff: 403 for others. `invitation` is shown in this answer alone, and works for one "
        "registration. With an `email`, only that one can register with it. An `Idempotency-Key` is refused (400).",
        responses={201: InvitationSerializer, 403: PROBLEM},
    )
    def create(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with without_role():
            invitation = serializer.save(created_by=request.user)
        headers = {"Location": reverse("admin:accounts_invitation_change", args=[invitation.pk])}
        return Response(serializer.data, status=status.HTTP_201_CREATED, headers=headers)
