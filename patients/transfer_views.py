"""/api/transfers/: offers of patients to another owner, and what the two sides do with them."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.delegations.named_users import NamedUser
from audit.models import AccessLog, Basis
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.api.viewsets import ActsForOwner
from patients import transfers
from patients.models import PatientTransfer
from patients.transfer_serializers import TransferSerializer

ANSWERS: dict[int, Any] = {200: TransferSerializer, 409: PROBLEM}


@extend_schema_view(
    list=extend_schema(
        operation_id="transfers_list",
        summary="List the transfers that you have offered or been offered",
        description="The latest first, settled ones included. They tell nothing about the patient.",
    )
)
class TransferViewSet(IdempotentMixin, ActsForOwner, mixins.ListModelMixin, UnknownParametersViewSet):
    """The transfers of the owner of the request, on either side."""

    writable_by_tokens = True
    queryset = PatientTransfer.objects.none()
    serializer_class = TransferSerializer
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[PatientTransfer]:
        rows = PatientTransfer.objects.of_either_side(self.owner)
        if self.action in {"accept", "decline"}:
            rows = rows.filter(to_owner=self.owner.pk)
        elif self.action == "withdraw":
            rows = rows.filter(from_owner=self.owner.pk)
        return rows.annotate(named_from=NamedUser("from_owner_id"), named_to=NamedUser("to_owner_id"))

    def paginate_queryset(self, queryset: QuerySet) -> Any:  # type: ignore[override]
        page = super().paginate_queryset(queryset) or []
        lapsed = [transfer.pk for transfer in page if transfer.current_state != transfer.state]
        if lapsed:
            transfers.settle_expired(PatientTransfer.objects.filter(pk__in=lapsed))
        return page

    @extend_schema(operation_id="transfers_accept", summary="Accept a patient", request=None, responses=ANSWERS)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: int) -> Response:
        """The patient is yours from now on, with the past: the records merged into it, the assignments and the history.
        The former owner finds nothing of it any more. 409 for a settled transfer, and for a patient who has been
        deleted, merged or put under a legal hold since."""
        response = self.change_state(request, transfers.accept)
        AccessLog.objects.record(
            actor=request.user.pk or 0,
            action="transfer.accept",
            patient_ids=[self.transfer.patient_id],
            basis=Basis.of(self.owner),
            request_id=getattr(request, "request_id", ""),
            outcome=response.status_code,
            pure_read=False,
        )
        return response

    @extend_schema(operation_id="transfers_decline", summary="Decline a patient", request=None, responses=ANSWERS)
    @action(detail=True, methods=["post"])
    def decline(self, request: Request, pk: int) -> Response:
        """The patient stays with the owner. 409 for a settled transfer."""
        return self.change_state(request, transfers.decline)

    @extend_schema(operation_id="transfers_withdraw", summary="Take an offer back", request=None, responses=ANSWERS)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: int) -> Response:
        """The patient stays yours. 409 for a settled transfer."""
        return self.change_state(request, transfers.withdraw)

    def change_state(self, request: Request, change: Callable[..., PatientTransfer]) -> Response:
        self.transfer: Any = self.get_object()
        self.check_unused_body(request)
        settled = change(self.transfer, request.user)
        self.transfer.state = settled.state
        return Response(self.get_serializer(self.transfer).data)
