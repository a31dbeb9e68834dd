from django.apps import AppConfig


class APIConfig(AppConfig):
    name = "healthcare.api"
    label = "api"

    def ready(self) -> None:
        from healthcare.api.models import EXPIRED_RECORDS  # noqa: PLC0415  (needs the apps)
        from healthcare.operations.tidying import register_expiring_rows  # noqa: PLC0415

        register_expiring_rows(EXPIRED_RECORDS)
