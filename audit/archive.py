"""Archiving old history and access log: into one sealed file, and then out of the database.

1. The rows are read in the order of their ids, compared with their seals and written to a temporary file.
2. The file is synced to disk, read again and verified, and only then gets its name.
3. One transaction records in `Archive` what the file holds. From then on the rows count as archived.
4. The rows are removed in short transactions. If that is interrupted, the same command with the same file goes on.

So at any moment a row is in the database, or in a verified file that is on disk. History keeps the last event before
the cut of every record that still exists: the state that was valid then. From the cut on, `as_of` and history are
complete.
"""

import datetime
import fcntl
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pgtrigger
from django.apps import apps
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from audit.archive_file import ArchiveError, ArchiveWriter, verify_file
from audit.archived_rows import ArchivedRows, archive_code, contains, pack, unpack
from audit.history import Deleted, Event
from audit.legal_hold import first_held, lock_holds, patients_field_of, rows_about
from audit.models import AccessLog, Archive, Forgotten, LegalHold, LegalHoldEvent, Seal
from audit.seals import TamperingError, codes_of, row_code, seal_code
from audit.tables import BELOW_EVERY_ID, SealedRow, Table
from healthcare.operations.unfinished_file import name_without_replacing, sync_folder

ROWS_PER_REMOVAL = 5_000  # rows of one transaction
# A month can be archived a day after its end: an erasure finds the answers that it erases by the history of 24 hours.
REST = datetime.timedelta(days=1)


class ArchiveRefusedError(Exception):
    """Nothing was archived; the message says why, in one sentence."""


@dataclass
class Selection:
    """The rows of one table that go into the archive: those above `after` and up to `last` but for `kept`, and those
    in `earlier`, which an earlier archive kept. All ids are in ascending order."""

    model: type[Model]
    after: int
    last: int
    kept: Sequence[int] = ()
    earlier: Sequence[int] = ()
    rows: int = 0
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        self.table = Table.of(self.model)

    def takes(self, row_id: int) -> bool:
        if row_id > self.after:
            return row_id <= self.last and not contains(self.kept, row_id)
        return contains(self.earlier, row_id)

    def touches(self, start: int, end: int) -> bool:
        """Whether it may take rows with an id above `start` and up to `end`."""
        if self.last > start and end > self.after:
            return True
        place = bisect_left(self.earlier, start + 1)
        return place < len(self.earlier) and self.earlier[place] <= end


def archived_models() -> list[type[Model]]:
    """Access log and history. The list of erased rows stays, since verifying needs it, and the history of holds does;
    both are short."""
    return [
        *(model for model in apps.get_models() if issubclass(model, Event) and model is not LegalHoldEvent),
        AccessLog,
    ]


def check_month(before: datetime.datetime) -> None:
    """Raises ArchiveRefusedError unless the months before this time have ended, a day ago."""
    if before + REST > timezone.now():
        raise ArchiveRefusedError(
            f"The month before {before:%Y-%m} is not over, or not for a day; run it again after "
            f"{before + REST:%Y-%m-%d} 00:00 UTC, or give an earlier month."
        )


def select(before: datetime.datetime, archived: ArchivedRows) -> list[Selection]:
    """What each table has of the time before. Raises ArchiveRefusedError if some of it is not sealed yet."""
    selections = [select_rows(model, before, archived) for model in archived_models()]
    return [selection for selection in selections if selection.last > selection.after or selection.earlier]


def select_rows(model: type[Model], before: datetime.datetime, archived: ArchivedRows) -> Selection:
    table = Table.of(model)
    after = archived.last_id(table.name)
    last = last_id_before(table, after, before)
    sealed = Seal.objects.filter(table=table.name).order_by("-id").values_list("last_id", flat=True).first()
    if last > after and last > (BELOW_EVERY_ID if sealed is None else sealed):
        raise ArchiveRefusedError(f"Rows of {table.name} are not sealed yet: run seal_audit, then try again.")
    selection = Selection(model, after, last)
    if issubclass(model, Event):
        selection.kept = ids(
            table,
            f'"{table.key}" > %s AND "{table.key}" <= %s AND pgh_label <> %s AND NOT {SUPERSEDED.format(table.name)}',
            [after, last, Deleted.label, last],
        )
        selection.earlier = ids(table, f'"{table.key}" <= %s AND {SUPERSEDED.format(table.name)}', [after, last])
    return selection


SUPERSEDED = (
    'EXISTS (SELECT FROM "{0}" later WHERE later.id = rows.id AND later.pgh_id > rows.pgh_id AND later.pgh_id <= %s)'
)


