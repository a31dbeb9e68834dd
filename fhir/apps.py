from functools import partial

from django.apps import AppConfig


class FhirConfig(AppConfig):
    name = "fhir"
    verbose_name = "FHIR"

    def ready(self) -> None:
        from doctors.models import Doctor  # noqa: PLC0415  (needs the apps)
        from fhir.importing import read_column  # noqa: PLC0415
        from fhir.outcomes import ERROR_FORMAT  # noqa: PLC0415
        from fhir.patient import PATIENT_MAPPING  # noqa: PLC0415
        from fhir.practitioner import PRACTITIONER_MAPPING  # noqa: PLC0415
        from healthcare.api.problems import OTHER_FORMATS  # noqa: PLC0415
        from healthcare.imports.fhir_column import READERS  # noqa: PLC0415
        from patients.models import Patient  # noqa: PLC0415

        OTHER_FORMATS.append(ERROR_FORMAT)
        READERS.update(
            {Patient: partial(read_column, PATIENT_MAPPING), Doctor: partial(read_column, PRACTITIONER_MAPPING)}
        )
