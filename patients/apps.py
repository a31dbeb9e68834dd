from django.apps import AppConfig


class PatientsConfig(AppConfig):
    name = "patients"

    def ready(self) -> None:
        # They register themselves.
        from patients import checks, leaving, legal_hold, owners, transfer_lapses  # noqa: F401, PLC0415
        from patients.person_file import contents  # noqa: PLC0415  (needs the models)

        contents.register()
