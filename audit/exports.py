"""Exports of records about patients, each batch of which is recorded as read before it is sent."""

from collections.abc import Sequence
from typing import Any

from audit.models import AccessLog, Basis
from audit.patient_data import patient_ids_of
from audit.views import ReadsRecordedViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.exports.views import ExportMixin


@covered_by_fast_path  # which serves the other actions
class RecordedExportMixin(ExportMixin, ReadsRecordedViewSet):
    """Adds /export/ to the path of a list of records about patients."""

    def record_export(self, records: Sequence[Any]) -> None:
        AccessLog.objects.record(
            self.request.user.pk or 0,
            self.access_action("export"),
            patient_ids_of(records),
            basis=Basis.of(self.owner),
            request_id=getattr(self.request, "request_id", ""),
            outcome=200,
            pure_read=False,
        )
