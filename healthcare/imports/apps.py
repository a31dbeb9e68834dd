from datetime import timedelta

from django.apps import AppConfig
from django.db.models import Q
from django.utils import timezone

STAGING_KEPT = timedelta(days=7)  # since the command has read or written the last row


class ImportsConfig(AppConfig):
    name = "healthcare.imports"
    label = "imports"

    def ready(self) -> None:
        from healthcare.imports.models import StagedFile, StagedRow  # noqa: PLC0415  (needs the apps)
        from healthcare.operations.tidying import ExpiringRows, register_expiring_rows  # noqa: PLC0415

        # A partial import goes on behind its last batch even then, since its file is read again.
        register_expiring_rows(
            ExpiringRows(
                "rows of unfinished imports",
                StagedRow,
                lambda: Q(file__used_at__lt=timezone.now() - STAGING_KEPT),
            ),
            ExpiringRows(
                "unfinished imports that have written nothing",
                StagedFile,
                lambda: Q(parent=None, used_at__lt=timezone.now() - STAGING_KEPT),
            ),
        )
