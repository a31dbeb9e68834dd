"""A generic plan serves every owner: one with few rows behind many of another owner, and one with very many."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.fastpath.prepared import prepared_names
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

MANY = 30_000
# Without triggers.
COPY = """
SET LOCAL session_replication_role = replica;
INSERT INTO {table} ({columns}) SELECT {values} FROM {table}, {many} WHERE {table}.id = {key};
SET LOCAL session_replication_role = origin;
ANALYZE {table};
"""


def copy(record: Any, many: str, **changed: str) -> None:
    """Insert many newer copies of this record, with these columns changed."""
    table = record._meta.db_table
    columns = [field.column for field in record._meta.concrete_fields if not field.primary_key]
    fields = {
        "table": table,
        "columns": ", ".join(f'"{column}"' for column in columns),
        "values": ", ".join(changed.get(column, f'{table}."{column}"') for column in columns),
        "many": many,
        "key": record.pk,
    }
    with connection.cursor() as cursor:
        cursor.execute(COPY.format(**fields))


def rows_read(plan: dict[str, Any]) -> float:
    """The number of rows that the plan read from tables and indexes."""
    looks = not {"Relation Name", "Index Name"}.isdisjoint(plan)
    here = plan.get("Actual Rows", 0) + plan.get("Rows Removed by Filter", 0) if looks else 0
    return float(here * plan.get("Actual Loops", 1)) + sum(rows_read(inner) for inner in plan.get("Plans", []))


def plan_of(client: LoggedInClient, url: str) -> dict[str, Any]:
    """How PostgreSQL executes the prepared statement of a list, with the rows that it read."""
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")  # what earlier tests prepared may have reached the limit of a session
        prepared_names(connection).clear()
        for _ in range(2):  # the second request uses the prepared statement
            with CaptureQueriesContext(connection) as queries:
                assert client.get(url).status_code == 200
        (message,) = [query["sql"] for query in queries if "EXECUTE" in query["sql"]]
        cursor.execute(message.replace("EXECUTE", "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE"))
        (plan,) = cursor.fetchone()[0]
    return dict(plan["Plan"])


@pytest.mark.slow
@pytest.mark.parametrize("has_many", ["alice", "bob"])
@pytest.mark.parametrize("path", ["/api/patients/?limit=20", "/api/mappings/?limit=20", "/api/patients/{}/doctors/"])
def test_a_page_scans_few_more_rows_than_it_returns(
    as_alice: LoggedInClient, alice: User, bob: User, path: str, has_many: str
):
    owner = alice if has_many == "alice" else bob
    patients = [make_patient(alice) for _ in range(25)]
    mappings = [make_mapping(patient, make_doctor(alice)) for patient in patients]
    copy(patients[0], f"generate_series(1, {MANY})", created_by_id=str(owner.pk))
    newer = f"(SELECT id AS each FROM patients_patient WHERE id > {patients[-1].pk}) AS newer"  # noqa: S608
    copy(mappings[0], newer, created_by_id=str(owner.pk), patient_id="each")
    url = path.format(patients[1].pk)
    assert len(as_alice.get(url).json()) in {1, 20}
    plan = plan_of(as_alice, url)
    assert 0 < rows_read(plan) < 150, json.dumps(plan, indent=1)
