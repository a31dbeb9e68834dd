"""What counts as the same answer."""

from benchmarks.answers import comparable

ROW = {"id": 1, "name": "John Smith", "created_at": "2026-11-22T09:30:00.123456Z"}


def test_an_envelope_and_the_spelling_of_a_time_make_no_difference():
    same = {**ROW, "created_at": "2026-11-22T09:30:00.123000+00:00"}
    assert comparable({"count": 1, "results": [ROW]}, made=False) == comparable([same], made=False)


def test_another_value_does():
    assert comparable([ROW], made=False) != comparable([ROW | {"name": "Jon Smith"}], made=False)


def test_a_missing_field_does():
    assert comparable(ROW, made=True) != comparable({"id": 1, "name": "John Smith"}, made=True)


def test_of_what_was_just_made_ids_and_times_may_differ():
    assert comparable(ROW, made=True) == comparable(ROW | {"id": 2, "created_at": "2026-11-23T00:00:00Z"}, made=True)
