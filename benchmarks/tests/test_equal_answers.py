"""What counts as the same answer."""

from benchmarks.equal_answers import comparable

ROW = {"id": 1, "name": "John Smith", "created_at": "2026-11-22T09:30:00.123456Z"}


def test_envelope_and_spelling_of_a_time_are_ignored():
    same = {**ROW, "created_at": "2026-11-22T09:30:00.123000+00:00"}
    assert comparable({"count": 1, "results": [ROW]}, is_write=False) == comparable([same], is_write=False)


def test_another_value_is_unequal():
    assert comparable([ROW], is_write=False) != comparable([ROW | {"name": "Jon Smith"}], is_write=False)


def test_a_missing_field_is_unequal():
    assert comparable(ROW, is_write=True) != comparable({"id": 1, "name": "John Smith"}, is_write=True)


def test_generated_fields_of_a_write_may_differ():
    later = ROW | {"id": 2, "created_at": "2026-11-23T00:00:00Z"}
    assert comparable(ROW, is_write=True) == comparable(later, is_write=True)
