"""Tamper evidence: a chain of keyed codes (HMAC-SHA-256, RFC 2104) over history and access log.

Each seal holds a code for every row it covers, and a code over itself and the previous seal. An attacker with the
database but without AUDIT_SEAL_KEY cannot alter, remove or insert a sealed row or a seal without detection. The chain
alone does not detect the removal of the last seals together with the rows they cover, or of all seals. Therefore
`seal_audit` prints the last seal, to be stored elsewhere and passed to `verify_audit --expect`. Rows since the last
seal are not covered.
"""

import datetime
import hashlib
import hmac
import json
from collections.abc import Iterator

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection, transaction

from audit.models import Forgotten, Seal
from audit.tables import BELOW_EVERY_ID, ROWS_PER_BATCH, SealedRow, Table

CODE_LENGTH = 16  # bytes of each row's code: 128 bits, NIST SP 800-107 section 5.3
CLOCK_TOLERANCE = datetime.timedelta(minutes=1)  # by which a clock may be set back


class TamperingError(Exception):
    """A row or a seal is not as it was sealed. The message names the first one."""


def seal_key() -> bytes:
    if not settings.AUDIT_SEAL_KEY:
        raise CommandError(
            "AUDIT_SEAL_KEY is not set; write AUDIT_SEAL_KEY=<at least 32 random characters> into .env, for example "
            "what `python3 -c 'import secrets; print(secrets.token_urlsafe(32))'` prints, and keep a copy elsewhere."
        )
    return settings.AUDIT_SEAL_KEY.encode()


def row_code(key: bytes, table: str, row: SealedRow) -> bytes:
    return hmac.digest(key, f"{table}\0{row.id}\0{row.text}".encode(), "sha256")[:CODE_LENGTH]


def seal_code(key: bytes, seal: Seal, previous: str) -> str:
    """The code of a seal, over all its columns and the code of the previous seal."""
    times = [seal.at.timestamp(), seal.latest.timestamp()]
    content = [previous, seal.table, seal.columns, seal.row_ids, seal.last_id, times]
    return hmac.new(key, json.dumps(content).encode() + bytes(seal.codes), hashlib.sha256).hexdigest()


@transaction.atomic
def seal_batch(key: bytes, table: Table, until: int) -> int:
    """Seal the next rows of a table up to an id, and return their number: 0 when all are sealed."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE audit_seal IN SHARE ROW EXCLUSIVE MODE")  # concurrent runs extend one chain
    previous = Seal.objects.order_by("-id").first()
    last = Seal.objects.filter(table=table.name).order_by("-id").first()
    rows = table.rows(last.last_id if last else BELOW_EVERY_ID, until, table.columns, ROWS_PER_BATCH)
    if rows:
        seal = Seal(
            table=table.name,
            columns=list(table.columns),
            row_ids=[row.id for row in rows],
            last_id=rows[-1].id,
            latest=max([row.at for row in rows] + ([last.latest] if last else [])),
            codes=b"".join(row_code(key, table.name, row) for row in rows),
        )
        seal.code = seal_code(key, seal, previous.code if previous else "")
        seal.save()
    return len(rows)


def seals() -> Iterator[Seal]:
    last = 0
    while batch := list(Seal.objects.filter(id__gt=last).order_by("id")[:20]):
        yield from batch
        last = batch[-1].pk


class Verifier:
    """Verifies the chain from its first seal on. Raises TamperingError at the first row or seal that differs."""

    def __init__(self, key: bytes, tables: list[Table]) -> None:
        self.key, self.tables = key, {table.name: table for table in tables}
        self.position = dict.fromkeys(self.tables, BELOW_EVERY_ID)
        self.latest: dict[str, datetime.datetime] = {}
        self.code, self.verified_rows, self.forgotten_rows = "", 0, 0

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
        codes = dict(zip(seal.row_ids, chunks(bytes(seal.codes)), strict=True))
        for row_id in sorted(rows.keys() | codes.keys()):
            self.verify_row(table, row_id, codes.get(row_id), rows.get(row_id), row_id in forgotten)
        self.code, self.position[table.name], self.latest[table.name] = seal.code, seal.last_id, seal.latest

    def verify_row(self, table: Table, row_id: int, code: bytes | None, row: SealedRow | None, forgotten: bool) -> None:
        self.verified_rows += 1
        if code is None:
            raise TamperingError(f"{table.name} {row_id} was inserted after its time was sealed.")
        if forgotten:
            self.forgotten_rows += 1
        elif row is None:
            raise TamperingError(f"{table.name} {row_id} is missing.")
        elif not hmac.compare_digest(code, row_code(self.key, table.name, row)):
            raise TamperingError(f"{table.name} {row_id} was altered.")
        if row:
            self.check_date(table, row)

    def check_date(self, table: Table, row: SealedRow) -> None:
        if table.name in self.latest and row.at < self.latest[table.name] - CLOCK_TOLERANCE:
            raise TamperingError(f"{table.name} {row.id} was inserted with a date before rows sealed earlier.")

    def finish(self, missing: str | None) -> int:
        """Check the dates of the rows since the last seals, all that can be checked of them, and return their number.

        `missing` is a seal that `--expect` names and that the chain does not contain.
        """
        if not self.code:
            raise TamperingError("There is no seal: run seal_audit first. If it ran before, all seals were removed.")
        if missing:
            raise TamperingError(f"audit_seal {missing.partition(':')[0]} is missing: the chain's end was removed.")
        count = 0
        for table in self.tables.values():
            for row in table.rows_after(self.position[table.name]):
                self.check_date(table, row)
                count += 1
        return count


def chunks(codes: bytes) -> Iterator[bytes]:
    for start in range(0, len(codes), CODE_LENGTH):
        yield codes[start : start + CODE_LENGTH]
