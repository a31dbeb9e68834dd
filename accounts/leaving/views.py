"""/api/auth/me/file/: everything that is stored about the caller's account."""

from django.db import transaction
from django.utils.decorators import method_decorator
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.leaving.file import write_file
from accounts.leaving.file_serializers import AccountFileSerializer
from accounts.limits import count_account_file, log_security_event, user_key
from accounts.models import User
from healthcare.api.schema import PROBLEM
from healthcare.api.unknown_parameters import UnknownParametersViewSet
from healthcare.model_fields import LARGEST_ID
from healthcare.rls.context import leave

BEFORE = OpenApiParameter(
    "access_log_before",
    {"type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_ID},
    description="Answer with the part of the access log before this entry: `access_log.before` of the last answer.",
)


# Not one transaction: the count of a document commits, and a long read holds no snapshot.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class AccountFileViewSet(UnknownParametersViewSet):
    """Everything that is stored about the caller's account."""

    queryset = User.objects.none()
    serializer_class = AccountFileSerializer

    @extend_schema(
        operation_id="auth_file",
        summary="Get everything that is stored about your account",
        description="As one JSON document, without hashes and secrets. At most 10 an hour: 429. Lists have at most "
        "10,000 rows, the latest, and `shortened` names those that have more. Of the access log an answer has at most "
        "10,000 entries among a million of all users; repeat the request with `access_log_before` until "
        "`access_log.before` is null. Patients are not in the document, but at `GET /api/patients/`.",
        parameters=[BEFORE],
        responses={200: AccountFileSerializer, 429: PROBLEM},
    )
    @action(detail=False, methods=["get"], url_path="me/file", pagination_class=None, filter_backends=[])
    def file(self, request: Request) -> Response:
        before = read_position(request)
        leave()
        count_account_file(request)
        user = User.objects.get(pk=request.user.pk or 0)
        document = write_file(user, before)
        log_security_event("account file sent", request, account=user_key(user.pk))
        return Response(document, headers={"Content-Disposition": 'attachment; filename="account.json"'})


def read_position(request: Request) -> int | None:
    """The id in `access_log_before`; None without one. Raises ValidationError (400) for anything but an id."""
    text = request.query_params.get("access_log_before")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_ID)) and 0 < int(text) <= LARGEST_ID):
        message = "Send the number in `access_log.before` of the last answer."
        raise ValidationError({"access_log_before": [ErrorDetail(message, "invalid")]})
    return int(text)
