"""Auditing that runs outside the transaction of a view."""

from typing import Any

import pghistory
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from audit.models import AccessLog
from healthcare.api.middleware import Middleware


class AuditMiddleware(Middleware):
    """Sets the actor of history events for changes in the admin, and records refused reads after their transaction has
    been rolled back."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method == "POST" and request.path_info.startswith("/admin/"):
            with pghistory.context(actor=request.user.pk, request_id=request.request_id):  # type: ignore[attr-defined]
                return self.get_response(request)
        response = self.get_response(request)
        refused = getattr(request, "refused_accesses", ())
        if refused:
            with transaction.atomic():
                for access in refused:
                    AccessLog.objects.record(**access, pure_read=True)
        return response


def record_refusal(request: HttpRequest, access: dict[str, Any]) -> None:
    """Have a refused access recorded after the transaction of the request. `access` is what `record` takes."""
    vars(request).setdefault("refused_accesses", []).append(access)
