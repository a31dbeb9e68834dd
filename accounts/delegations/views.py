"""/api/clinics/, /api/delegations/ and /api/notices/."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.delegations import rules
from accounts.delegations.models import DelegateRole, Delegation, Notice
from accounts.delegations.named_users import NamedUser
from accounts.delegations.notices import notices_requested
from accounts.delegations.serializers import (
    ClinicSerializer,
    DelegationSerializer,
    NewClinicSerializer,
    NewDelegationSerializer,
    NoticeSerializer,
)
from accounts.delegations.user_lookup import look_up_user
from accounts.limits import count_registration, counted_names
from accounts.models import User
from healthcare.api.acting_for import RoleTooLow
from healthcare.api.conditional_requests import ConditionalRequests
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.pagination import read_flag
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.api.viewsets import ActsForOwner
from healthcare.rls.context import without_role

DIRECTION = OpenApiParameter(
    "direction",
    {"type": "string", "enum": ["given", "received"]},
    description="`given` lists the delegations that the owner has given, `received` those that others have given them. "
    "Without it both.",
)
ACTIVE_DELEGATIONS = OpenApiParameter(
    "active", {"type": "boolean", "default": True}, description="`false` lists those that have ended instead."
)
OWN_DELEGATION = "Ask the owner or another manager: nobody changes their own delegation. You may end it (DELETE)."


class FoundsClinics(BasePermission):
    message = "Ask a member of staff: only staff may found clinics."

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.method != "POST" or settings.CLINICS == "anyone" or request.user.is_staff


@extend_schema_view(
    list=extend_schema(operation_id="clinics_list", summary="List the clinics that you may act for"),
    retrieve=extend_schema(operation_id="clinics_retrieve", summary="Read a clinic"),
)
class ClinicViewSet(
    IdempotentMixin,
    ConditionalRequests,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    UnknownParametersViewSet,
):
    """The clinics that the caller may act for."""

    queryset = User.objects.none()
    serializer_class = ClinicSerializer
    permission_classes = [IsAuthenticated, FoundsClinics]
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[User]:
        caller: Any = self.request.user
        return User.objects.get_queryset().clinics_of(caller)

    @extend_schema(
        operation_id="clinics_create",
        summary="Found a clinic",
        description="An account that owns records and that nobody logs in to. You become its first manager: act for it "
        "with `X-Acting-For`. 403 where the operator lets only staff found clinics. 429 after 20 taken or unknown "
        "usernames within an hour, and beyond 60 an hour from one address.",
        request=NewClinicSerializer,
        responses={201: ClinicSerializer, 403: PROBLEM, 429: PROBLEM},
    )
    def create(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = NewClinicSerializer(data=request.data, context=self.get_serializer_context())
        self.check_unknown_fields(serializer).is_valid(raise_exception=True)
        with counted_names(request, caller):
            count_registration(request)
            clinic = rules.found_clinic(**serializer.validated_data, manager=caller)
        headers = {"Location": f"{request.path}{clinic.pk}/"}
        return Response(self.get_serializer(clinic).data, status=status.HTTP_201_CREATED, headers=headers)

    @extend_schema(
        operation_id="clinics_partial_update",
        summary="Change the name of a clinic",
        description="403 `role_too_low` unless you manage it.",
        responses={200: ClinicSerializer, 403: PROBLEM},
    )
    def partial_update(self, request: Request, pk: int) -> Response:
        clinic = self.get_object()
        received = Delegation.objects.living().filter(owner=clinic, delegate=request.user.pk)
        if not received.filter(role=DelegateRole.MANAGE).exists():
            raise RoleTooLow
        serializer = self.get_serializer(clinic, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        with without_role():
            clinic = get_object_or_404(User.objects.select_for_update(no_key=True), pk=clinic.pk)
        self.check_preconditions(clinic)
        if "name" in serializer.validated_data:
            rules.rename_clinic(clinic, serializer.validated_data["name"])
        return Response(self.get_serializer(clinic).data)


@extend_schema_view(
    list=extend_schema(
        operation_id="delegations_list",
        summary="List your delegations",
        description="Those that you have given and received; with `X-Acting-For` those that the owner has given.",
        parameters=[DIRECTION, ACTIVE_DELEGATIONS],
    ),
    retrieve=extend_schema(operation_id="delegations_retrieve", summary="Read a delegation"),
)
class DelegationViewSet(
    IdempotentMixin,
    ConditionalRequests,
    ActsForOwner,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    UnknownParametersViewSet,
):
    """The delegations of the owner for whom the request acts; without one, those that the caller gave and received."""

    queryset = Delegation.objects.none()
    serializer_class = DelegationSerializer
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[Delegation]:
        delegations = Delegation.objects.visible_to(self.request.user, self.owner).with_names()
        if self.action == "list":
            return self.narrow(delegations)
        return delegations if self.request.method in SAFE_METHODS else delegations.living()

    def narrow(self, delegations: Any) -> QuerySet[Delegation]:
        """Those that `direction` and `active` select."""
        direction = self.request.query_params.get("direction")
        if direction not in {None, "given", "received"}:
            raise ValidationError({"direction": [ErrorDetail("Write given or received.", "invalid_choice")]})
        if direction:
            side = "owner" if direction == "given" else "delegate"
            delegations = delegations.filter(**{side: self.owner.pk})
        active = read_flag(self.request.query_params, "active", default=True)
        found: QuerySet[Delegation] = delegations.living() if active else delegations.past()
        return found

    def get_object(self) -> Delegation:
        """The delegation of the path; for a write, as it is after its row is locked."""
        found: Delegation = super().get_object()
        if self.request.method not in SAFE_METHODS:
            with without_role():
                rules.lock_delegation(found)
            found = super().get_object()
            self.check_preconditions(found)
        return found

    def respond(self, delegation: Delegation, **response: Any) -> Response:
        named = Delegation.objects.with_names().get(pk=delegation.pk)
        return Response(self.get_serializer(named).data, **response)

    @extend_schema(
        operation_id="delegations_create",
        summary="Let another user act for you",
        description="By the owner, or by a manager who acts for the owner. It holds from the next request on. 429 "
        "after 20 unknown usernames within an hour.",
        request=NewDelegationSerializer,
        responses={201: DelegationSerializer, 403: PROBLEM, 429: PROBLEM},
    )
    def create(self, request: Request) -> Response:
        caller: Any = request.user
        serializer = NewDelegationSerializer(data=request.data, context=self.get_serializer_context())
        self.check_unknown_fields(serializer).is_valid(raise_exception=True)
        values = serializer.validated_data
        delegate = look_up_user(request, values.pop("delegate"), "delegate")
        with without_role():
            owner = User.objects.get(pk=self.owner.pk or 0)
        delegation = rules.give_delegation(owner, delegate, by=caller, **values)
        headers = {"Location": f"{request.path}{delegation.pk}/"}
        return self.respond(delegation, status=status.HTTP_201_CREATED, headers=headers)

    @extend_schema(
        operation_id="delegations_partial_update",
        summary="Change the role, the end or the note of a delegation",
        description="403 for your own delegation, which only the owner or another manager changes. 409 `last_manager` "
        "if it would leave a clinic without a manager.",
        responses={200: DelegationSerializer, 403: PROBLEM, 409: PROBLEM},
    )
    def partial_update(self, request: Request, pk: int) -> Response:
        caller: Any = request.user
        delegation = self.get_object()
        if delegation.delegate_id == caller.pk:
            raise PermissionDenied(OWN_DELEGATION)
        serializer = self.get_serializer(delegation, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        return self.respond(rules.change_delegation(delegation, by=caller, **serializer.validated_data))

    @extend_schema(
        operation_id="delegations_destroy",
        summary="End a delegation",
        description="By the owner, by a manager who acts for the owner, or by the delegate. 409 `last_manager` if it "
        "would leave a clinic without a manager.",
        responses={204: None, 403: PROBLEM, 409: PROBLEM},
    )
    def destroy(self, request: Request, pk: int) -> Response:
        caller: Any = request.user
        rules.revoke_delegation(self.get_object(), by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(
    list=extend_schema(
        operation_id="notices_list",
        summary="List your unread notices",
        description="Of delegations (`delegation_given`, `delegation_changed`, `delegation_ended`) and of transfers "
        "(`transfer_offered` and the like) that concern you, or a clinic that you manage.",
    )
)
class NoticeViewSet(mixins.ListModelMixin, UnknownParametersViewSet):
    """The caller's unread notices."""

    writable_by_tokens = True
    queryset = Notice.objects.none()
    serializer_class = NoticeSerializer
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[Notice]:
        return Notice.objects.unread().received_by(self.request.user).annotate(by_named=NamedUser("by_id"))

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        notices_requested.send(sender=Notice, user=request.user)
        return super().list(request, *args, **kwargs)

    @extend_schema(operation_id="notices_destroy", summary="Mark a notice as read", responses={204: None})
    def destroy(self, request: Request, pk: int) -> Response:
        notice = self.get_object()
        Notice.objects.filter(pk=notice.pk).update(read_at=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)
