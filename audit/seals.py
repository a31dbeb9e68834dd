"""Tamper evidence: a chain of keyed codes (HMAC-SHA-256, RFC 2104) over history and access log.

Each seal holds a code for every row it covers, and a code over itself and the seal before, so that whoever has the
database but not AUDIT_SEAL_KEY cannot alter, remove or insert a sealed row or seal unseen. What the chain alone cannot
see: the removal of the last seals together with the rows they cover, and of all seals; therefore `seal_audit` prints
the last one, to be kept elsewhere and given to `verify_audit --expect`. Rows since the last seal are not covered yet.
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
from audit.tables import BATCH, FIRST, Row, Table

CODE = 16  # bytes of each row's code: 128 bits, NIST SP 800-107 section 5.3
CLOCK_STEP = datetime.timedelta(minutes=1)  # by which clocks may be set back without alarm


class TamperingError(Exception):
    """The first row or seal that is not as it was sealed; the message names it."""


def seal_key() -> bytes:
    if not settings.AUDIT_SEAL_KEY:
        raise CommandError(
            "AUDIT_SEAL_KEY is not set; write AUDIT_SEAL_KEY=<at least 32 random characters> into .env, for example "
            "what `python3 -c 'import secrets; print(secrets.token_urlsafe(32))'` prints, and keep a copy elsewhere."
        )
    return settings.AUDIT_SEAL_KEY.encode()


def row_code(key: bytes, table: str, row: Row) -> bytes:
    return hmac.digest(key, f"{table}\0{row.id}\0{row.text}".encode(), "sha256")[:CODE]


def seal_code(key: bytes, seal: Seal, previous: str) -> str:
    """The code of a seal, over everything in it and the code of the one before."""
    times = [seal.at.timestamp(), seal.latest.timestamp()]
    content = [previous, seal.table, seal.columns, seal.row_ids, seal.last_id, times]
    return hmac.new(key, json.dumps(content).encode() + bytes(seal.codes), hashlib.sha256).hexdigest()


@transaction.atomic
def seal_batch(key: bytes, table: Table, until: int) -> int:
    """Seal the next rows of a table up to an id; returns how many, 0 when all are sealed."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE audit_seal IN SHARE ROW EXCLUSIVE MODE")  # one chain, also with two runs at once
    previous = Seal.objects.order_by("-id").first()
    last = Seal.objects.filter(table=table.name).order_by("-id").first()
    rows = table.rows(last.last_id if last else FIRST, until, table.columns, BATCH)
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
    """Walks the chain from its beginning. Raises TamperingError at the first row or seal that is not as it was."""

    def __init__(self, key: bytes, tables: list[Table]) -> None:
        self.key, self.tables = key, {table.name: table for table in tables}
        self.position = dict.fromkeys(self.tables, FIRST)
        self.latest: dict[str, datetime.datetime] = {}
        self.code, self.rows, self.forgotten = "", 0, 0

    def verify(self, seal: Seal) -> None:
        genuine = hmac.compare_digest(seal.code, seal_code(self.key, seal, self.code))
        if not genuine or seal.table not in self.tables:
            raise TamperingError(f"audit_seal {seal.pk} was altered, or one before it is missing.")
        table = self.tables[seal.table]
        found = {row.id: row for row in table.rows(self.position[table.name], seal.last_id, tuple(seal.columns))}
        forgotten = set(
            Forgotten.objects.filter(
                table=table.name, row__gt=self.position[table.name], row__lte=seal.last_id
            ).values_list("row", flat=True)
        )
        codes = dict(zip(seal.row_ids, chunks(bytes(seal.codes)), strict=True))
        for key in sorted(found.keys() | codes.keys()):
            self.compare(table, key, codes.get(key), found.get(key), key in forgotten)
        self.code, self.position[table.name], self.latest[table.name] = seal.code, seal.last_id, seal.latest

    def compare(self, table: Table, key: int, code: bytes | None, row: Row | None, forgotten: bool) -> None:
        self.rows += 1
        if code is None:
            raise TamperingError(f"{table.name} {key} was inserted after its time was sealed.")
        if forgotten:
            self.forgotten += 1
        elif row is None:
            raise TamperingError(f"{table.name} {key} is missing.")
        elif not hmac.compare_digest(code, row_code(self.key, table.name, row)):
            raise TamperingError(f"{table.name} {key} was altered.")
        if row:
            self.check_date(table, row)

    def check_date(self, table: Table, row: Row) -> None:
        if table.name in self.latest and row.at < self.latest[table.name] - CLOCK_STEP:
            raise TamperingError(f"{table.name} {row.id} was inserted with a date before rows sealed earlier.")

    def finish(self, missing: str | None) -> int:
        """Look through the rows since the last seals, of which only the dates can be checked; returns how many.

        `missing` is a seal that was printed once and did not come along.
        """
        if not self.code:
            raise TamperingError("There is no seal: run seal_audit first. If it ran before, all seals were removed.")
        if missing:
            raise TamperingError(f"audit_seal {missing.partition(':')[0]} is missing: the chain's end was removed.")
        count = 0
        for table in self.tables.values():
            for row in table.after(self.position[table.name]):
                self.check_date(table, row)
                count += 1
        return count


def chunks(codes: bytes) -> Iterator[bytes]:
    for start in range(0, len(codes), CODE):
        yield codes[start : start + CODE]
