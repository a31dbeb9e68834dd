from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "healthcare.operations"
    label = "operations"

    def ready(self) -> None:
        from healthcare.operations.database_gauges import register_gauges  # noqa: PLC0415
        from healthcare.operations.models import Backup  # noqa: PLC0415  (needs the apps)

        register_gauges(
            lambda: {"healthcare_backup_age_seconds": Backup.objects.age()},
            healthcare_backup_age_seconds="Seconds since the data of the newest backup was read.",
        )
