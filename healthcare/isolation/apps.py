from django.apps import AppConfig


class IsolationConfig(AppConfig):
    name = "healthcare.isolation"
    label = "isolation"

    def ready(self) -> None:
        from healthcare.isolation import checks  # noqa: F401, PLC0415  (registers itself)
