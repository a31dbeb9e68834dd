"""The access log of `manage.py demo`, and from when on its past may begin so that seals verify."""

import datetime
from typing import Any

from django.db import connection

from audit.models import AccessLog, Basis, Seal
from audit.tables import ROWS_PER_READ, sealed_tables
from healthcare.demo.parts import Demo, DemoPart
from healthcare.demo.past import insert

MOST_ROWS_OF_PATIENT = 4  # for each patient, in each of the tables that seals cover
# An id from the sequence is drawn under the lock that an INSERT takes: `tables.Table.settled` waits for its end.
RESERVE = """
LOCK TABLE audit_accesslog IN ROW EXCLUSIVE MODE;
CREATE TEMPORARY TABLE demo_reads (LIKE audit_accesslog) ON COMMIT DROP;
ALTER TABLE demo_reads DROP COLUMN id;
CREATE TEMPORARY TABLE demo_read_ids ON COMMIT DROP AS SELECT row_number() OVER (ORDER BY id) AS number, id
FROM (SELECT nextval(pg_get_serial_sequence('audit_accesslog', 'id')) AS id FROM generate_series(1, %s)) drawn
"""
ADD_READS = """
INSERT INTO audit_accesslog (id, at, actor, action, patient_ids, basis, request_id, outcome)
SELECT ids.id, at, actor, action, patient_ids, basis, request_id, outcome
FROM (SELECT *, row_number() OVER (ORDER BY at, request_id) AS number FROM demo_reads) reads
JOIN demo_read_ids ids USING (number) ORDER BY number
"""


class Reads(DemoPart):
    """Rows of the access log with times of the past. Their ids are reserved at the beginning: they come before those
    of requests meanwhile, as their times do."""

    def __init__(self, demo: Demo) -> None:
        super().__init__(demo)
        self.rows: list[dict[str, Any]] = []

    def earliest_time(self) -> datetime.datetime:
        """`verify_audit` reports a row that is older than a row in a seal before. A seal covers up to ROWS_PER_BATCH
        rows of a table, in any order of their times."""
        start, planned = self.demo.start, MOST_ROWS_OF_PATIENT * self.demo.patients
        with connection.cursor() as cursor:
            for table in sealed_tables():
                cursor.execute(f'SELECT count(*), max("{table.time}") FROM "{table.name}"')  # noqa: S608
                count, newest = cursor.fetchone()
                is_sealed = Seal.objects.filter(table=table.name).exists()
                if count and (is_sealed or count + planned > ROWS_PER_READ):
                    start = max(start, newest)
        return start

    def begin(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(RESERVE, [MOST_ROWS_OF_PATIENT * self.demo.patients])

    def add(
        self,
        at: datetime.datetime,
        actor: int,
        action: str,
        patient_ids: list[int],
        basis: Basis = Basis.OWNER,
        outcome: int = 200,
        request_id: str = "",
    ) -> None:
        """At most MOST_ROWS_OF_PATIENT rows for each patient."""
        row = {"at": at, "actor": actor, "action": action, "patient_ids": sorted(patient_ids), "basis": basis.value}
        self.rows.append(row | {"request_id": request_id or self.demo.request_id(self.random), "outcome": outcome})

    def add_patients(self, numbers: range) -> None:
        self.write()  # those of the batch before

    def finish(self) -> None:
        self.write()
        with connection.cursor() as cursor:
            cursor.execute(ADD_READS)

    def write(self) -> None:
        insert(AccessLog, self.rows, "demo_reads")
        self.rows = []
