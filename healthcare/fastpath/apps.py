from django.apps import AppConfig


class FastPathConfig(AppConfig):
    name = "healthcare.fastpath"
    label = "fastpath"

    def ready(self) -> None:
        from healthcare.fastpath import checks  # noqa: F401, PLC0415  (the checks register themselves)
