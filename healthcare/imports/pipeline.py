"""Imports records batch by batch: check, match, find likely duplicates, write."""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, Never

from django.db import DataError, IntegrityError, connection, transaction
from rest_framework.exceptions import APIException

from healthcare.api.exceptions import NAME, LimitedErrors
from healthcare.api.integrity_errors import broken_rule
from healthcare.api.suggestions import nearest_name
from healthcare.api.unknown_parameters import suggest
from healthcare.imports.background import BackgroundWork
from healthcare.imports.batch_table import BatchTable, refresh_statistics
from healthcare.imports.importer import Importer
from healthcare.imports.locking import take_import_lock
from healthcare.imports.models import Import, ImportedLine
from healthcare.imports.options import ImportOptions
from healthcare.imports.reading import ReadRecord
from healthcare.imports.row_checks import RowChecks, problems_of
from healthcare.imports.rows import CREATED, FAILED, LIKELY, LINE_STATUSES, SKIPPED, UNCHANGED, UPDATED, Row
from healthcare.ownership import RecordOwner

ROWS_PER_BATCH = 1000
ROWS_WITHOUT_PAUSE = 4  # of those that are checked in the background: about a millisecond
OUT_OF_RANGE = {"pointer": "", "code": "invalid", "detail": "A value is out of range; send one that the field allows."}


