"""How far the seals lag behind history and access log, for monitoring."""

from typing import NamedTuple

from django.db import connection

from audit.models import Seal
from audit.tables import BELOW_EVERY_ID, sealed_tables

MOST_COUNTED = 1_000_000  # rows of each table, so that a count stays cheap where nothing is ever sealed


class SealBacklog(NamedTuple):
    unsealed_rows: int
    seal_age_seconds: float | None  # None before the first seal


def seal_backlog() -> SealBacklog:
    """Count the rows since the last seals, of each table MOST_COUNTED at most, and the seconds since the last seal.

    One statement, which reads index entries of the unsealed rows alone.
    """
    seals = Seal._meta.db_table
    counts = " + ".join(
        f'(SELECT count(*) FROM (SELECT FROM "{table.name}" WHERE "{table.key}" > coalesce('  # noqa: S608
        f"(SELECT last_id FROM {seals} WHERE \"table\" = '{table.name}' ORDER BY id DESC LIMIT 1), {BELOW_EVERY_ID}) "
        f"LIMIT {MOST_COUNTED}) AS unsealed)"
        for table in sealed_tables()
    )
    age = f"(SELECT extract(epoch FROM clock_timestamp() - at) FROM {seals} ORDER BY id DESC LIMIT 1)"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {counts}, {age}")
        rows, seconds = cursor.fetchone()
    return SealBacklog(int(rows), None if seconds is None else max(float(seconds), 0.0))


def read_seal_gauges() -> dict[str, float | None]:
    """For the metrics."""
    rows, age = seal_backlog()
    return {"healthcare_audit_unsealed_rows": rows, "healthcare_audit_seal_age_seconds": age}