def last_id_before(table: Table, after: int, before: datetime.datetime) -> int:
    """The largest id below that of the first row of this time or later, in the order of the ids; `after` if none."""
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT "{table.key}" FROM "{table.name}" WHERE "{table.key}" > %s AND "{table.time}" >= %s '  # noqa: S608
            f'ORDER BY "{table.key}" LIMIT 1',
            [after, before],
        )
        first = cursor.fetchone()
        limit, parameters = (f'AND "{table.key}" < %s', [after, first[0]]) if first else ("", [after])
        cursor.execute(
            f'SELECT max("{table.key}") FROM "{table.name}" WHERE "{table.key}" > %s {limit}',  # noqa: S608
            parameters,
        )
        last: int | None = cursor.fetchone()[0]
    return after if last is None else last


def ids(table: Table, condition: str, parameters: list[Any]) -> Sequence[int]:
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{table.key}" FROM "{table.name}" rows WHERE {condition} ORDER BY 1', parameters)  # noqa: S608
        return [row[0] for row in cursor.fetchall()]


def export_rows(selection: Selection, writer: ArchiveWriter, key: bytes, archived: ArchivedRows) -> None:
    """Write the rows of a selection. Raises TamperingError for one that is not as it was sealed."""
    start, table = BELOW_EVERY_ID, selection.table
    for seal_id, last_id in Seal.objects.filter(table=table.name).order_by("id").values_list("id", "last_id"):
        if selection.touches(start, last_id):
            for row, text in verified_rows(seal_id, start, selection, key, archived):
                if selection.takes(row.id):
                    writer.add(table.name, text)
                    selection.rows += 1
        start = last_id


def verified_rows(
    seal_id: int, start: int, selection: Selection, key: bytes, archived: ArchivedRows
) -> Iterator[tuple[SealedRow, str]]:
    """The rows under a seal up to the selection's last one, each with its present columns as JSON."""
    table, seal = selection.table, Seal.objects.get(pk=seal_id)
    previous = Seal.objects.filter(pk__lt=seal_id).order_by("-id").values_list("code", flat=True).first()
    if seal.code != seal_code(key, seal, previous or ""):
        raise TamperingError(f"audit_seal {seal_id} was altered, or one before it is missing.")
    end = min(seal.last_id, max(selection.last, selection.after))
    rows = table.rows(start, end, tuple(seal.columns))
    newer = tuple(seal.columns) != table.columns  # columns were added since
    texts = {row.id: row.text for row in (table.rows(start, end, table.columns) if newer else rows)}
    erased = set(Forgotten.objects.filter(table=table.name, row__gt=start, row__lte=end).values_list("row", flat=True))
    codes = codes_of(seal)
    found = {row.id for row in rows}
    for row_id in codes:
        if row_id <= end and row_id not in found | erased and not archived.hold(table.name, row_id):
            raise TamperingError(f"{table.name} {row_id} is missing.")
    for row in rows:
        if row.id not in codes:
            raise TamperingError(f"{table.name} {row.id} was inserted after its time was sealed.")
        if row.id not in erased and codes[row.id] != row_code(key, table.name, row):
            raise TamperingError(f"{table.name} {row.id} was altered.")
        yield row, texts.get(row.id, row.text)


def refuse_held(selections: list[Selection], held: dict[int, int]) -> None:
    """Raises ArchiveRefusedError if a row of the selected months is about one of these held records."""
    first: tuple[datetime.datetime, int] | None = None
    for selection in selections if held else []:
        for at, record in held_rows(selection, held):
            first = min(first or (at, record), (at, record))
    if first:
        raise ArchiveRefusedError(
            f"Patient {held[first[1]]} is under a legal hold and has rows of {first[0]:%Y-%m}: nothing was archived. "
            f"Give --before {first[0]:%Y-%m} or earlier, or release the hold."
        )


def held_rows(selection: Selection, held: dict[int, int]) -> Iterator[tuple[datetime.datetime, int]]:
    table = selection.table
    name = patients_field_of(selection.model)
    if name is None:
        return
    rows = selection.model._default_manager.filter(**{f"{table.key}__lte": max(selection.last, selection.after)})
    found = rows_about(rows, held).values_list(table.key, table.time, name).order_by(table.key)
    for row_id, at, about in found.iterator():
        if row_id > selection.after or selection.takes(row_id):  # also the rows of its months that stay in the table
            yield at, first_held(about, held)


