"""Importing doctors: see `healthcare.imports`."""

from collections import defaultdict
from collections.abc import Sequence

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import QuerySet
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from doctors.models import Doctor
from doctors.permissions import DirectoryPermission
from doctors.serializers import DoctorSerializer
from healthcare.imports.fhir_column import FhirField, read_fhir_column
from healthcare.imports.importer import Importer
from healthcare.imports.rows import Row

WITH_LICENSES = """
SELECT wanted.place, doctor.id FROM unnest(%(places)s::int[], %(numbers)s::text[]) wanted(place, number)
JOIN doctors_doctor doctor ON upper(doctor.license_number) = upper(wanted.number) AND doctor.deleted_at IS NULL
ORDER BY wanted.place, doctor.id
"""


def find_by_license(numbers: Sequence[str]) -> dict[int, list[int]]:
    """The ids of the active doctors with each of these numbers, by its place. The case does not count."""
    wanted = [(place, number) for place, number in enumerate(numbers) if number]
    found: dict[int, list[int]] = defaultdict(list)
    if wanted:
        places, texts = zip(*wanted, strict=True)
        with connection.cursor() as cursor:
            cursor.execute(WITH_LICENSES, {"places": [*places], "numbers": [*texts]})
            for place, key in cursor.fetchall():
                found[place].append(key)
    return found


class ImportedDoctorSerializer(DoctorSerializer):
    fhir = FhirField()

    class Meta(DoctorSerializer.Meta):
        fields = [*DoctorSerializer.Meta.fields, "fhir"]


class DoctorImporter(Importer):
    """The directory belongs to all, so imports of all callers wait for each other."""

    kind = "doctors"
    serializer_class = ImportedDoctorSerializer
    prepares_without_database = True
    lock_owner = 0

    @property
    def longest_run(self) -> int:
        """An update locks a doctor until the import ends, and everybody's assignments refer to doctors."""
        return 10 if self.run.options.on_match == "update" else super().longest_run

    def scope(self) -> QuerySet:
        return Doctor.objects.active()

    def prepare(self, rows: Sequence[Row]) -> None:
        read_fhir_column(rows, Doctor, self.own_server)

    def match(self, rows: Sequence[Row]) -> None:
        numbers = [self.valid_value(row, "license_number") or "" for row in rows]
        for place, keys in find_by_license(numbers).items():
            rows[place].matches = keys
        for row, number in zip(rows, numbers, strict=True):
            row.keys = frozenset([upper(number)] if number else [])

    def find_likely(self, rows: Sequence[Row]) -> list[list[int | Row]]:
        """Without a match by license number, an equal number counts as likely."""
        if self.run.options.match == "identifier":
            return super().find_likely(rows)
        numbers = [row.record.license_number for row in rows]
        found = find_by_license(numbers)
        earlier: dict[str, list[int | Row]] = defaultdict(list)
        likely: list[list[int | Row]] = []
        for place, (row, number) in enumerate(zip(rows, numbers, strict=True)):
            likely.append([*found.get(place, []), *earlier[upper(number)]])
            if number:
                earlier[upper(number)].append(row)
        return likely

    def may_update(self, row: Row) -> None:
        if settings.DIRECTORY_EDITORS != "creator" or row.record.created_by_id == self.run.caller_id:
            return
        if not get_user_model().objects.filter(pk=self.run.caller_id, is_staff=True).exists():
            row.refuse("", "permission_denied", DirectoryPermission.not_the_creator)

    @classmethod
    def check_undo(cls, request: Request, owner_id: int) -> None:
        rule, doctor = DirectoryPermission(), Doctor(created_by_id=owner_id)
        if not (rule.has_permission(request, None) and rule.has_object_permission(request, None, doctor)):
            raise PermissionDenied(rule.message)


def upper(text: str) -> str:
    """As PostgreSQL's `upper`, by which license numbers are unique: each character by itself, so that `ß` stays, which
    Python writes as two letters."""
    return "".join(large if len(large := character.upper()) == 1 else character for character in text)
