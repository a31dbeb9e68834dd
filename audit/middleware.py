"""Auditing that runs outside the transaction of a view."""

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
        refused = getattr(request, "refused_access", None)
        if refused:
            with transaction.atomic():
                AccessLog.objects.record(**refused, pure_read=True)
        return response