@transaction.atomic
def record_archive(
    path: Path, digest: str, before: datetime.datetime, selections: list[Selection], key: bytes, erased: int
) -> None:
    """Record what the file holds. Raises ArchiveRefusedError if a hold was set, a person erased or another archive
    recorded since the rows were selected: new holds and archives wait for the end of this transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {Archive._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
    archived = ArchivedRows(key)
    if any(archived.last_id(selection.table.name) != selection.after for selection in selections):
        raise ArchiveRefusedError("Another archive was written meanwhile; nothing was archived, try again.")
    refuse_held(selections, lock_holds())
    if last_erasure() != erased:
        raise ArchiveRefusedError("A person was erased meanwhile; nothing was archived, try again.")
    for selection in selections:
        archive = Archive(
            before=before,
            file=path.name[:255],
            digest=digest,
            table=selection.table.name,
            after_id=selection.after,
            last_id=selection.last,
            row_count=selection.rows,
            kept=pack(selection.kept),
            earlier=pack(selection.earlier),
        )
        archive.code = archive_code(key, archive)
        archive.save()


def last_erasure() -> int:
    return Forgotten.objects.order_by("-id").values_list("id", flat=True).first() or 0


def unfinished_digest() -> str | None:
    """The SHA-256 of the last archive if rows of it are still in the database."""
    last = Archive.objects.order_by("-id").first()
    if last is None:
        return None
    for archive in Archive.objects.filter(digest=last.digest).order_by("id"):
        if next(rows_left(archive), None):
            return last.digest
    return None


def rows_left(archive: Archive) -> Iterator[list[int]]:
    """The ids of the rows that an archive holds and that are still in the database, in batches."""
    table = next(Table.of(model) for model in archived_models() if model._meta.db_table == archive.table)
    kept, earlier = unpack(archive.kept), unpack(archive.earlier)
    for start in range(0, len(earlier), ROWS_PER_REMOVAL):
        chosen = list(earlier[start : start + ROWS_PER_REMOVAL])
        if present := ids(table, f'"{table.key}" = ANY(%s)', [chosen]):
            yield list(present)
    last = archive.after_id
    while found := ids_between(table, last, archive.last_id):
        if present := [row_id for row_id in found if not contains(kept, row_id)]:
            yield present
        last = found[-1]


def ids_between(table: Table, after: int, until: int) -> Sequence[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT "{table.key}" FROM "{table.name}" WHERE "{table.key}" > %s AND "{table.key}" <= %s '  # noqa: S608
            f'ORDER BY "{table.key}" LIMIT %s',
            [after, until, ROWS_PER_REMOVAL],
        )
        return [row[0] for row in cursor.fetchall()]


def remove_archived_rows(digest: str) -> int:
    """Remove the rows that the file with this SHA-256 holds, and return how many that were."""
    removed = 0
    for archive in Archive.objects.filter(digest=digest).order_by("id"):
        model = next(model for model in archived_models() if model._meta.db_table == archive.table)
        table = Table.of(model)
        for batch in rows_left(archive):
            ignored = pgtrigger.ignore(f"{model._meta.label}:append_only")
            with ignored, transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f'DELETE FROM "{table.name}" WHERE "{table.key}" = ANY(%s)', [batch])  # noqa: S608
                removed += cursor.rowcount
    return removed


def write_archive(path: Path, before: datetime.datetime, key: bytes) -> tuple[str, dict[str, int]]:
    """Write, verify and record an archive; its SHA-256 and the number of its rows by table.

    Raises ArchiveRefusedError, TamperingError and OSError. The file at `path` is there only if all of it is recorded or
    the process was killed between the two.
    """
    check_month(before)
    archived, erased = ArchivedRows(key), last_erasure()
    selections = select(before, archived)
    refuse_held(selections, LegalHold.objects.active().held_records())
    partial = path.with_name(f"{path.name}.archive-partial")
    with open_partial(partial) as file:
        try:
            writer = ArchiveWriter(file, key, {"before": f"{before:%Y-%m}", "written": timezone.now().isoformat()})
            for selection in selections:
                export_rows(selection, writer, key, archived)
            if not writer.counts:
                raise ArchiveRefusedError(f"There is nothing to archive before {before:%Y-%m}.")
            writer.finish()
            digest, _, counts = verify_file(partial, key)
            if counts != dict(writer.counts):
                raise ArchiveError(f"{partial} does not hold what was written to it.")
            name_without_replacing(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    try:
        sync_folder(path.parent)
        record_archive(path, digest, before, selections, key, erased)
    except (ArchiveRefusedError, OSError):  # neither is raised once it may be recorded
        path.unlink()
        raise
    return digest, counts


def open_partial(path: Path) -> BinaryIO:
    """The temporary file, open and locked. One that a killed run has left is written anew."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ArchiveRefusedError(f"Another run writes {path.name}; wait for it.") from error
    os.fchmod(file.fileno(), 0o600)
    file.truncate()
    return file
