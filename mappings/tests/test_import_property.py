"""An import of assignments answers and stores what POSTs of its rows, one after another, would."""

import json
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from patients.models import Patient
from patients.tests.factories import make_patient

PATH = "/api/mappings/"
IMPORT = f"{PATH}import/?mode=apply&partial=true&match=none&on_likely=create"
TIMES = [
    "2020-01-01T10:00:00Z", "2020-01-01T10:00:00.123456Z", "2020-01-01T10:00:00.123Z", "2021-06-01T00:00:00+05:30",
    "1849-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "yesterday", True,
]  # fmt: skip
STORED = ["patient", "doctor", "role", "is_primary", "reason", "notes", "ended_at", "version", "created_by"]
# The places of a record among those of the test; the last two are another owner's and a deleted one.
ENDS = st.sampled_from([0, 0, 1, 1, 2, 3])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"patient": ENDS, "doctor": ENDS},
        optional={
            "role": st.sampled_from(["GP", " GP ", "x" * 101, "a\nb", 7]),
            "is_primary": st.sampled_from([True, False, "true", 2]),
            "reason": st.sampled_from(["knee", "k\u0301", "\u200b"]),
            "notes": st.sampled_from(["two\nlines", "x" * 20_001, []]),
            "started_at": st.sampled_from(TIMES),
            "ended_at": st.sampled_from(TIMES),
            "colour": st.just("red"),
        },
    ),
    min_size=1,
    max_size=6,
)


def stored(keys: list[int]) -> list[tuple[Any, ...]]:
    found = {row[0]: row[1:] for row in Mapping.objects.filter(pk__in=keys).values_list("pk", *STORED)}
    return [found[key] for key in keys]


@pytest.mark.django_db
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_an_import_equals_posts_of_its_rows(
    as_alice: LoggedInClient, alice: User, bob: User, rows: list[dict[str, Any]]
) -> None:
    with transaction.atomic():
        patients = [make_patient(alice), make_patient(alice), make_patient(bob), make_patient(alice)]
        doctors = [make_doctor(alice) for _ in range(4)]
        Patient.objects.filter(pk=patients[3].pk).end()
        Doctor.objects.filter(pk=doctors[3].pk).end()
        bodies = [row | {"patient": patients[row["patient"]].pk, "doctor": doctors[row["doctor"]].pk} for row in rows]
        with transaction.atomic():
            answers = [as_alice.post(PATH, body, format="json") for body in bodies]
            wanted = stored([answer.json()["id"] for answer in answers if answer.status_code == 201])
            transaction.set_rollback(True)
        lines: Any = "\n".join(json.dumps(body) for body in bodies).encode()
        imported = as_alice.generic("POST", IMPORT, lines, content_type="application/x-ndjson")
        created = stored([result["id"] for result in imported.json()["results"] if result["id"]])
        transaction.set_rollback(True)
    assert {answer.status_code for answer in answers} <= {201, 400}
    assert [(result["status"], result["errors"]) for result in imported.json()["results"]] == [
        ("created" if answer.status_code == 201 else "failed", answer.json().get("errors", [])) for answer in answers
    ]
    assert created == wanted
