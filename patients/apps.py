from django.apps import AppConfig


class PatientsConfig(AppConfig):
    name = "patients"

    def ready(self) -> None:
        from patients import checks, legal_hold, transfer_lapses  # noqa: F401, PLC0415  (register themselves)
