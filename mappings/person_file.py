"""What mappings add to the file of a person: the doctors who treat or have treated them."""

from collections.abc import Iterator, Sequence
from typing import Any

from doctors.serializers import DoctorSerializer
from mappings.models import Mapping, MappingEvent
from mappings.serializers import MappingSerializer
from patients.person_file.contents import (
    CHANGE_COLUMNS,
    ROWS_AT_ONCE,
    admin_section,
    describe_change,
    each_with_previous,
    imports_section,
)
from patients.person_file.parts import FilePart, Section, Subject


class CareTeamPart(FilePart):
    name = "care_team"
    tables = ("mappings_mapping", "mappings_mappingevent", "doctors_doctor")

    def sections(self, subject: Subject) -> Sequence[Section]:
        mappings = Mapping.objects.filter(patient__in=subject.record_ids)
        return [
            Section(
                "assignments",
                "Doctors, present and past",
                self.assignments(mappings),
                {
                    "doctor": "Doctor", "role": "Role", "is_primary": "Primary", "reason": "Reason", "notes": "Notes",
                    "started_at": "Start", "ended_at": "End",
                },
            ),
            Section(
                "changes",
                "Changes of the assignments",
                self.changes(mappings, subject),
                CHANGE_COLUMNS | {"record": "Assignment"},
                table=MappingEvent._meta.db_table,
            ),
            admin_section(Mapping, mappings.values_list("pk", flat=True), subject),
            imports_section(Mapping, mappings.values_list("pk", flat=True)),
        ]  # fmt: skip

    def assignments(self, mappings: Any) -> Iterator[dict[str, Any]]:
        serializer, of_doctor = MappingSerializer(), DoctorSerializer()
        for mapping in mappings.select_related("doctor").order_by("-pk").iterator(ROWS_AT_ONCE):
            row = serializer.to_representation(mapping)
            row.pop("created_by")
            yield row | {"doctor": of_doctor.to_representation(mapping.doctor)}

    def changes(self, mappings: Any, subject: Subject) -> Iterator[dict[str, Any]]:
        """The history of the present assignments. One that a merge had moved here, which is undone, is about another
        person."""
        events = MappingEvent.objects.filter(id__in=mappings.values("pk"))
        for event in each_with_previous(events):
            yield describe_change(event, subject)
