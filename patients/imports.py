"""Importing patients: see `healthcare.imports`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from healthcare.imports.fhir_column import FhirField, read_fhir_column
from healthcare.imports.importer import Importer
from healthcare.imports.rows import Row
from healthcare.ownership import RecordOwner
from healthcare.search.likeness import Vocabulary, WordLikeness
from patients.duplicates import lock_against_duplicates
from patients.identifiers import OLD
from patients.likely_in_batch import BatchPatient, Earlier, find_likely_in_batch
from patients.models import Patient
from patients.serializers import PatientSerializer

# The owner's active patients with one of these numbers, exactly as it is written. The terms of search find them; old
# own numbers of merged patients count as own ones.
# OFFSET 0 keeps the planner from another order than by the two indexes.
WITH_NUMBERS = """
SELECT DISTINCT wanted.place, found.id
FROM unnest(%(places)s::int[], %(systems)s::text[], %(values)s::text[]) wanted(place, system, value), LATERAL (
    SELECT record FROM patients_patientterm
    WHERE owner = %(owner)s AND NOT hidden AND term = 'id:' || search_key(wanted.value) OFFSET 0
) named, LATERAL (
    SELECT id FROM patients_patient
    WHERE id = named.record AND created_by_id = %(owner)s AND deleted_at IS NULL
    AND CASE WHEN wanted.system <> '' THEN identifiers @> jsonb_build_array(
        jsonb_build_object('system', wanted.system, 'value', wanted.value)
    ) ELSE identifier = wanted.value OR identifiers @> jsonb_build_array(
        jsonb_build_object('system', %(old)s::text, 'value', wanted.value)
    ) END
    OFFSET 0
) found
ORDER BY wanted.place, found.id
"""


def find_by_numbers(owner: RecordOwner, wanted: Sequence[tuple[int, str, str]]) -> dict[int, list[int]]:
    """The ids of the owner's active patients with these numbers, by place. Each number is a place, a system, which is
    empty for own numbers, and a value."""
    found: dict[int, list[int]] = defaultdict(list)
    if wanted:
        places, systems, values = zip(*wanted, strict=True)
        parameters = {"places": [*places], "systems": [*systems], "values": [*values], "owner": owner.pk, "old": OLD}
        with connection.cursor() as cursor:
            cursor.execute(WITH_NUMBERS, parameters)
            for place, key in cursor.fetchall():
                found[place].append(key)
    return found


class ImportedPatientSerializer(PatientSerializer):
    fhir = FhirField()

    class Meta(PatientSerializer.Meta):
        fields = [*PatientSerializer.Meta.fields, "fhir"]


class PatientImporter(Importer):
    kind = "patients"
    serializer_class = ImportedPatientSerializer
    prepares_without_database = True
    searched_tables = ["patients_patient", "patients_patientterm"]
    creates_patients = True

    def scope(self) -> QuerySet:
        return Patient.objects.owned_by(self.run.owner).active()

    def lock(self) -> None:
        lock_against_duplicates(self.run.owner_id)

    def prepare(self, rows: Sequence[Row]) -> None:
        """A stated age gives way to a birth: it was right on the day of the file."""
        read_fhir_column(rows, Patient, self.own_server)
        for row in rows:
            values = row.values
            if "age" in values and values["age"] not in (None, ""):
                if values.get("birth_date") or values.get("birth_year"):
                    del values["age"]
                else:
                    values.pop("birth_year", None)  # an empty one, which the age fills
            elif "age" in values and ("birth_date" in values or "birth_year" in values):
                del values["age"]

    def match(self, rows: Sequence[Row]) -> None:
        wanted: list[tuple[int, str, str]] = []
        for place, row in enumerate(rows):
            row.keys = frozenset(self.numbers_in(row))
            wanted += ((place, system, value) for system, value in row.keys)
        for place, keys in find_by_numbers(self.run.owner, wanted).items():
            rows[place].matches = keys

    def numbers_in(self, row: Row) -> Iterable[tuple[str, str]]:
        """Each number with its system, the empty text for own and old ones, without invalid numbers."""
        if number := self.valid_value(row, "identifier"):
            yield "", number
        for pair in self.valid_value(row, "identifiers") or []:
            yield "" if pair["system"] == OLD else pair["system"], pair["value"]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(WordLikeness())

    def prepare_search(self, row: Row) -> None:
        row.prepared = BatchPatient.of_plain_name(row.record)

    def find_likely(self, rows: Sequence[Row]) -> list[list[int | Row]]:
        found = find_likely_in_batch(
            self.run.owner_id,
            [row.record for row in rows],
            numbers_count=True,
            vocabulary=self.vocabulary,
            prepared=[row.prepared for row in rows],
        )
        return [
            [*sorted(one for one in likely if isinstance(one, int))]
            + [rows[one.position] for one in likely if isinstance(one, Earlier)]
            for likely in found
        ]

    @classmethod
    def owned_patients(cls, owner: RecordOwner, patient_ids: Set[int]) -> Set[int]:
        return {*Patient.objects.owned_by(owner).filter(pk__in=patient_ids).values_list("pk", flat=True)}

    @classmethod
    def patients_in(cls, results: Iterable[dict[str, Any]]) -> set[int]:
        found: set[int] = set()
        for result in results:
            if result["id"] is not None:
                found.add(result["id"])
            found.update(one["id"] for one in result["likely"] if "id" in one)
        return found
