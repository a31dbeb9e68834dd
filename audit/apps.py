from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"

    def ready(self) -> None:
        from audit import checks  # noqa: F401, PLC0415  (registers itself)
        from audit.backlog import read_seal_gauges  # noqa: PLC0415  (needs the models)
        from audit.backup import SealsPart  # noqa: PLC0415
        from healthcare.operations.backup_parts import register_part  # noqa: PLC0415
        from healthcare.operations.database_gauges import register_gauges  # noqa: PLC0415

        register_gauges(
            read_seal_gauges,
            healthcare_audit_unsealed_rows="Rows of history and access log that no seal covers.",
            healthcare_audit_seal_age_seconds="Seconds since the last seal.",
        )
        register_part(SealsPart())
