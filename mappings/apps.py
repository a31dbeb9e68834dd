from django.apps import AppConfig


class MappingsConfig(AppConfig):
    name = "mappings"
    verbose_name = "Assignments"

    def ready(self) -> None:
        """Add the doctors of a patient to the API of patients, which does not know of mappings."""
        from doctors.views import DoctorViewSet  # noqa: PLC0415  (need the models)
        from healthcare.api.extensions import (  # noqa: PLC0415
            register_added_field,
            register_filter,
            register_inclusion,
        )
        from mappings.filters import TreatingDoctorFilter  # noqa: PLC0415
        from mappings.inclusions import DOCTORS_INCLUSION  # noqa: PLC0415
        from mappings.person_file import CareTeamPart  # noqa: PLC0415
        from patients.filters import PatientFilter  # noqa: PLC0415
        from patients.person_file.parts import register_file_part  # noqa: PLC0415
        from patients.views import PatientViewSet  # noqa: PLC0415

        register_filter(PatientFilter, "doctor", TreatingDoctorFilter())
        register_inclusion(PatientViewSet, "doctors", DOCTORS_INCLUSION)
        register_added_field(PatientViewSet, "mapping")
        register_added_field(DoctorViewSet, "mapping")
        register_file_part(CareTeamPart())
