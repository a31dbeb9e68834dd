"""Work in a second thread while an import waits."""

import threading

import pytest

from healthcare.imports.background import BackgroundWork


def count_to(number: int, work: BackgroundWork, counted: list[int], first: threading.Event) -> int:
    for one in range(number):
        work.pause()
        counted.append(one)
        first.set()
    return number


def test_the_function_runs_only_while_the_other_thread_waits():
    work, first = BackgroundWork(), threading.Event()
    counted: list[int] = []
    result = work.begin(lambda: count_to(3, work, counted, first))
    assert not first.wait(0.05)
    with work.while_waiting():
        assert result.result(timeout=60) == 3
    assert not work.is_waiting.is_set()
    assert counted == [0, 1, 2]
    work.close()


def test_a_wait_that_fails_ends_too():
    work = BackgroundWork()

    def fails(*arguments: object) -> None:
        assert work.is_waiting.is_set()
        raise ValueError(arguments)

    with pytest.raises(ValueError, match="SELECT 1"):
        work.execute(fails, "SELECT 1")
    assert not work.is_waiting.is_set()


def test_a_wait_within_another_one_does_not_end_it():
    work = BackgroundWork()
    with work.while_waiting():
        work.execute(list, "SELECT 1")
        assert work.is_waiting.is_set()
    assert not work.is_waiting.is_set()
    work.close()
    work.execute(list, "ROLLBACK")
    assert work.is_waiting.is_set()


def test_a_function_that_nobody_waits_for_ends_when_the_work_is_closed():
    work, first = BackgroundWork(), threading.Event()
    counted: list[int] = []
    result = work.begin(lambda: count_to(3, work, counted, first))
    work.close()
    assert result.result(timeout=60) == 3
