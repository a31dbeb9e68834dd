"""The bytes of an export, batch by batch."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from healthcare.api.cursors import Keyset
from healthcare.exports.formats import ExportFormat
from healthcare.exports.snapshot import OwnConnection, Snapshot
from healthcare.search.hits import Hits

# A batch is read at once. Its size in records follows from the bytes that the records of the batch before had.
FIRST_BATCH, LARGEST_BATCH, BATCH_BYTES = 100, 1_000, 512 * 1024
PIECE = 256 * 1024  # bytes that are sent together


class ExportBrokenOffError(Exception):
    """The export cannot go on. It must not end as if it were complete, so the connection is broken."""


@dataclass(frozen=True)
class ExportLimits:
    """How many records an export has at most, how many seconds it takes, and how long PostgreSQL waits for the next
    batch before it ends the transaction, which holds back VACUUM. The server breaks off a slower client earlier."""

    records: int | float = 1_000_000
    seconds: float = 60 * 60
    idle: str = "120s"


UNLIMITED_EXPORT = ExportLimits(math.inf, math.inf, "0")


class ExportStream:
    """An iterator over the bytes of an export, which owns the connections that it uses.

    It is no generator, whose `close` runs nothing if it was never started: `close` ends the snapshot at any time.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        rows: Keyset | Hits,
        represent: Callable[[Sequence[Any]], list[dict[str, Any]]],
        written_as: ExportFormat,
        enter: Callable[[], None],
        record: Callable[[Sequence[Any]], None] | None,
        limits: ExportLimits,
    ) -> None:
        """`represent` gives the values of each record of a batch. `record`, where reads are recorded, is called with
        the records of a batch before it is sent, in a transaction that `enter` has entered as the caller, which raises
        if that caller may not read any more."""
        self.snapshot, self.rows, self.represent, self.written_as = snapshot, rows, represent, written_as
        self.enter, self.record, self.limits = enter, record, limits
        self.recording: OwnConnection | None = None
        self.cursor: Any = None
        self.count = 0
        self.batch_size = FIRST_BATCH
        self.ends_at = time.monotonic() + limits.seconds
        self.pieces = self.make_pieces(self.read_batch())  # read here, where an error can still be answered

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self.pieces)
        except BaseException:
            self.close()
            raise

    def make_pieces(self, batch: list[Any]) -> Generator[bytes]:
        piece = bytearray(self.written_as.head())
        while batch:
            self.record_batch(batch)
            with self.snapshot.use():
                lines = [self.written_as.line(values) for values in self.represent(batch)]
            self.batch_size = size_of_next_batch(len(batch), sum(map(len, lines)))
            for line in lines:
                piece += line
                if len(piece) >= PIECE:
                    yield bytes(piece)
                    piece.clear()
            batch = self.read_batch()
        if piece:
            yield bytes(piece)

    def read_batch(self) -> list[Any]:
        if time.monotonic() > self.ends_at:
            raise ExportBrokenOffError(f"it has taken {self.limits.seconds:,} seconds")
        with self.snapshot.use():
            batch = self.rows.fetch(self.cursor, self.batch_size)
        if batch:
            self.cursor = self.rows.cursor(batch[-1], back=False)
            self.count += len(batch)
        if self.count > self.limits.records:
            raise ExportBrokenOffError(f"it has more than {self.limits.records:,} records")
        return batch

    def record_batch(self, batch: list[Any]) -> None:
        """Commit that these records are read. This must not wait for the snapshot, so it has another connection."""
        if self.record is None:
            return
        if self.recording is None:
            self.recording = OwnConnection(self.limits.idle)
        with self.recording.use(), transaction.atomic():
            self.enter()
            self.record(batch)

    def close(self) -> None:
        with suppress(ValueError):  # another thread is in the generator, and will find the connection closed
            self.pieces.close()
        self.close_connections()

    def close_connections(self) -> None:
        self.snapshot.close()
        if self.recording is not None:
            self.recording.close()

    def __del__(self) -> None:
        """Django does not close an answer that it replaces by an error."""
        self.close_connections()


def size_of_next_batch(records: int, size: int) -> int:
    """How many records to read after a batch of `records` records, which had `size` bytes."""
    return max(1, min(LARGEST_BATCH, records * BATCH_BYTES // size))
