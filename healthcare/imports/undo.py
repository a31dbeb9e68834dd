"""Undoing an import: ends the records that it has created, and that nobody has changed or used since."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, ForeignObjectRel, Max, Model, Q, QuerySet
from django.utils import timezone

from healthcare.api.exceptions import Conflict
from healthcare.imports.models import Import, LineStatus
from healthcare.ownership import RecordQuerySet

RECORDS_PER_UNDO_BATCH = 1000
WRITING = [LineStatus.CREATED, LineStatus.UPDATED, LineStatus.UNCHANGED]


class AlreadyUndone(Conflict):
    default_detail = "This import has been undone."

    def __init__(self) -> None:
        super().__init__(code="already_undone")


@dataclass
class Undone:
    """The ids of the records that were ended, of those that were created but stay, and of those that the import had
    updated, which stay as they are."""

    deleted: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    updated: list[int] = field(default_factory=list)


def undo(record: Import, model: type[Model]) -> Undone:
    """Undo an import of records of this model, in the caller's transaction. Raises AlreadyUndone (409), also while
    another request undoes it.

    The records are locked in the order of their ids, a batch at a time, as everything does that locks several.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('imports.undo', %s))", [record.pk])
        if not cursor.fetchone()[0]:
            raise AlreadyUndone
    if not Import.objects.filter(pk=record.pk, undone_at=None).update(undone_at=timezone.now()):
        raise AlreadyUndone
    record.refresh_from_db()
    written: QuerySet[Any, Any] = (
        record.lines.filter(status__in=WRITING, record_id__isnull=False)
        .values("record_id")
        .annotate(latest=Max("version"), created=Count("pk", filter=Q(status=LineStatus.CREATED)))
    )
    updated = written.filter(
        created=0, record_id__in=record.lines.filter(status=LineStatus.UPDATED).values("record_id")
    )
    result = Undone(updated=list(updated.order_by("record_id").values_list("record_id", flat=True)))
    created = written.filter(created__gt=0).order_by("record_id").values_list("record_id", "latest")
    versions = list(created)
    for start in range(0, len(versions), RECORDS_PER_UNDO_BATCH):
        batch = dict(versions[start : start + RECORDS_PER_UNDO_BATCH])
        ended = set(end_unchanged(model, batch))
        result.deleted += (key for key in batch if key in ended)
        result.left += (key for key in batch if key not in ended)
    return result


def end_unchanged(model: type[Model], versions: dict[int, int]) -> list[int]:
    """End those of these records that still have these versions and that no active record refers to. Returns their
    ids."""
    rows: Any = model._default_manager.filter(pk__in=versions)
    locked = rows.active().order_by("pk").locked().values_list("pk", "version")
    unchanged = [key for key, version in locked if version == versions[key]]
    # A statement of its own, which sees what was committed before the locks were there.
    used = {key for query in referring_to(model, unchanged) for key in query}
    return end(model, [key for key in unchanged if key not in used])


def referring_to(model: type[Model], keys: Sequence[int]) -> Iterator[QuerySet[Any]]:
    """For each foreign key to the model, those of these keys that an active record refers to."""
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and getattr(relation.field, "db_constraint", False):
            name = relation.field.attname
            rows = active(relation.related_model._default_manager.filter(**{f"{name}__in": keys}))
            yield rows.values_list(name, flat=True).distinct()


def active(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Those that have not ended; all of a model whose rows do not end."""
    if not isinstance(rows, RecordQuerySet):
        return rows
    try:
        rows.model._meta.get_field(rows.ended_column)
    except FieldDoesNotExist:
        return rows
    return rows.active()


def end(model: type[Model], keys: list[int]) -> list[int]:
    """End these locked records; where the database refuses one, a doctor who treats patients of others or a patient
    under a legal hold, the others. Returns the ids of those that ended."""
    if not keys:
        return []
    try:
        with transaction.atomic():
            model._default_manager.filter(pk__in=keys).end()  # type: ignore[attr-defined]
    except IntegrityError:
        middle = len(keys) // 2
        return end(model, keys[:middle]) + end(model, keys[middle:]) if middle else []
    return keys
