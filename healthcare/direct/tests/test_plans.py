"""One plan serves every owner, so it must suit one whose rows lie far behind those of another."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.tests.factories import make_mapping
from patients.tests.factories import make_patient

OTHERS = 30_000
# Many rows at once, without what triggers would add beside each.
MANY = """
SET LOCAL session_replication_role = replica;
INSERT INTO {table} ({columns}) SELECT {values} FROM {table}, generate_series(1, {others}) WHERE id = %(id)s;
SET LOCAL session_replication_role = origin;
ANALYZE {table};
"""


def copy_for(owner: User, record: Any) -> None:
    """Make many of this record that belong to another owner, newer ones."""
    columns = [field.column for field in record._meta.concrete_fields if not field.primary_key]
    values = [str(owner.pk) if column == "created_by_id" else f'"{column}"' for column in columns]
    with connection.cursor() as cursor:
        cursor.execute(
            MANY.format(
                table=record._meta.db_table,
                columns=", ".join(map('"{}"'.format, columns)),
                values=", ".join(values),
                others=OTHERS,
            ),
            {"id": record.pk},
        )


def read(plan: dict[str, Any]) -> float:
    """The rows that were looked at on the tables of the records."""
    here = plan.get("Actual Rows", 0) + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return float(here * plan.get("Actual Loops", 1)) + sum(read(inner) for inner in plan.get("Plans", []))


@pytest.mark.parametrize("path", ["/api/patients/?limit=20", "/api/mappings/?limit=20", "/api/patients/{}/doctors/"])
def test_a_page_reads_no_rows_of_others(as_alice: LoggedInClient, alice: User, bob: User, path: str):
    patients = [make_patient(alice) for _ in range(25)]
    mappings = [make_mapping(patient, make_doctor(alice)) for patient in patients]
    copy_for(bob, patients[0])
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX mapping_once")  # the copies are of one doctor and one patient
    copy_for(bob, mappings[0])
    url = path.format(patients[1].pk)
    for _ in range(2):  # the second one has it prepared
        with CaptureQueriesContext(connection) as queries:
            assert len(as_alice.get(url).json()) in {1, 20}
    (message,) = [query["sql"] for query in queries if "EXECUTE" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(message.replace("EXECUTE", "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE"))
        (plan,) = cursor.fetchone()[0]
    assert 0 < read(plan["Plan"]) < 150, json.dumps(plan, indent=1)
