"""Importing assignments: see `healthcare.imports`."""

import datetime
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from rest_framework.exceptions import ValidationError

from doctors.imports import find_by_license
from doctors.models import Doctor
from healthcare.api.exceptions import Conflict
from healthcare.api.serializers import IdField
from healthcare.characters import visible_text
from healthcare.imports.importer import Importer
from healthcare.imports.models import ImportedLine
from healthcare.imports.row_checks import OLD_ID
from healthcare.imports.rows import Row
from healthcare.ownership import RecordOwner, RecordQuerySet
from healthcare.rls.context import without_role
from mappings.models import Mapping
from mappings.serializers import MappingSerializer
from patients.imports import find_by_numbers
from patients.models import Patient

LOCKED_AT_ONCE = 10_000  # rows
MISSING = "There is no such record."
REFERENCED_RECORD_CHANGED = (
    "A patient or a doctor of this file was deleted or given away during the import; import the file again."
)


class FoundRecords:
    """Stands for a queryset of the records that a batch names, which were found by one statement."""

    def __init__(self) -> None:
        self.records: dict[int, Model] = {}

    def get(self, pk: int) -> Model:
        try:
            return self.records[pk]
        except KeyError:
            raise ObjectDoesNotExist from None


class FoundIdField(IdField):
    """The id of a record that `find` has found. Its scope takes no lock: see `MappingImporter.finish`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.found = FoundRecords()

    def get_queryset(self) -> Any:
        return self.found

    def find(self, owner: RecordOwner, ids: Collection[int]) -> None:
        self.found.records = self.scope(owner).in_bulk(ids)

    def read(self, value: Any) -> int | None:
        """The id, of which there may be no record; None for a value that is not an id."""
        try:
            return int(self.pk_field.run_validation(value))  # type: ignore[union-attr]
        except ValidationError:
            return None


class ImportedMappingSerializer(MappingSerializer):
    """Validates as a POST of an assignment, and as a PATCH of one that a row matches."""

    patient = FoundIdField(scope=lambda owner: Patient.objects.owned_by(owner).active())
    doctor = FoundIdField(scope=lambda owner: Doctor.objects.active())

    def changeable(self, rows: RecordQuerySet) -> RecordQuerySet:
        return rows  # a past assignment can be corrected too


class MappingImporter(Importer):
    """A row names its patient and its doctor by id, by number, or by the id on the server that the file comes from.

    An active assignment matches the active one of the same patient and doctor; any matches one that started at the same
    time. So the past assignments of another server are imported once.
    """

    kind = "mappings"
    serializer_class = ImportedMappingSerializer
    extra_columns = frozenset({"patient_identifier", "doctor_license"})

    def __init__(self, run: Any) -> None:
        super().__init__(run)
        self.patients: set[int] = set()
        self.doctors: set[int] = set()

    def scope(self) -> QuerySet:
        return Mapping.objects.owned_by(self.run.owner).of_active_patients().select_related("patient", "doctor")

    def prepare(self, rows: Sequence[Row]) -> None:
        fields = self.run.checks.serializer.fields
        self.resolve_old_ids(rows, "patient", Patient)
        self.resolve_old_ids(rows, "doctor", Doctor)
        self.resolve_numbers(rows, "patient", "patient_identifier")
        self.resolve_numbers(rows, "doctor", "doctor_license")
        for name in ("patient", "doctor"):
            field = fields[name]
            ids = {field.read(row.values[name]) for row in rows if name in row.values}
            field.find(self.run.owner, ids - {None})

    def resolve_old_ids(self, rows: Sequence[Row], name: str, model: type[Model]) -> None:
        """Replace the ids of another server by those of the records that were imported from there."""
        by_server: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row.server not in {"", self.own_server} and name in row.values:
                try:
                    by_server[row.server][OLD_ID.run_validation(row.values[name])].append(row)
                except ValidationError as error:
                    row.refuse(name, "invalid", str(error.detail[0]))  # type: ignore[index]
        for server, wanted in by_server.items():
            found = self.find_imported(model, server, wanted.keys())
            for old_id, named in wanted.items():
                for row in named:
                    if old_id in found:
                        row.values[name] = found[old_id]
                    else:
                        row.refuse(name, "does_not_exist", f"No {name} with this id was imported from that server.")

    def find_imported(self, model: type[Model], server: str, old_ids: Collection[int]) -> dict[int, int]:
        """The ids of active records by their ids on another server; of the latest import where there are several."""
        lines = ImportedLine.objects.filter(
            server=server,
            old_id__in=old_ids,
            record_id__isnull=False,
            parent__kind=model.import_kind,  # type: ignore[attr-defined]
        )
        if model is Doctor:
            # The directory is of all: who acts for an owner imports doctors as themselves.
            with without_role():
                found = imported_ids(lines.filter(created_by__in={self.run.owner_id, self.run.caller_id}))
        else:
            found = imported_ids(lines.owned_by(self.run.owner))
        present = survivors(model, {key for _, key in found})
        return {old_id: present[key] for old_id, key in found if key in present}

    def resolve_numbers(self, rows: Sequence[Row], name: str, column: str) -> None:
        """Replace a number by the id of the one record that has it."""
        wanted: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            number = row.values.pop(column, None)
            if number is None or number == "":
                continue
            if not isinstance(number, str):
                row.refuse(column, "invalid", "Write the number as text.")
            elif name in row.values:
                row.refuse(column, "invalid", f"Name the {name} by `{name}` or by `{column}`, not by both.")
            else:
                wanted[visible_text(number.strip())].append(row)
        if not wanted:
            return
        numbers = [*wanted]
        if name == "patient":
            found = find_by_numbers(self.run.owner, [(place, "", number) for place, number in enumerate(numbers)])
        else:
            found = find_by_license(numbers)
        for place, number in enumerate(numbers):
            keys = found.get(place, [])
            for row in wanted[number]:
                if len(keys) == 1:
                    row.values[name] = keys[0]
                elif keys:
                    row.refuse(column, "ambiguous", f"Several {name}s have this number; use `{name}` instead.")
                else:
                    row.refuse(column, "does_not_exist", MISSING)

    def match(self, rows: Sequence[Row]) -> None:
        for row, keys in zip(rows, self.find_same(rows), strict=True):
            row.matches = keys[:1]
            row.keys = frozenset(self.keys_of(row.values))

    def find_likely(self, rows: Sequence[Row]) -> list[list[int | Row]]:
        """Without matches, the same assignment counts as likely."""
        if self.run.options.match == "identifier":
            return super().find_likely(rows)
        likely: list[list[int | Row]] = []
        earlier: dict[Any, Row] = {}
        for row, keys in zip(rows, self.find_same(rows), strict=True):
            same = [earlier[key] for key in self.keys_of(row.values) if key in earlier]
            likely.append([*keys, *same[:1]])
            if not keys and not same:
                earlier |= dict.fromkeys(self.keys_of(row.values), row)
        return likely

    def keys_of(self, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What two rows of the same assignment have in common."""
        fields = self.run.checks.serializer.fields
        pair = tuple(fields[name].read(values.get(name)) for name in ("patient", "doctor"))
        if None in pair:
            return []
        started = self.started_at(values)
        found: list[tuple[Any, ...]] = [] if values.get("ended_at") else [("active", *pair)]
        return [*found, ("from", *pair, started)] if started else found

    def started_at(self, values: dict[str, Any]) -> datetime.datetime | None:
        try:
            moment = self.run.checks.serializer.fields["started_at"].run_validation(values.get("started_at"))
        except ValidationError:
            return None
        return moment if isinstance(moment, datetime.datetime) else None

    def find_same(self, rows: Sequence[Row]) -> list[list[int]]:
        """For each row the ids of the assignments on record that it may be, the best first."""
        keys = [self.keys_of(row.values) for row in rows]
        patients = {key[1] for found in keys for key in found}
        doctors = {key[2] for found in keys for key in found}
        on_record: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        if patients:
            same = self.scope().filter(patient__in=patients, doctor__in=doctors).order_by("pk")
            for key, patient, doctor, started, ended in same.values_list(
                "pk", "patient", "doctor", "started_at", "ended_at"
            ):
                on_record["from", patient, doctor, started].append(key)
                if ended is None:
                    on_record["active", patient, doctor].append(key)
        return [[*dict.fromkeys(one for key in found for one in on_record.get(key, ()))] for found in keys]

    def after_write(self, rows: Sequence[Row]) -> None:
        self.patients |= {row.record.patient_id for row in rows}
        self.doctors |= {row.record.doctor_id for row in rows}

    def finish(self) -> None:
        """Lock the patients, and then the doctors, in the order of their ids, and check that they are there still. Only
        at the end, so that nobody waits for a long import. Raises Conflict (409)."""
        patients = Patient.objects.owned_by(self.run.owner).active()
        for present, ids in ((patients, self.patients), (Doctor.objects.active(), self.doctors)):
            ordered = sorted(ids)
            for start in range(0, len(ordered), LOCKED_AT_ONCE):
                part = ordered[start : start + LOCKED_AT_ONCE]
                if len(present.filter(pk__in=part).order_by("pk").locked().values_list("pk")) != len(part):
                    raise Conflict(REFERENCED_RECORD_CHANGED)
            ids.clear()

    @classmethod
    def patients_in(cls, results: Iterable[dict[str, Any]]) -> set[int]:
        found = {result["id"] for result in results if result["id"] is not None}
        found |= {one["id"] for result in results for one in result["likely"] if "id" in one}
        return {*Mapping.objects.filter(pk__in=found).values_list("patient_id", flat=True)} if found else set()


def imported_ids(lines: QuerySet) -> list[Any]:
    """The old id and the id of each of these lines of imports, the latest last."""
    return list(lines.order_by("pk").values_list("old_id", "record_id"))


def survivors(model: type[Model], ids: set[int]) -> dict[int, int]:
    """The ids of the active records that these have become: of a merged patient, the one that was kept."""
    found: dict[int, int] = {key: key for key in ids}
    if model is Patient:
        newest = ids
        while newest:
            merged: dict[int, Any] = dict(
                Patient.objects.filter(pk__in=newest, merged_into__isnull=False).values_list("pk", "merged_into")
            )
            found = {key: merged.get(kept, kept) for key, kept in found.items()}
            newest = {*merged.values()}
    present = {*model._default_manager.filter(pk__in={*found.values()}).active().values_list("pk", flat=True)}  # type: ignore[attr-defined]
    return {key: kept for key, kept in found.items() if kept in present}
