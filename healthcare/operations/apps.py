from django.apps import AppConfig
from django.conf import settings
from django.db.models import Q
from django.utils import timezone


class OperationsConfig(AppConfig):
    name = "healthcare.operations"
    label = "operations"

    def ready(self) -> None:
        from django.contrib.sessions.models import Session  # noqa: PLC0415
        from django.db import connection  # noqa: PLC0415

        from healthcare.operations import tidying  # noqa: PLC0415
        from healthcare.operations.clock import read_difference  # noqa: PLC0415
        from healthcare.operations.database_gauges import register_gauges  # noqa: PLC0415
        from healthcare.operations.models import Backup  # noqa: PLC0415  (needs the apps)

        register_gauges(
            lambda: {"healthcare_backup_age_seconds": Backup.objects.age()},
            healthcare_backup_age_seconds="Seconds since the data of the newest backup was read.",
        )
        register_gauges(
            lambda: {"healthcare_clock_difference_seconds": read_difference(connection)},
            healthcare_clock_difference_seconds="Seconds by which this machine's clock is ahead of the database's.",
        )
        tidying.register_expiring_rows(
            tidying.ExpiringRows(
                "sessions of the admin",
                Session,
                lambda: Q(expire_date__lt=timezone.now() - settings.RETENTION_ADMIN_SESSIONS),
            )
        )
