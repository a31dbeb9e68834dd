"""The parts of a person's file that patients and the audit contribute: record, history, accesses and what was done."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import F, Min, Model, Q
from django.utils.text import capfirst

from audit.actor_names import ActorName
from audit.history import Event
from audit.models import AccessLog, LegalHold
from audit.patient_data import refers_to_patients
from audit.serializers import EventSerializer
from healthcare.api.fields import DateTimeField
from healthcare.imports.models import ImportedLine
from patients.models import Patient, PatientEvent, PatientMerge, PatientTransfer
from patients.person_file.parts import FilePart, Section, Subject, register_file_part
from patients.serializers import PatientSerializer

ROWS_AT_ONCE = 500  # in memory
as_time: Callable[[Any], Any] = DateTimeField().to_representation

CHANGE_COLUMNS = {
    "record": "Record",
    "version": "Version",
    "at": "Time",
    "action": "Action",
    "by": "By",
    "by_name": "Name",
    "reason": "Reason",
    "changes": "Changes, before and after",
    "left_out": "Left out",
}
ADMIN_COLUMNS = {"record": "Record", "at": "Time", "action": "Action", "by": "By", "by_name": "Name"}
OTHERS_VALUES = (
    "The record of somebody else was merged into this one by mistake, and that was undone. The versions in between may "
    "hold that person's data, so their values are left out."
)


class PatientPart(FilePart):
    name = "patient"
    tables = ("patients_patient",)

    def sections(self, subject: Subject) -> Sequence[Section]:
        labels = {
            field.name: capfirst(str(field.verbose_name))
            for field in Patient._meta.concrete_fields
            if field.name != "created_by"
        }
        columns = {"id": "Record", "name": "Name", "age": "Age"} | labels | {"id": "Record"}
        title = "The record, and the records that were merged into it" if subject.record_ids[1:] else "The record"
        return [Section("records", title, self.records(subject), columns, upright=True)]

    def records(self, subject: Subject) -> Iterator[dict[str, Any]]:
        serializer = PatientSerializer()
        found = Patient.objects.in_bulk(subject.record_ids)
        for key in subject.record_ids:
            patient = found[key]
            row = serializer.to_representation(patient)
            row.pop("created_by")
            yield row | {
                "fhir": patient.fhir,
                "deleted_at": patient.deleted_at and as_time(patient.deleted_at),
                "merged_into": patient.merged_into_id,
            }


class HistoryPart(FilePart):
    name = "history"
    tables = (
        "patients_patientevent", "patients_patientmerge", "patients_patienttransfer", "audit_legalhold",
        "imports_import", "imports_importedline",
    )  # fmt: skip

    def sections(self, subject: Subject) -> Sequence[Section]:
        return [
            Section(
                "changes",
                "Changes of the record",
                self.changes(subject),
                CHANGE_COLUMNS,
                table=PatientEvent._meta.db_table,
            ),
            Section(
                "merges",
                "Merges with other records",
                self.merges(subject),
                {
                    "kept": "Kept record", "merged": "Merged record", "at": "Time", "undone_at": "Undone",
                    "filled": "Filled",
                },
            ),
            Section(
                "transfers",
                "Offers to another owner",
                self.transfers(subject),
                {
                    "record": "Record", "state": "State", "created_at": "Offered", "expires_at": "Expires",
                    "settled_at": "Settled", "from_name": "From", "to_name": "To",
                },
            ),
            Section(
                "holds",
                "Legal holds, which forbid to delete the record",
                self.holds(subject),
                {"records": "Records", "set_at": "Set", "released_at": "Released"},
            ),
            imports_section(Patient, subject.record_ids),
        ]  # fmt: skip

    def changes(self, subject: Subject) -> Iterator[dict[str, Any]]:
        others = versions_with_others_values(subject.record_ids)
        events = PatientEvent.objects.filter(id__in=subject.record_ids)
        for event in each_with_previous(events):
            hidden = any(first <= event.version <= last for first, last in others.get(event.id, ()))
            yield describe_change(event, subject, left_out=OTHERS_VALUES if hidden else "")

    def merges(self, subject: Subject) -> Iterator[dict[str, Any]]:
        about = Q(survivor__in=subject.record_ids) | Q(duplicate__in=subject.record_ids)
        for merge in PatientMerge.objects.filter(about).order_by("-pk").iterator(ROWS_AT_ONCE):
            yield {
                "kept": subject.own(merge.survivor_id),
                "merged": subject.own(merge.duplicate_id),
                "at": as_time(merge.created_at),
                "undone_at": merge.unmerged_at and as_time(merge.unmerged_at),
                # Empty once it is undone.
                "filled": merge.filled,
                "replaced": merge.replaced,
                "moved": merge.moved,
            }

    def transfers(self, subject: Subject) -> Iterator[dict[str, Any]]:
        transfers = PatientTransfer.objects.filter(patient__in=subject.record_ids).order_by("-pk")
        named = transfers.annotate(from_name=ActorName("from_owner_id"), to_name=ActorName("to_owner_id"))
        for transfer in named.iterator(ROWS_AT_ONCE):
            row = {
                "record": transfer.patient_id,
                "state": transfer.current_state,
                "created_at": as_time(transfer.created_at),
                "expires_at": as_time(transfer.expires_at),
                "settled_at": transfer.settled_at and as_time(transfer.settled_at),
            }
            yield subject.with_name(row, from_name=transfer.from_name, to_name=transfer.to_name)

    def holds(self, subject: Subject) -> Iterator[dict[str, Any]]:
        """Without the reason, which is for staff: the API does not answer it either."""
        about = Q(patient_id__in=subject.record_ids) | Q(record_ids__overlap=[*subject.record_ids])
        for hold in LegalHold.objects.filter(about).order_by("-pk"):
            yield {
                "records": [key for key in hold.record_ids if key in subject.record_ids],
                "set_at": as_time(hold.set_at),
                "released_at": hold.released_at and as_time(hold.released_at),
            }


class AccessesPart(FilePart):
    name = "accesses"
    tables = ("audit_accesslog", "django_admin_log")

    def sections(self, subject: Subject) -> Sequence[Section]:
        return [
            Section(
                "accesses",
                "Who read the record, or was refused it",
                self.accesses(subject),
                {
                    "records": "Records", "at": "Time", "action": "Action", "by": "By", "by_name": "Name",
                    "outcome": "Status of the answer",
                },
                explanation="By the owner, by a delegate of the owner, or by a member of staff.",
                table=AccessLog._meta.db_table,
            ),
            admin_section(Patient, subject.record_ids, subject),
        ]  # fmt: skip

    def accesses(self, subject: Subject) -> Iterator[dict[str, Any]]:
        """A request for an id that did not exist yet is no access to the patient who has it since."""
        events = PatientEvent.objects.filter(id__in=subject.record_ids)
        begun = dict(events.values_list("id").annotate(Min("pgh_created_at")))
        for access in latest_accesses(subject.record_ids):
            records = [
                key for key in subject.record_ids
                if key in access.patient_ids and (key not in begun or access.at >= begun[key])
            ]  # fmt: skip
            if records:
                row = {
                    "row": access.pk,
                    "records": records,
                    "at": as_time(access.at),
                    "action": access.action,
                    "by": access.basis,
                    "outcome": access.outcome,
                }
                yield subject.with_name(row, by_name=access.actor_name)


def latest_accesses(record_ids: Sequence[int]) -> Iterator[Any]:
    """The entries of the access log about these records, the latest first. The ids come first and without an order, so
    that the index of the patients finds them."""
    about = AccessLog.objects.filter(patient_ids__overlap=[*record_ids])
    keys = sorted(about.values_list("pk", flat=True), reverse=True)
    for start in range(0, len(keys), ROWS_AT_ONCE):
        some = AccessLog.objects.filter(pk__in=keys[start : start + ROWS_AT_ONCE])
        yield from some.annotate(actor_name=ActorName("actor")).order_by("-pk")


def admin_section(model: type[Model], keys: Iterable[int], subject: Subject) -> Section:
    """What the admin's log says about these records. Its texts are left out: they may name other records."""
    kind = ContentType.objects.get_for_model(model)
    entries = LogEntry.objects.filter(content_type=kind, object_id__in=[str(key) for key in keys]).order_by("-pk")

    def rows() -> Iterator[dict[str, Any]]:
        for entry in entries.annotate(by_name=F("user__name")).iterator(ROWS_AT_ONCE):
            row = {
                "record": int(entry.object_id or 0),
                "at": as_time(entry.action_time),
                "action": entry.get_action_flag_display(),
                "by": "staff",
            }
            yield subject.with_name(row, by_name=entry.by_name)

    return Section("admin_log", "Entries in the log of the admin", rows(), ADMIN_COLUMNS)


