"""/api/patients/<id>/file/: everything that is stored about a patient."""

import io
from typing import Any

from django.db import connection, transaction
from django.http import Http404, HttpResponse
from django.utils.decorators import method_decorator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import check_unchanged, prove_identity_with_factor
from accounts.leaving.serializers import LeavingSerializer
from audit.middleware import record_refusal
from audit.models import AccessLog, Basis
from healthcare.api.exceptions import Conflict, Gone
from healthcare.api.idempotency import NoKeyMixin
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.api.viewsets import ActsForOwner
from healthcare.rls.context import enter, entered, leave
from patients.erasure import merged_record_ids
from patients.merges import survivor_path
from patients.models import Patient
from patients.person_file.writer import TooLargeError, begin_reading_one_state, write_person_file

LARGEST_PERSON_FILE = 32 * 1024 * 1024  # bytes
FILE_ACCESS_ACTION = "patient.file"  # in the access log


class PersonFileTooLarge(Conflict):
    def __init__(self, patient_id: int) -> None:
        detail = (
            "This file would be larger than 32 MiB; ask an operator of this service to write it with "
            f"`manage.py export_patient {patient_id} --to FILE`."
        )
        super().__init__(detail, code="file_too_large")


# Not one transaction: a wrong current password is counted, and the count commits.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PersonFileViewSet(NoKeyMixin, ActsForOwner, UnknownParametersViewSet):
    """Everything that is stored about a patient of the owner of the request, an active or a deleted one."""

    queryset = Patient.objects.none()
    serializer_class = LeavingSerializer
    lookup_value_converter = "int"

    @extend_schema(
        operation_id="patients_file",
        summary="Get everything that is stored about a patient",
        description="A ZIP archive: a readable page, and as JSON the record, its history, the doctors, the reads, and "
        "the seals that cover them, with the records merged into it. `manifest.json` has the SHA-256 of every other "
        "part. It names no users. A deleted patient's file is answered too, a merged one's is with the record that was "
        "kept: 410. It takes the current password, and a code if you have a second factor. 409 `file_too_large` above "
        "32 MiB. 429 after repeated wrong passwords. An `Idempotency-Key` is refused (400): the answer is not stored.",
        request=LeavingSerializer,
        responses={
            (200, "application/zip"): OpenApiTypes.BINARY,
            403: PROBLEM,
            404: PROBLEM,
            409: PROBLEM,
            410: PROBLEM,
            429: PROBLEM,
        },
    )
    @action(detail=True, methods=["post"], pagination_class=None, filter_backends=[])
    def file(self, request: Request, pk: int) -> HttpResponse:
        caller: Any = request.user
        with entered(caller.pk, request, self.owner):
            self.find_patient(pk)
        sent = self.get_serializer(data=request.data)
        sent.is_valid(raise_exception=True)
        prove_identity_with_factor(request, sent.validated_data["current_password"], sent.validated_data.get("otp"))
        content = io.BytesIO()
        with transaction.atomic():
            if not connection.savepoint_ids:  # else a test has begun the transaction
                begin_reading_one_state()
            enter(caller.pk, request, self.owner)
            patient = self.find_patient(pk)
            leave()
            check_unchanged(caller)
            try:
                manifest = write_person_file(content, patient, most=LARGEST_PERSON_FILE)
            except TooLargeError as error:
                raise PersonFileTooLarge(pk) from error
            self.record_access(merged_record_ids([pk]), 200)
        return HttpResponse(
            content.getvalue(),
            content_type="application/zip",
            headers={
                "Content-Disposition": f'attachment; filename="patient-{pk}.zip"',
                "X-Manifest-SHA256": manifest,
            },
        )

    def find_patient(self, pk: int) -> Patient:
        """The owner's patient, deleted or not. Raises Http404, and Gone (410) for a merged one. Runs as the caller."""
        try:
            patient: Patient = get_object_or_404(Patient.objects.owned_by(self.owner).unmerged(), pk=pk)
        except Http404 as error:
            path = survivor_path(self.owner, pk)
            raise (error if path is None else Gone(path)) from None
        return patient

    def record_access(self, patient_ids: list[int], status: int) -> None:
        AccessLog.objects.record(**self.access(patient_ids, status), pure_read=False)

    def access(self, patient_ids: list[int], status: int) -> dict[str, Any]:
        refused = getattr(self.request, "refused_delegate", None)
        return {
            "actor": self.request.user.pk or refused or 0,
            "action": FILE_ACCESS_ACTION,
            "patient_ids": patient_ids,
            "basis": Basis.DELEGATE if refused else Basis.of(self.owner),
            "request_id": getattr(self.request, "request_id", ""),
            "outcome": status,
        }

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if connection.in_atomic_block:
            # DRF has marked the transaction around this view, which is none of the view's, to be rolled back.
            connection.set_rollback(False)
        return response

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Let `AuditMiddleware` record a refusal."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if final.status_code in {403, 404} and (request.user.pk or getattr(request, "refused_delegate", None)):
            record_refusal(request._request, self.access([int(self.kwargs["pk"])], final.status_code))
        return final
