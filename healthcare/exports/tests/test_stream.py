"""How much an export reads at once, and how much memory it takes."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from accounts.models import User
from healthcare.exports import stream
from healthcare.exports.stream import size_of_next_batch
from healthcare.exports.tests.test_exports import PATIENTS, export
from patients.models import Patient


@pytest.mark.parametrize(
    ("records", "size", "following"),
    [(100, 40_000, 1_000), (1_000, 524_288, 1_000), (1_000, 1_048_576, 500), (1_000, 20_971_520, 25), (1, 10**9, 1)],
)
def test_a_batch_has_fewer_records_where_they_are_large(records: int, size: int, following: int):
    assert size_of_next_batch(records, size) == following


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_memory_does_not_grow_with_the_number_of_records(as_alice: Any, alice: User, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "LARGEST_BATCH", 50)
    monkeypatch.setattr(stream, "PIECE", 16 * 1024)

    def peak() -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        size = sum(map(len, export(as_alice, PATIENTS, "?format=ndjson").streaming_content))
        assert size > Patient.objects.count() * 2_000
        return tracemalloc.get_traced_memory()[1] - before

    def add(number: int) -> None:
        Patient.objects.bulk_create(
            Patient(created_by=alice, name=f"P{place}", medical_history="x" * 2_000) for place in range(number)
        )

    add(200)
    peak()  # fills caches
    few = peak()
    add(1_800)
    assert peak() < few * 1.5
