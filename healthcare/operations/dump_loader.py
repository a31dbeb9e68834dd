"""Runs the SQL that pg_restore makes of a dump, on a connection of Django's, inside its transaction."""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.operations.backup_errors import BackupError
from healthcare.operations.backup_file import BackupReader, Manifest
from healthcare.operations.encryption import Worker
from healthcare.operations.programs import find_reason, killed_at_the_end
from healthcare.operations.progress import at_intervals

OPTIONS = ["--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions", "--no-tablespaces"]
# Entries of the dump's table of contents that are left out. `public` exists in every database; a comment on an
# extension takes its owner; an event trigger takes a superuser.
SKIPPED_ENTRIES = (
    r"POLICY|ROW SECURITY|EVENT TRIGGER|SCHEMA - public|COMMENT - SCHEMA public|COMMENT - EXTENSION|COMMENT \S+ POLICY"
    r"|COMMENT - EVENT TRIGGER"
)
ENTRY = r"^\d+; \d+ \d+ (?:{}) "
COPY = re.compile(rb"COPY .* FROM stdin;\n")
COPY_END = b"\\.\n"
SETTING = re.compile(r"^SET (\w+) = ", re.MULTILINE)
# Of psql, and a setting that servers before version 17 do not know.
NOT_FOR_SERVER = re.compile(r"^(\\(un)?restrict .*|SET transaction_timeout = 0;)$", re.MULTILINE)
COPY_BYTES = 1024 * 1024  # bytes


class DumpLoader:
    """`open_reader` opens the archive anew; `sha256` is the digest of what the last complete reading read."""

    def __init__(
        self,
        pg_restore: str,
        open_reader: Callable[[], AbstractContextManager[BackupReader]],
        size: int,
        report: Callable[[str], None],
    ) -> None:
        self.pg_restore, self.open_reader, self.size, self.report = pg_restore, open_reader, size, report
        self.sha256 = b""
        self.settings = {"search_path"}

    def load(self, connection: BaseDatabaseWrapper, absent: set[str], manifest: Manifest) -> None:
        """Load all but the extensions in `absent` and the indexes that need them."""
        with tempfile.NamedTemporaryFile("w", prefix="contents-") as contents:  # names of tables alone
            contents.write("\n".join(self.contents(connection, absent, manifest)))
            contents.flush()
            with connection.cursor() as cursor:
                self.report("Creating tables…")
                self.execute(cursor, self.section("pre-data", contents.name))
                self.report("Loading rows…")
                self.load_rows(cursor, contents.name)
                self.report("Building indexes…")
                self.execute(cursor, self.section("post-data", contents.name))
                for setting in sorted(self.settings):
                    cursor.execute(f"RESET {setting}")

    def contents(self, connection: BaseDatabaseWrapper, absent: set[str], manifest: Manifest) -> list[str]:
        """The table of contents of the dump, without what is left out."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT nspname FROM pg_namespace")
            schemas = [f"SCHEMA - {re.escape(name)}" for (name,) in cursor.fetchall()]
        extensions = [f"EXTENSION - {re.escape(name)}" for name in absent]
        indexes = [
            rf"(?:COMMENT )?INDEX \S+ {re.escape(index)}"
            for name in absent
            for index in manifest.extension_indexes.get(name, [])
        ]
        left_out = re.compile(ENTRY.format("|".join([SKIPPED_ENTRIES, *schemas, *extensions, *indexes])))
        with self.running(["--list"]) as output:
            lines = output.read().decode().splitlines()
        return [line for line in lines if not left_out.match(line + " ")]

    def section(self, name: str, contents: str) -> str:
        with self.running([f"--section={name}", "--use-list", contents, "--file=-"]) as output:
            return output.read().decode()

    def execute(self, cursor: Any, sql: str) -> None:
        sql = NOT_FOR_SERVER.sub("", sql)
        self.settings.update(SETTING.findall(sql))
        if sql.strip():
            cursor.execute(sql)

    def load_rows(self, cursor: Any, contents: str) -> None:
        with self.running(["--section=data", "--use-list", contents, "--file=-"], whole=True) as output:
            statements: list[bytes] = []
            for line in output:
                if COPY.fullmatch(line):
                    self.execute(cursor, b"".join(statements).decode())
                    statements = []
                    cursor.copy_expert(line.decode(), CopyData(output), COPY_BYTES)
                elif line.strip() and not line.startswith(b"--"):
                    statements.append(line)
            self.execute(cursor, b"".join(statements).decode())

    @contextmanager
    def running(self, arguments: list[str], *, whole: bool = False) -> Iterator[IO[bytes]]:
        """The output of pg_restore, which gets the dump. `whole`: it needs all of it, else the beginning."""
        with tempfile.TemporaryFile() as errors:  # messages alone, no data
            process = subprocess.Popen(  # noqa: S603
                [self.pg_restore, *OPTIONS, *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/",
            )  # fmt: skip
            with killed_at_the_end(process) as running:
                assert running.stdin  # noqa: S101  (for the type checker)
                assert running.stdout  # noqa: S101
                stdin = running.stdin
                feeder = Worker(lambda: self.feed(stdin, whole))
                yield running.stdout
                feeder.thread.join()
                if feeder.error:
                    raise feeder.error
                if running.wait() != 0:
                    errors.seek(0)
                    raise BackupError(f"pg_restore failed: {find_reason(errors.read())}.")

    def feed(self, target: IO[bytes], whole: bool) -> None:
        """Write the dump to pg_restore, which reads no further than it needs to."""
        written, report_progress = 0, at_intervals(self.report)
        with self.open_reader() as reader:
            try:
                for part in reader.dump():
                    target.write(part)
                    written += len(part)
                    if whole:
                        report_progress(f"{100 * written / max(self.size, 1):.0f} % of the rows loaded…")
                self.sha256 = reader.digest.digest()
                target.close()
            except BrokenPipeError:
                if whole:
                    raise


class CopyData:
    """The data of one COPY in the output of pg_restore, as a file that ends where the data does."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.ended = False

    def read(self, size: int) -> bytes:
        """Whole lines of together about `size` bytes."""
        lines: list[bytes] = []
        total = 0
        while not self.ended and total < size:
            line = self.source.readline()
            if line == COPY_END or not line:
                self.ended = True
            else:
                lines.append(line)
                total += len(line)
        return b"".join(lines)
