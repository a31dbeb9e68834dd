"""Rows of the access log at chosen times, in the order of their ids: a table that grows like any other."""

import datetime
from collections.abc import Sequence

from django.db import connection


def add_accesses(*times: datetime.datetime, copies: int = 1, outcome: int = 200) -> None:
    """So many rows at each of these times."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_accesslog (at, actor, action, patient_ids, basis, request_id, outcome) "
            "SELECT at, 1, 'patient.list', '{}', 'owner', '', %s "
            "FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS one(at, number), generate_series(1, %s) ORDER BY number",
            [outcome, list(times), copies],
        )


def skip_ids(count: int) -> None:
    """Leave a gap in the ids, as transactions do that are rolled back."""
    execute("SELECT setval('audit_accesslog_id_seq', nextval('audit_accesslog_id_seq') + %s)", [count])


def execute(sql: str, parameters: Sequence[int] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(parameters) or None)
