"""What `manage.py import_records` has read of a file, in the database, and the writing of it.

A file is read into staged rows first, in transactions of some thousand rows, and written from there, in one transaction
or, a partial import, in one for each batch. After `kill -9` the same command finds the staged file again and goes on
behind the last row that was committed.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

from django.db import connection, reset_queries, transaction
from django.utils import timezone

from healthcare.imports.models import Import, StagedFile, StagedRow
from healthcare.imports.pipeline import ROWS_PER_BATCH, ImportRun
from healthcare.imports.reading import LineError, ReadRecord
from healthcare.imports.rows import FAILED, Row
from healthcare.rls.context import without_role

STAGED_PER_TRANSACTION = 5_000  # staged together
BATCH_CHARACTERS = 8 * 1024 * 1024  # of the content of these rows, but for the first one
FILE = "file"  # the key of `Import.parameters` with the digest of a file that has been imported completely

NEXT_ROWS = """
SELECT line, content FROM (
    SELECT line, content, sum(length(content)) OVER (ORDER BY line) - length(content) AS before
    FROM (
        SELECT line, content FROM imports_stagedrow WHERE file_id = %s AND line > %s ORDER BY line LIMIT %s
    ) AS next_rows
) AS measured WHERE before < %s ORDER BY line
"""


class StagingError(Exception):
    """The import cannot go on; the text says what to do."""


class RefusedRowsError(Exception):
    """Rolls an import back of which rows have failed, and that is not partial."""


SAME_FILE_RUNNING = "Another run of this command imports the same file; wait for its end, and repeat this one then."
STAGED_ROWS_REMOVED = (
    "What was read of the file was removed at the same time, and nothing more was written; repeat the command."
)
FILE_CHANGED = "The file changed while it was read, and nothing was written; repeat the command."


def digest_of_command(file_digest: str, kind: str, owner_id: int, options: dict[str, Any]) -> str:
    """The digest by which the same command finds what it has staged: of the file, the owner and the options."""
    named = json.dumps([file_digest, kind, owner_id, options], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()


def find_complete_import(owner_id: int, kind: str, digest: str) -> Import | None:
    """The import of this file by the same command, unless it has been undone since."""
    done = Import.objects.filter(created_by=owner_id, kind=kind, undone_at=None, parameters__contains={FILE: digest})
    return done.order_by("pk").last()


# Reading


def stage(file: StagedFile, records: Iterator[ReadRecord], report: Callable[[int], None]) -> None:
    """Store the records that have not been stored yet. `report` gets the number of all so far.

    Raises StagingError if another run does the same, and what reading raises.
    """
    last = last_staged_line(file)
    total = 0
    rest = enumerate(records, start=1)
    while batch := list(islice(rest, STAGED_PER_TRANSACTION)):
        total = batch[-1][0]
        new = [record for _, record in batch if record.line > last]
        if new:
            with transaction.atomic():
                lock_staged_file(file)
                if last_staged_line(file) != last:
                    raise StagingError(SAME_FILE_RUNNING)
                copy_rows(file, new)
                StagedFile.objects.filter(pk=file.pk).update(used_at=timezone.now())
            last = new[-1].line
        reset_queries()  # which DEBUG keeps
        report(total)
    file.rows = total
    file.save(update_fields=["rows"])


def last_staged_line(file: StagedFile) -> int:
    last = StagedRow.objects.filter(file=file).order_by("-line").values_list("line", flat=True).first()
    return max(last or 0, file.written_line)


def copy_rows(file: StagedFile, records: Iterable[ReadRecord]) -> None:
    text = io.StringIO()
    for record in records:
        # ASCII without control characters, so that COPY needs no other escape.
        content = json.dumps([record.values, [asdict(error) for error in record.errors]]).replace("\\", "\\\\")
        text.write(f"{file.pk}\t{record.line}\t{content}\n")
    text.seek(0)
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY imports_stagedrow (file_id, line, content) FROM STDIN", text)


def lock_staged_file(file: StagedFile) -> StagedFile:
    """The file's row, locked until the transaction ends. Raises StagingError while another run has it."""
    found = StagedFile.objects.select_for_update(skip_locked=True).filter(pk=file.pk).first()
    if found is None:
        raise StagingError(SAME_FILE_RUNNING)
    return found


def is_staged(file: StagedFile) -> bool:
    """Whether all rows that are not yet written are there; erasing a patient removes those of the owner."""
    return file.rows is not None and StagedRow.objects.filter(file=file).count() + file.written_rows == file.rows


def forget_rows(file: StagedFile) -> None:
    StagedRow.objects.filter(file=file).delete()
    file.rows = None
    file.save(update_fields=["rows"])


def next_batch(file: StagedFile, line: int) -> list[ReadRecord]:
    """The records behind this line."""
    with without_role(), connection.cursor() as cursor:
        cursor.execute(NEXT_ROWS, [file.pk, line, ROWS_PER_BATCH, BATCH_CHARACTERS])
        rows = cursor.fetchall()
    return [read_row(line, content) for line, content in rows]


def read_row(line: int, content: str) -> ReadRecord:
    values, errors = json.loads(content)
    return ReadRecord(line, values, [LineError(**error) for error in errors])


# Writing. `enter` enters the transaction as the owner; `written` gets the rows of each batch in its transaction.


def write_whole(
    file: StagedFile, run: ImportRun, enter: Callable[[], None], written: Callable[[list[Row]], None]
) -> None:
    """Write all rows in one transaction, and forget what was staged. Raises RefusedRowsError if a row has failed."""
    count = 0
    with transaction.atomic():
        lock_staged_file(file)
        enter()
        run.begin()
        batch = next_batch(file, 0)
        while batch:
            following = next_batch(file, batch[-1].line)
            written(run.import_batch(batch, following))
            count += len(batch)
            batch = following
            reset_queries()
        if count != file.rows:
            raise StagingError(STAGED_ROWS_REMOVED)
        if run.summary[FAILED]:
            raise RefusedRowsError
        run.finish()
        discard_staged(file, run)


def write_in_parts(
    file: StagedFile, run: ImportRun, enter: Callable[[], None], written: Callable[[list[Row]], None]
) -> None:
    """Write each batch in a transaction of its own, which stores how far the import has come as well."""
    is_complete = False
    while not is_complete:
        with transaction.atomic():
            present = lock_staged_file(file)
            if present.written_line != file.written_line:
                raise StagingError(SAME_FILE_RUNNING)
            enter()
            run.begin()
            batch = next_batch(file, file.written_line)
            if batch:
                written(run.import_batch(batch))
            run.finish()
            if batch:
                file.written_line = batch[-1].line
                file.written_rows += len(batch)
            is_complete = file.written_rows == file.rows
            if not (batch or is_complete):
                raise StagingError(STAGED_ROWS_REMOVED)
            with without_role():
                StagedRow.objects.filter(file=file, line__lte=file.written_line).delete()
                file.parent, file.used_at = run.record, timezone.now()
                file.save()
            if is_complete:
                discard_staged(file, run)
        reset_queries()


def discard_staged(file: StagedFile, run: ImportRun) -> None:
    """Forget what was staged. The import stores the digest, so that the same command does not write it again."""
    record: Any = run.record
    with without_role():
        record.parameters = {**record.parameters, FILE: file.digest}
        record.save(update_fields=["parameters"])
        file.delete()
