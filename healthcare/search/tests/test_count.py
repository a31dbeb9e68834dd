"""`X-Total-Count` of a search: exact up to 10,000 hits, so that a frequent word costs no more to count than that."""

import re

from django.db import connection

from accounts.models import User
from conftest import LoggedInClient
from healthcare.api.schema_view import description
from patients.models import Patient


def total(client: LoggedInClient, query: str) -> str:
    return str(client.get(f"/api/patients/?count=true&limit=1&{query}")["X-Total-Count"])


def test_a_search_counts_to_10_000_and_then_says_so(as_alice: LoggedInClient, alice: User) -> None:
    Patient.objects.bulk_create(
        [Patient(created_by=alice, name="Ana Rao", gender="F" if number else "M") for number in range(10_001)]
    )
    # Without statistics, which autovacuum has gathered a minute later, PostgreSQL looks each hit up among all patients.
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE patients_patient")
    assert total(as_alice, "search=rao") == "10000+"
    assert total(as_alice, "search=rao ana") == "10000+"
    assert total(as_alice, "search=rao&gender=F") == "10000"
    assert total(as_alice, "search=rao&gender=M") == "1"
    assert total(as_alice, "search=nobody") == "0"
    assert total(as_alice, "gender=F") == "10000"
    assert total(as_alice, "") == "10001"
    posted = as_alice.post("/api/patients/search/", {"search": "rao", "count": True, "limit": 1})
    assert posted["X-Total-Count"] == "10000+"


def test_the_description_of_the_header_covers_both_forms() -> None:
    schema = description()["components"]["headers"]["X-Total-Count"]["schema"]
    assert schema["type"] == "string"
    for written in ("0", "48", "10000", "10001", "10000+"):
        assert re.fullmatch(schema["pattern"], written)
    for written in ("", "10001+", "-1", "many"):
        assert not re.fullmatch(schema["pattern"], written)
