from django.apps import AppConfig


class FhirConfig(AppConfig):
    name = "fhir"
    verbose_name = "FHIR"

    def ready(self) -> None:
        from fhir.outcomes import ERROR_FORMAT  # noqa: PLC0415  (needs the apps)
        from healthcare.api.problems import OTHER_FORMATS  # noqa: PLC0415

        OTHER_FORMATS.append(ERROR_FORMAT)