def imports_section(model: type[Model], keys: Iterable[int]) -> Section:
    """The lines of imports that wrote or matched these records. The records that a line calls likely are left out: they
    are others. So are lines that call these records likely."""
    lines = ImportedLine.objects.about(model, [*keys]).select_related("parent").order_by("-pk")

    def rows() -> Iterator[dict[str, Any]]:
        for line in lines.iterator(ROWS_AT_ONCE):
            yield {
                "record": line.record_id,
                "import": line.parent_id,
                "at": as_time(line.parent.created_at),
                "by": "owner" if line.parent.caller == line.parent.created_by_id else "delegate",
                "undone_at": line.parent.undone_at and as_time(line.parent.undone_at),
                "line": line.line,
                "status": line.status,
                "version": line.version,
                "server": line.server,
                "old_id": line.old_id,
                "errors": line.errors,
            }

    columns = {
        "record": "Record", "at": "Time", "by": "By", "import": "Import", "undone_at": "Undone", "line": "Line",
        "status": "Status", "version": "Version", "server": "Former server", "old_id": "Id there",
    }  # fmt: skip
    return Section("imports", "Lines of imports", rows(), columns)


def versions_with_others_values(record_ids: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """The first and the last version of these records that may show values of somebody else's record, which was merged
    into them until that was undone."""
    undone = PatientMerge.objects.hidden().filter(survivor__in=record_ids, first_version__isnull=False)
    found: dict[int, list[tuple[int, int]]] = {}
    for merge in undone.exclude(duplicate__in=record_ids):
        versions = (merge.first_version or 0, merge.last_version or 0)  # both are set where something was copied
        found.setdefault(merge.survivor_id, []).append(versions)
    return found


def each_with_previous(events: Any) -> Iterator[Any]:
    """These events, by record and the latest first, each with the one before it as `previous`."""
    later = None
    for event in events.with_actor_names().order_by("id", "-pgh_id").iterator(ROWS_AT_ONCE):
        if later is not None:
            later.previous = event if event.id == later.id else None
            yield later
        later = event
    if later is not None:
        later.previous = None
        yield later


def describe_change(event: Event, subject: Subject, left_out: str = "") -> dict[str, Any]:
    """A row of a history, like the API's, but without ids of users and of other patients."""
    described: Any = event
    serializer = EventSerializer()
    changes = serializer.get_changes(event)
    owners = changes.pop("created_by", None)
    for field in event._meta.concrete_fields:
        if field.name in changes and refers_to_patients(field):
            changes[field.name] = [subject.own(key) for key in changes[field.name]]
    row = {
        "record": described.id,
        "row": event.pgh_id,
        "version": described.version,
        "at": as_time(event.pgh_created_at),
        "action": serializer.get_action(event),
        "by": who_changed(event),
        "reason": serializer.get_reason(event),
        "new_owner": owners is not None and owners[0] is not None,
        "changes": None if left_out else changes,
        "left_out": left_out or None,
    }
    return subject.with_name(row, by_name=described.actor_name)


def who_changed(event: Event) -> str:
    """The capacity in which the record was changed: history has the actor, and the owner after the change."""
    if "login" in event.pgh_context:
        return "command"
    actor = event.pgh_context.get("actor")
    if actor is None:
        return "nobody logged in"
    return "owner" if actor == event.created_by_id else "delegate or staff"  # type: ignore[attr-defined]


def register() -> None:
    for part in (PatientPart(), HistoryPart(), AccessesPart()):
        register_file_part(part)
