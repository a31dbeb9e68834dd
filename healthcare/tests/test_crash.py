"""A short run of `crash`: three times each, a worker, a backend and the postmaster are killed under a write load."""

import pytest

from healthcare.tests.crash import kill_under_load, killable_server

pytestmark = pytest.mark.slow


def test_nothing_that_was_answered_is_lost_and_nothing_happens_twice():
    with killable_server() as served:
        load, figures = kill_under_load(served, kills=9)
        assert figures.faults == [], str(figures)
        assert {kind: len(seconds) for kind, seconds in figures.recoveries.items()} == {
            "worker": 3, "backend": 3, "postmaster": 3,
        }  # fmt: skip
        assert figures.changed > 0
        # And a loss would be seen.
        lost = served.rows(
            "DELETE FROM patients_patient WHERE id = (SELECT min(id) FROM patients_patient) RETURNING name"
        )
        assert load.find_faults(served) == [f"{lost[0][0]} was answered and is lost"]
