"""`manage.py import_records patients FILE --owner NAME`: create and update the records of a file of any size."""

import csv
import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, reset_queries, transaction
from rest_framework.exceptions import APIException, ValidationError

from audit.models import AccessLog, Basis
from healthcare.api.errors import flatten
from healthcare.file_digests import sha256_of
from healthcare.imports import staging
from healthcare.imports.file_refused import FileRefused
from healthcare.imports.importer import Importer, importers
from healthcare.imports.models import Import, ImportedLine, StagedFile
from healthcare.imports.options import CHOICES, ImportOptions
from healthcare.imports.pipeline import ImportRun, batches
from healthcare.imports.reading import CSV, NDJSON, UNLIMITED_FILE, ReadRecord, read_records
from healthcare.imports.rows import FAILED, LIKELY, Row
from healthcare.imports.unpacking import chunks_of
from healthcare.operations.command_options import operating_system_account
from healthcare.operations.progress import at_intervals
from healthcare.ownership import RecordOwner
from healthcare.postgresql.session import REMOVE_TIMEOUTS
from healthcare.rls.context import enter

SUFFIXES = {".csv": CSV, ".ndjson": NDJSON, ".jsonl": NDJSON}
MEDIA_TYPES = {"csv": CSV, "ndjson": NDJSON}
GZIP_BEGINS = b"\x1f\x8b"  # which no text does
MOST_PRINTED = 20  # lines that failed
APPLICATION = "manage.py import_records"