class ImportRun:
    """One import, in a transaction that has been entered as the caller (see `healthcare.rls.context`).

        with closing(ImportRun(PatientImporter, owner=owner, caller_id=caller, options=options)) as run:
            for row in run_import(run, records): ...

    A check does all that an `apply` does, and the caller rolls that back; it writes no `Import`. With `parent` the
    run goes on with the import that an earlier transaction has begun.

    - `record`: the `Import`; None in a check.
    - `summary`: the number of rows by status.
    - `patients`: the ids of the patients whom the results name, for the access log.
    """

    def __init__(
        self,
        importer_class: type[Importer],
        *,
        owner: RecordOwner,
        caller_id: int,
        options: ImportOptions,
        is_text: bool = False,
        lenient: bool = False,
        parent: Import | None = None,
    ) -> None:
        """`is_text`: the file is CSV. `lenient`: unknown columns are ignored."""
        self.owner, self.caller_id, self.options, self.record = owner, caller_id, options, parent
        self.owner_id = owner.pk or 0
        self.is_check = options.mode == "check"
        self.is_text = is_text
        self.summary: Counter[str] = Counter(dict.fromkeys(LINE_STATUSES, 0))
        self.patients: set[int] = set()
        self.importer = importer_class(self)
        # A serializer validates in one thread at a time.
        self.checks, self.checks_ahead = (
            RowChecks(
                importer_class.serializer_class,
                options,
                owner,
                extra_columns=importer_class.extra_columns,
                is_text=is_text,
                lenient=lenient,
            )
            for _ in range(2)
        )
        self.background = BackgroundWork()
        self.ahead: tuple[Sequence[ReadRecord], Future[list[Row]]] | None = None
        self.table = BatchTable(self.importer.model)
        # The lines of this run that have created a record, with its id, in the order of both.
        self.created_ids, self.created_lines = array("q"), array("q")
        self.matched_lines: dict[int, int] = {}  # the first line that has matched a record, by the record's id

    def begin(self) -> None:
        """Take the locks, create the temporary table and, in an `apply`, the `Import`."""
        if self.is_check:
            take_import_lock("check", self.caller_id)
        else:
            take_import_lock(self.importer.kind, self.importer.lock_owner)
            self.importer.lock()
            if self.record is None:
                self.record = Import.objects.create(
                    created_by_id=self.owner_id,
                    caller=self.caller_id,
                    kind=self.importer.kind,
                    parameters=self.options.parameters(),
                )
        self.table.create()

    def import_batch(self, records: Sequence[ReadRecord], following: Sequence[ReadRecord] = ()) -> list[Row]:
        """Import a batch, and return its rows with their results. One batch after another, in the order of the file.

        The next call should get `following`, the records that are checked in another thread while this batch waits for
        PostgreSQL.
        """
        rows = self.checked(records)
        self.begin_ahead(following)
        with connection.execute_wrapper(self.background.execute):
            self.import_rows(rows)
        return rows

    def checked(self, records: Sequence[ReadRecord]) -> list[Row]:
        """The rows of these records, which another thread may have checked."""
        ahead, self.ahead = self.ahead, None
        if ahead is None or ahead[0] is not records:
            return self.rows_of(records)
        with self.background.while_waiting():
            return ahead[1].result()

    def import_rows(self, rows: list[Row]) -> None:
        if not self.importer.prepares_without_database:
            self.importer.prepare(unsettled(rows))
        if self.options.match == "identifier":
            self.importer.match(unsettled(rows))
        updates, candidates = self.settle_matched(unsettled(rows))
        creates, repeated = self.settle_likely(self.validated(candidates))
        self.update(updates)  # first: an assignment that is primary no more makes room for another one
        self.create(creates)
        for row, earlier in repeated:
            self.repeat(row, earlier)
        self.importer.after_write([row for row in rows if row.status in {CREATED, UPDATED}])
        self.record_lines(rows)

    def begin_ahead(self, following: Sequence[ReadRecord]) -> None:
        """Begin to check these records in another thread."""
        if following and self.importer.prepares_without_database:
            self.ahead = following, self.background.begin(partial(self.check_ahead, following))

    def resume(self, line: ImportedLine) -> None:
        """Register a line of an interrupted import that this run continues, in the order of the records' ids."""
        if line.record_id is None:
            return
        if line.status == CREATED:
            self.created_ids.append(line.record_id)
            self.created_lines.append(line.line)
        else:
            self.matched_lines.setdefault(line.record_id, line.line)

    def finish(self) -> None:
        """Drop the temporary table and store the summary."""
        if not self.is_check:
            self.importer.finish()
        self.table.drop()
        if self.record is not None:
            self.record.summary = {**self.record.summary, **self.summary}
            self.record.save(update_fields=["summary"])

    def rows_of(self, records: Sequence[ReadRecord]) -> list[Row]:
        """The rows of these records, prepared if that needs no database."""
        rows = [self.row_of(record) for record in records]
        if self.importer.prepares_without_database:
            self.importer.prepare(unsettled(rows))
        return rows

    def check_ahead(self, records: Sequence[ReadRecord]) -> list[Row]:
        """The rows of these records, with what the serializer says of each and the record that it would become. Runs in
        another thread."""
        rows = self.rows_of(records)
        with connection.execute_wrapper(refuse_query):  # it would not be in the transaction
            for position, row in enumerate(unsettled(rows)):
                if position % ROWS_WITHOUT_PAUSE == 0:
                    self.background.pause()
                row.checked = values, _ = self.checks_ahead.check(row.values)
                if values is not None:
                    row.record = self.new_record(values)
                    row.text = self.table.text_of(row.record)
                    if self.options.on_likely == "hold":
                        self.importer.prepare_search(row)
        return rows

    def row_of(self, record: ReadRecord) -> Row:
        if record.errors or record.values is None:
            row = Row(record.line, {})
            row.fail(
                *({"pointer": error.pointer, "code": error.code, "detail": error.detail} for error in record.errors)
            )
            return row
        return self.checks.row_of(record.line, record.values)

    def refuse_unknown_columns(self, columns: Sequence[str]) -> None:
        """Raises ValidationError (400) for a header with columns that nobody knows: every row has them."""
        if self.checks.lenient:
            return
        unknown = [(number, name) for number, name in enumerate(columns, 1) if name not in self.checks.all_columns]
        # The first line of a file without a header is a record, of which an error must not tell anything.
        is_header = not self.checks.all_columns.isdisjoint(columns)
        errors: dict[str, list[Any]] = defaultdict(list)
        for number, name in unknown[: LimitedErrors.LIMIT]:
            is_name = NAME.fullmatch(name) and (is_header or nearest_name(name, self.checks.known))
            problem = "Unknown column" if is_name else f"Unknown column {number}"
            remedy = "remove it, or name its field with `map`"
            errors[name if is_name else "non_field_errors"] += suggest(name, self.checks.known, problem, remedy)
        if unknown:
            raise LimitedErrors(errors, len(unknown))

    def settle_matched(self, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """The rows that update a record that they match, and those that match none."""
        updates, candidates = [], []
        for row in rows:
            earlier = [line for line in map(self.line_of, row.matches) if line is not None]
            if not row.matches:
                candidates.append(row)
            elif len(row.matches) > 1:
                row.refuse(
                    "", "ambiguous", "The numbers of this record belong to several records; correct one of them."
                )
                row.likely = self.describe(row.matches)
            elif earlier and self.options.on_likely == "hold":
                row.status, row.likely = LIKELY, [{"line": earlier[0]}]
            elif self.options.on_match == "update":
                updates.append(row)
            elif self.options.on_match == "refuse":
                row.refuse("", "unique", "A record with this number exists already.")
                row.likely = self.describe(row.matches)
            else:
                row.status, row.record_id = SKIPPED, row.matches[0]
            if len(row.matches) == 1:
                self.matched_lines.setdefault(row.matches[0], row.line)
        return updates, candidates

    def validated(self, rows: list[Row]) -> list[Row]:
        """Those of the rows that are valid as new records, each with its unsaved record."""
        for row in rows:
            values = self.checks.validate(row)
            if values is not None:
                row.record = row.record or self.new_record(values)
        return unsettled(rows)

    def new_record(self, values: dict[str, Any]) -> Any:
        record: Any = self.importer.new_record(values)
        record.complete()
        return record

    def settle_likely(self, rows: list[Row]) -> tuple[list[Row], list[tuple[Row, Row]]]:
        """The rows to create, and those that repeat an earlier one of these, each with that one.

        Later rows are compared with those that are written, so that a row's result does not depend on the batches.
        """
        hold = self.options.on_likely == "hold"
        found = self.importer.find_likely(rows) if hold else [[] for _ in rows]
        creates: dict[Row, None] = {}
        repeated: list[tuple[Row, Row]] = []
        by_key: dict[Any, Row] = {}
        for row, likely in zip(rows, found, strict=True):
            same = next((by_key[key] for key in row.keys if key in by_key), None)
            hits = [one for one in likely if isinstance(one, int) or one in creates]
            if same is not None and same not in hits:
                hits.append(same)
            if hold and hits:
                row.status, row.likely = LIKELY, self.describe(hits)
            elif same is not None:
                repeated.append((row, same))
            else:
                creates[row] = None
                by_key |= dict.fromkeys(row.keys, row)
        return [*creates], repeated

    def create(self, rows: list[Row]) -> None:
        if rows:
            texts = [row.text if row.text is not None else self.table.text_of(row.record) for row in rows]
            with self.background.while_waiting():  # `execute_wrapper` knows nothing of COPY
                self.table.fill(texts)
            by_halves(rows, self.insert)
            for row in rows:
                if row.status == CREATED and row.record_id is not None:
                    self.created_ids.append(row.record_id)
                    self.created_lines.append(row.line)
            if self.importer.searched_tables:
                refresh_statistics(self.importer.searched_tables, len(self.created_ids))

    def insert(self, rows: Sequence[Row], first: int) -> None:
        ids = self.table.insert(first, first + len(rows))
        for row, key in zip(rows, ids, strict=True):
            row.status, row.record_id, row.version = CREATED, key, 1

    def update(self, rows: list[Row]) -> None:
        by_halves(rows, lambda part, first: self.write_changes(part))

    def write_changes(self, rows: Sequence[Row]) -> None:
        """Change the records that the rows match, as PATCHes would. The row locks are taken in the order of the ids."""
        keys = sorted({row.matches[0] for row in rows})
        records = {record.pk: record for record in self.importer.scope().filter(pk__in=keys).order_by("pk").locked()}  # type: ignore[attr-defined]
        for row in rows:
            row.status, row.errors = None, []
            row.record = records.get(row.matches[0])
            if row.record is None:
                row.refuse("", "conflict", "The record was changed at the same time; import the file again.")
                continue
            self.importer.may_update(row)
            values = self.checks.validate(row, row.record) if row.status is None else None
            if values is not None:
                before = row.record.version
                self.checks.serializer.update(row.record, values)
                row.status = UNCHANGED if row.record.version == before else UPDATED
                row.record_id, row.version = row.record.pk, row.record.version

    def repeat(self, row: Row, earlier: Row) -> None:
        """Treat a row that repeats an earlier one of its batch as if that had been on record before."""
        if earlier.record_id is None:
            self.create([row])
            return
        row.matches = [earlier.record_id]
        self.update(self.settle_matched([row])[0])

    def line_of(self, key: int) -> int | None:
        """The earlier line of the file that has created or matched this record."""
        return self.matched_lines.get(key, self.line_of_created(key))

    def describe(self, found: Iterable[int | Row]) -> list[dict[str, int]]:
        """The records or lines in the answer. A record that this import has created is named by its line."""
        likely = []
        for one in found:
            line = one.line if isinstance(one, Row) else self.line_of_created(one)
            likely.append({"id": one} if isinstance(one, int) and line is None else {"line": line})
        return likely  # type: ignore[return-value]

    def line_of_created(self, key: int) -> int | None:
        place = bisect_left(self.created_ids, key)
        found = place < len(self.created_ids) and self.created_ids[place] == key
        return self.created_lines[place] if found else None

    def close(self) -> None:
        """End the thread that checks ahead, after the last batch or an error."""
        self.ahead = None
        self.background.close()

    def patients_on_record(self) -> set[int]:
        """Those of `patients` who exist if this import is rolled back."""
        if not self.importer.creates_patients:
            return self.patients
        return {key for key in self.patients if not self.has_created(key)}

    def has_created(self, key: int) -> bool:
        """Whether this record exists since this import, and does not where that is rolled back."""
        return self.line_of_created(key) is not None

    def record_lines(self, rows: list[Row]) -> None:
        self.summary.update(row.status for row in rows if row.status)
        self.patients |= self.importer.patients_in(row.result() for row in rows)
        if self.record is not None:
            columns = ("line", "record_id", "version", "server", "old_id", "errors", "likely")
            lines = {name: [getattr(row, name) for row in rows] for name in columns}
            ImportedLine.objects.write(self.record, lines | {"status": [row.status or FAILED for row in rows]})


def unsettled(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.status is None]


def by_halves(rows: Sequence[Row], write: Callable[[Sequence[Row], int], None], first: int = 0) -> None:
    """Write these rows in one step. If one of them breaks a rule of the database, write the halves, until the rows that
    do are alone; those fail with the error that a POST would answer.

    `write` gets the rows and the position of their first one.
    """
    if not rows:
        return
    try:
        with transaction.atomic():
            write(rows, first)
    except (IntegrityError, DataError) as error:
        if len(rows) == 1:
            rows[0].fail(*problems_of_database(error, rows[0]))
            return
        middle = len(rows) // 2
        by_halves(rows[:middle], write, first)
        by_halves(rows[middle:], write, first + middle)


def problems_of_database(error: IntegrityError | DataError, row: Row) -> list[dict[str, str]]:
    if isinstance(error, DataError):
        return [OUT_OF_RANGE]
    broken: APIException | None = broken_rule(error, frozenset(row.values))
    if broken is None:
        raise error
    return problems_of(broken)


def refuse_query(*_: Any) -> Never:
    raise RuntimeError("A validation that runs queries cannot be done ahead: see Importer.prepares_without_database.")


def batches(records: Iterable[ReadRecord]) -> Iterator[tuple[list[ReadRecord], list[ReadRecord]]]:
    """Each batch with the one that follows it."""
    iterator = iter(records)
    batch = list(islice(iterator, ROWS_PER_BATCH))
    while batch:
        following = list(islice(iterator, ROWS_PER_BATCH))
        yield batch, following
        batch = following


def run_import(run: ImportRun, records: Iterable[ReadRecord]) -> Iterator[Row]:
    """Begin the run, import all records and finish it; yields each row when its batch has been written."""
    run.begin()
    for batch, following in batches(records):
        yield from run.import_batch(batch, following)
    run.finish()


def has_failed(run: ImportRun) -> bool:
    """Whether an all-or-nothing import must be rolled back."""
    return not run.options.partial and run.summary[FAILED] > 0
