from django.apps import AppConfig


class DoctorsConfig(AppConfig):
    name = "doctors"

    def ready(self) -> None:
        from doctors import leaving  # noqa: F401, PLC0415  (registers itself)
