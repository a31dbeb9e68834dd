"""Tamper evidence: a chain of keyed codes (HMAC-SHA-256, RFC 2104) over history and access log.

Each seal holds a code for every row it covers, and a code over itself and the previous seal. An attacker with the
database but without AUDIT_SEAL_KEY cannot alter, remove or insert a sealed row or a seal without detection. The chain
alone does not detect the removal of the last seals together with the rows they cover, or of all seals. Therefore
`seal_audit` prints the last seal, to be stored elsewhere and passed to `verify_audit --expect`. Rows since the last
seal are not covered. `verification` verifies the chain.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection, transaction

from audit.models import Seal
from audit.tables import BELOW_EVERY_ID, ROWS_PER_READ, SealedRow, Table

CODE_LENGTH = 16  # bytes of each row's code: 128 bits, NIST SP 800-107 section 5.3


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
        cursor.execute("SELECT clock_timestamp()")
        [now] = cursor.fetchone()
    previous = Seal.objects.order_by("-id").first()
    last = Seal.objects.filter(table=table.name).order_by("-id").first()
    rows = table.rows(last.last_id if last else BELOW_EVERY_ID, until, table.columns, ROWS_PER_READ)
    if rows:
        seal = Seal(
            table=table.name,
            columns=list(table.columns),
            row_ids=[row.id for row in rows],
            last_id=rows[-1].id,
            # What the database's clock, set back since, has dated ahead makes no later row look inserted.
            latest=max([min(row.at, now) for row in rows] + ([last.latest] if last else [])),
            codes=b"".join(row_code(key, table.name, row) for row in rows),
        )
        seal.code = seal_code(key, seal, previous.code if previous else "")
        seal.save()
    return len(rows)


def seals(after: int = 0) -> Iterator[Seal]:
    """The seals with an id above `after`, in the order of the chain."""
    last = after
    while batch := list(Seal.objects.filter(id__gt=last).order_by("id")[:20]):
        yield from batch
        last = batch[-1].pk


def chunks(codes: bytes) -> Iterator[bytes]:
    for start in range(0, len(codes), CODE_LENGTH):
        yield codes[start : start + CODE_LENGTH]


def codes_of(seal: Seal) -> dict[int, bytes]:
    """The code of each row that a seal covers, by the row's id."""
    return dict(zip(seal.row_ids, chunks(bytes(seal.codes)), strict=True))
