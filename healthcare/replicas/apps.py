from django.apps import AppConfig


class ReplicasConfig(AppConfig):
    name = "healthcare.replicas"
    label = "replicas"

    def ready(self) -> None:
        from healthcare.operations.backup_parts import register_part  # noqa: PLC0415
        from healthcare.operations.tidying import ExpiringRows, register_expiring_rows  # noqa: PLC0415
        from healthcare.replicas.backup import OwnerWritesPart  # noqa: PLC0415  (needs the apps)
        from healthcare.replicas.models import OwnerWrite  # noqa: PLC0415
        from healthcare.replicas.position import is_old  # noqa: PLC0415

        register_part(OwnerWritesPart())
        register_expiring_rows(ExpiringRows("old numbers of transactions", OwnerWrite, is_old))
