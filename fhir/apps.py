from functools import partial

from django.apps import AppConfig


class FhirConfig(AppConfig):
    name = "fhir"
    verbose_name = "FHIR"

    def ready(self) -> None:
        from accounts.models import User  # noqa: PLC0415  (needs the apps)
        from doctors.models import Doctor  # noqa: PLC0415
        from fhir.importing import read_column  # noqa: PLC0415
        from fhir.models import EXPIRED_EXPORTS  # noqa: PLC0415
        from fhir.outcomes import ERROR_FORMAT  # noqa: PLC0415
        from fhir.patient import PATIENT_MAPPING  # noqa: PLC0415
        from fhir.practitioner import PRACTITIONER_MAPPING  # noqa: PLC0415
        from fhir.stored_answers import answers_naming_practitioner, answers_naming_user  # noqa: PLC0415
        from healthcare.api.problems import OTHER_FORMATS  # noqa: PLC0415
        from healthcare.imports.fhir_column import READERS  # noqa: PLC0415
        from healthcare.operations.tidying import register_expiring_rows  # noqa: PLC0415
        from mappings.erasure import ANSWERS_NAMING  # noqa: PLC0415
        from patients.models import Patient  # noqa: PLC0415

        OTHER_FORMATS.append(ERROR_FORMAT)
        register_expiring_rows(EXPIRED_EXPORTS)
        ANSWERS_NAMING.update({Doctor: answers_naming_practitioner, User: answers_naming_user})
        READERS.update(
            {Patient: partial(read_column, PATIENT_MAPPING), Doctor: partial(read_column, PRACTITIONER_MAPPING)}
        )
