"""Verifying the chain of seals, and the mark that says up to where it is verified.

The mark spares the next run what this one has read. It lies in the database, signed with AUDIT_SEAL_KEY, and names the
code of the seal it stands at. A user of the database without the key cannot move it forward: a forged mark does not
verify, one that was removed or put back to an older state makes the next run read more, and one whose seal is gone is
reported. Only a full verification finds what was tampered with behind the mark.
"""

import datetime
import hashlib
import hmac
import json
import math
import time

from django.conf import settings

from audit.archived_rows import ArchivedRows
from audit.models import Forgotten, Seal, VerificationMark
from audit.seals import TamperingError, codes_of, row_code, seal_code, seal_key
from audit.tables import BELOW_EVERY_ID, ROWS_PER_READ, SealedRow, Table

CLOCK_TOLERANCE = datetime.timedelta(minutes=1)  # by which a clock may be set back


def mark_code(key: bytes, mark: VerificationMark) -> str:
    content = ["mark", mark.seal_id, mark.seal_code, mark.positions]
    return hmac.new(key, json.dumps(content, sort_keys=True).encode(), hashlib.sha256).hexdigest()


class Verifier:
    """Verifies the chain from its first seal on, or from the mark on. Raises TamperingError at the first row or seal
    that differs."""

    def __init__(self, key: bytes, tables: list[Table]) -> None:
        self.key, self.tables = key, {table.name: table for table in tables}
        self.archived = ArchivedRows(key)
        self.position = dict.fromkeys(self.tables, BELOW_EVERY_ID)
        self.latest: dict[str, datetime.datetime] = {}
        self.seal_id, self.code = 0, ""
        self.verified_rows = self.forgotten_rows = self.archived_rows = 0

    def resume(self) -> None:
        """Begin after the seal up to which an earlier run has verified the chain, if there was one."""
        mark = VerificationMark.objects.filter(pk=1).first()
        if mark is None:
            return
        if not hmac.compare_digest(mark.code, mark_code(self.key, mark)):
            raise TamperingError("The mark of the last verification was altered: run verify_audit --full.")
        if not Seal.objects.filter(pk=mark.seal_id, code=mark.seal_code).exists():
            raise TamperingError(f"audit_seal {mark.seal_id} was altered or removed since it was verified.")
        self.seal_id, self.code = mark.seal_id, mark.seal_code
        for table, (position, latest) in mark.positions.items():
            self.position[table] = position
            self.latest[table] = datetime.datetime.fromisoformat(latest)

    def set_mark(self) -> None:
        """Remember, signed, up to where the chain is verified."""
        positions = {table: [self.position[table], latest.isoformat()] for table, latest in self.latest.items()}
        mark = VerificationMark(pk=1, seal_id=self.seal_id, seal_code=self.code, positions=positions)
        mark.code = mark_code(self.key, mark)
        mark.save()

    def verify(self, seal: Seal) -> None:
        unaltered = hmac.compare_digest(seal.code, seal_code(self.key, seal, self.code))
        if not unaltered or seal.table not in self.tables:
            raise TamperingError(f"audit_seal {seal.pk} was altered, or one before it is missing.")
        table = self.tables[seal.table]
        rows = {row.id: row for row in table.rows(self.position[table.name], seal.last_id, tuple(seal.columns))}
        forgotten = set(
            Forgotten.objects.filter(
                table=table.name, row__gt=self.position[table.name], row__lte=seal.last_id
            ).values_list("row", flat=True)
        )
        codes = codes_of(seal)
        for row_id in sorted(rows.keys() | codes.keys()):
            self.verify_row(table, row_id, codes.get(row_id), rows.get(row_id), row_id in forgotten)
        self.seal_id, self.code = seal.pk, seal.code
        self.position[table.name], self.latest[table.name] = seal.last_id, seal.latest

    def verify_row(self, table: Table, row_id: int, code: bytes | None, row: SealedRow | None, forgotten: bool) -> None:
        self.verified_rows += 1
        if code is None:
            raise TamperingError(f"{table.name} {row_id} was inserted after its time was sealed.")
        if forgotten:
            self.forgotten_rows += 1
        elif row is None:
            if not self.archived.hold(table.name, row_id):
                raise TamperingError(f"{table.name} {row_id} is missing.")
            self.archived_rows += 1
        elif not hmac.compare_digest(code, row_code(self.key, table.name, row)):
            raise TamperingError(f"{table.name} {row_id} was altered.")
        if row:
            self.check_date(table, row)

    def check_date(self, table: Table, row: SealedRow) -> None:
        if table.name in self.latest and row.at < self.latest[table.name] - CLOCK_TOLERANCE:
            raise TamperingError(f"{table.name} {row.id} was inserted with a date before rows sealed earlier.")

    def check_end(self, missing: str | None = None) -> None:
        """Raise TamperingError if the chain does not reach as far as it has to.

        `missing` is a seal that `--expect` names and that the chain does not contain.
        """
        if not self.code:
            raise TamperingError("There is no seal: run seal_audit first. If it ran before, all seals were removed.")
        if missing:
            raise TamperingError(f"audit_seal {missing.partition(':')[0]} is missing: the chain's end was removed.")

    def check_unsealed(self, deadline: float = math.inf) -> int:
        """Check the dates of the rows since the last seals, all that can be checked of them, until the deadline of
        `time.monotonic`. Returns their number."""
        count = 0
        for table in self.tables.values():
            for row in table.rows_after(self.position[table.name]):
                self.check_date(table, row)
                count += 1
                if count % ROWS_PER_READ == 0 and time.monotonic() > deadline:
                    return count
        return count

    def summary(self, unsealed: int) -> str:
        """What was verified, in one sentence."""
        removed = f"{self.forgotten_rows} of them erased with a patient"
        removed += f", {self.archived_rows} archived" if self.archived_rows else ""
        return f"{self.verified_rows} sealed rows are unaltered, {removed}; {unsealed} rows are not sealed yet."


def verified_until() -> int:
    """The last seal that a verification has reached, by a mark that is signed; 0 if there is none."""
    mark = VerificationMark.objects.filter(pk=1).first()
    if mark is None or not settings.AUDIT_SEAL_KEY:
        return 0
    return mark.seal_id if hmac.compare_digest(mark.code, mark_code(seal_key(), mark)) else 0
