from django.apps import AppConfig


class MappingsConfig(AppConfig):
    name = "mappings"

    def ready(self) -> None:
        from mappings.inclusions import DOCTORS  # noqa: PLC0415  (needs the models)
        from patients.views import PatientViewSet  # noqa: PLC0415

        PatientViewSet.inclusions = {**PatientViewSet.inclusions, "doctors": DOCTORS}
