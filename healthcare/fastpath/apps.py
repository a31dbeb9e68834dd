from django.apps import AppConfig
from django.core.signals import request_started


class FastPathConfig(AppConfig):
    name = "healthcare.fastpath"
    label = "fastpath"

    def ready(self) -> None:
        from healthcare.fastpath import checks, execution  # noqa: F401, PLC0415  (the checks register themselves)

        request_started.connect(execution.skip_health_check, dispatch_uid="healthcare.fastpath.skip_health_check")