class Command(BaseCommand):
    help = (
        "Import patients, doctors or mappings from a CSV or NDJSON file, packed with gzip or not, as their owner. "
        "Without --apply it checks the file and writes nothing. All or nothing is written, with --partial what has no "
        "errors. An interrupted run is continued by the same command, and nothing is written twice. Exits with 1 when "
        "a row fails."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=sorted(importers()), help="What the records are.")
        parser.add_argument("file", type=Path, metavar="FILE", help="The file.")
        parser.add_argument("--owner", required=True, metavar="NAME", help="Who is to own the records.")
        parser.add_argument("--apply", action="store_true", help="Write; without it the file is only checked.")
        parser.add_argument("--partial", action="store_true", help="Write the rows without errors.")
        for name in ("match", "on_match", "on_likely", "empty"):
            choices = CHOICES[name]
            parser.add_argument(
                f"--{name.replace('_', '-')}", choices=choices, default=choices[0], help=f"Default: {choices[0]}."
            )
        parser.add_argument(
            "--map", action="append", default=[], metavar="COLUMN:FIELD", help="Rename a column; may be repeated."
        )
        parser.add_argument("--date-format", metavar="FORMAT", help="As for strptime: %%d.%%m.%%Y. Default: ISO 8601.")
        parser.add_argument("--encoding", metavar="LABEL", help="Of the WHATWG Encoding Standard. Default: utf-8.")
        parser.add_argument("--delimiter", metavar="CHARACTER", help="Default: that of the header.")
        parser.add_argument("--format", choices=MEDIA_TYPES, help="Default: by the name of the file.")
        parser.add_argument(
            "--errors", type=Path, metavar="FILE", help="Write a CSV file of the lines that failed or are held."
        )
        parser.add_argument(
            "--again", action="store_true", help="Import a file again that the same command has imported."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with problem_lines(options["errors"]) as store, rare_garbage_collections():
                summary = FileImport(self, options, store).run()
        except (APIException, staging.StagingError) as error:
            raise CommandError(exception_text(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename or options['file']}: {error.strerror}.") from error
        if summary[FAILED]:
            raise CommandError(f"{summary[FAILED]:,} rows failed.")


@contextmanager
def rare_garbage_collections() -> Iterator[None]:
    """Reference counting frees the rows. By default the collector traversed all objects that Django has loaded so often
    that it took a sixth of the time."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class FileImport:
    """One run of the command."""

    def __init__(self, command: BaseCommand, options: dict[str, Any], store: Callable[[Row], None]) -> None:
        self.command, self.given, self.store = command, options, store
        self.path: Path = options["file"]
        self.kind = options["kind"]
        self.importer: type[Importer] = importers()[self.kind]
        self.options = parse_options(options)
        self.media_type = media_type_of_file(self.path, options["format"])
        self.owner = find_owner(options["owner"])
        self.count = self.total = 0  # rows that are checked or written, and all of them
        self.failed_lines = 0  # lines that failed
        self.accessed: set[int] = set()
        self.report = at_intervals(self.write_progress)

    def run(self) -> dict[str, int]:
        """The number of rows by status."""
        run = self.new_run(None)
        if self.options.mode == "check":
            self.check(run)
            self.say("Checked; nothing was written.")
        elif (done := self.find_complete()) is not None:
            self.say(
                f"This command has imported this file already, as import {done.pk}; nothing was written. --again "
                "imports it once more."
            )
            run.summary.update(done.summary)
        else:
            run = self.apply()
        summary = dict(run.summary)
        self.command.stdout.write("\n".join(f"  {status} {number:,}" for status, number in summary.items()))
        if self.failed_lines > MOST_PRINTED:
            self.say(f"{self.failed_lines - MOST_PRINTED:,} more lines failed; --errors FILE writes all of them.")
        return summary

    def new_run(self, parent: Import | None) -> ImportRun:
        owner = RecordOwner(self.owner.pk, self.owner.username)
        is_text = self.media_type == CSV
        return ImportRun(
            self.importer, owner=owner, caller_id=self.owner.pk, options=self.options, is_text=is_text, parent=parent
        )

    def check(self, run: ImportRun) -> None:
        with closing(run), transaction.atomic():
            self.enter()
            run.begin()
            for batch, following in batches(self.records(run)):
                self.written(run, run.import_batch(batch, following))
                reset_queries()
            transaction.set_rollback(True)
        self.record_access_apart()

    def find_complete(self) -> Import | None:
        self.digest = staging.digest_of_command(
            sha256_of(self.path),
            self.kind,
            self.owner.pk,
            {**self.options.parameters(), "type": self.media_type},
        )
        return None if self.given["again"] else staging.find_complete_import(self.owner.pk, self.kind, self.digest)

    def apply(self) -> ImportRun:
        file, _ = StagedFile.objects.get_or_create(digest=self.digest, defaults={"created_by": self.owner})
        if file.parent and file.parent.undone_at:
            file.delete()
            file = StagedFile.objects.create(digest=self.digest, created_by=self.owner)
        run = self.new_run(file.parent)
        if file.parent:
            self.go_on(run, file.parent)
        with closing(run):
            self.write(file, run)
        return run

    def write(self, file: StagedFile, run: ImportRun) -> None:
        try:
            if not staging.is_staged(file):
                if file.rows is not None:
                    staging.forget_rows(file)
                staging.stage(file, self.records(run), lambda number: self.report(f"{number:,} rows read"))
            self.count, self.total = file.written_rows, file.rows or 0
            write = staging.write_in_parts if self.options.partial else staging.write_whole
            write(file, run, self.enter, lambda rows: self.written(run, rows))
        except staging.RefusedRowsError:
            file.delete()
            self.record_access_apart()
            self.say("Nothing was written: correct the rows that failed, or use --partial to write the others.")
        except (FileRefused, ValidationError):  # as it would be again
            file.delete()
            raise
        else:
            self.say(f"Imported, as import {run.record.pk}." if run.record else "")

    def go_on(self, run: ImportRun, parent: Import) -> None:
        """Continue a partial import: its rows so far count, and later ones may repeat them."""
        run.summary.update(parent.summary)
        lines = ImportedLine.objects.filter(parent=parent)
        for line in lines.exclude(record_id=None).order_by("record_id", "line").iterator():
            run.resume(line)
        for line in lines.filter(status__in=[FAILED, LIKELY]).order_by("line").iterator():
            self.show(Row(line.line, {}, status=line.status, errors=line.errors, likely=line.likely))
        self.say(f"Going on with import {parent.pk}.")

    def records(self, run: ImportRun) -> Iterator[ReadRecord]:
        """The records. Raises ValidationError for unknown columns, before anything is staged."""
        with self.path.open("rb") as file:
            gzipped = file.read(len(GZIP_BEGINS)) == GZIP_BEGINS
            file.seek(0)
            yield from read_records(
                chunks_of(file), media_type=self.media_type, gzipped=gzipped, options=self.options.read,
                limits=UNLIMITED_FILE, check_columns=run.refuse_unknown_columns,
            )  # fmt: skip

    def enter(self) -> None:
        """Enter the transaction as the owner, without the timeouts of requests. The history names who runs this."""
        enter(self.owner.pk)
        context = {"actor": self.owner.pk, "login": operating_system_account(), "application": APPLICATION}
        with connection.cursor() as cursor:
            cursor.execute(REMOVE_TIMEOUTS)
            cursor.execute("SELECT set_config('pghistory.context_metadata', %s, true)", [json.dumps(context)])

    def written(self, run: ImportRun, rows: list[Row]) -> None:
        """Called with the rows of each batch, in its transaction."""
        for row in rows:
            self.show(row)
        if not self.options.partial:  # it may be rolled back
            self.accessed |= run.patients_on_record()
        seen, run.patients = run.patients, set()
        if not run.is_check:
            self.record_access(seen)
        self.count += len(rows)
        self.report(
            f"{self.count:,} rows checked" if run.is_check else f"{self.count:,} of {self.total:,} rows written"
        )

    def record_access(self, patient_ids: set[int]) -> None:
        if patient_ids:
            model: Any = self.importer.serializer_class
            action = f"{model.Meta.model._meta.model_name}.import"
            AccessLog.objects.record(
                self.owner.pk, action, patient_ids, basis=Basis.OWNER, request_id="", outcome=200, pure_read=False
            )

    def record_access_apart(self) -> None:
        """Record the reads of an import that was rolled back: its output has named these patients."""
        if self.accessed:
            with transaction.atomic():
                self.enter()
                self.record_access(self.accessed)

    def show(self, row: Row) -> None:
        """Print a line that failed, without its values."""
        if row.status in {FAILED, LIKELY}:
            self.store(row)
        if row.status == FAILED:
            self.failed_lines += 1
            if self.failed_lines <= MOST_PRINTED:
                self.command.stdout.write("\n".join(f"line {row.line}: {problem_text(error)}" for error in row.errors))

    def say(self, text: str) -> None:
        self.command.stdout.write(text)

    def write_progress(self, text: str) -> None:
        self.command.stderr.write(text)
        self.command.stderr.flush()


def parse_options(given: dict[str, Any]) -> ImportOptions:
    delimiter = given["delimiter"]
    parameters = {
        "mode": ["apply" if given["apply"] else "check"],
        "partial": ["true" if given["partial"] else "false"],
        **{name: [given[name]] for name in ("match", "on_match", "on_likely", "empty")},
        **{name: [given[name]] for name in ("date_format", "encoding") if given[name] is not None},
        **({} if delimiter is None else {"delimiter": ["\t" if delimiter == r"\t" else delimiter]}),
        "map": given["map"],
    }
    return ImportOptions.parse(parameters)


def media_type_of_file(path: Path, format_name: str | None) -> str:
    if format_name:
        return MEDIA_TYPES[format_name]
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in SUFFIXES:
        raise CommandError("The name of the file ends neither in .csv nor in .ndjson; give its --format.")
    return SUFFIXES[suffix.lower()]


def find_owner(name: str) -> Any:
    users: Any = get_user_model()._default_manager
    owner = users.find_by_identifier(name)
    if owner is None or not owner.is_active:
        raise CommandError("--owner: There is no active user with this username.")
    return owner


def exception_text(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return " ".join(problem_text(one) for one in flatten(error.detail))
    return str(error.detail) if isinstance(error, APIException) else str(error)


def problem_text(error: dict[str, str]) -> str:
    name = error["pointer"].removeprefix("/")
    return f"{name}: {error['detail']}" if name else error["detail"]


@contextmanager
def problem_lines(path: Path | None) -> Iterator[Callable[[Row], None]]:
    """Stores rows that failed or are held in a CSV file of mode 0600, which appears when it is complete."""
    if path is None:
        yield lambda row: None
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["line", "status", "pointer", "code", "detail"])

            def store(row: Row) -> None:
                for error in row.errors:
                    writer.writerow([row.line, row.status, error["pointer"], error["code"], error["detail"]])
                for one in row.likely:
                    [(what, number)] = one.items()
                    writer.writerow([row.line, row.status, "", "likely", f"{what} {number}"])

            yield store
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
