from django.apps import AppConfig


class RowLevelSecurityConfig(AppConfig):
    name = "healthcare.rls"
    label = "rls"

    def ready(self) -> None:
        from healthcare.rls import checks  # noqa: F401, PLC0415  (registers itself)
