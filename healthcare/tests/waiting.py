"""Calls that wait for a row lock of another transaction."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
FORGET = "SELECT pg_stat_clear_snapshot()"  # else a transaction sees the activity as it was at first


class Waiting:
    """A call in a thread, on a connection of its own, which is seen to wait for a row lock before this returns."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: list[Any] = []
        before = self.waiting()
        self.thread = threading.Thread(target=self.run, args=[call])
        self.thread.start()
        deadline = time.monotonic() + 60
        while self.waiting() <= before:
            assert self.thread.is_alive(), f"it did not wait: {self.result}"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def run(self, call: Callable[[], Any]) -> None:
        try:
            self.result.append(call())
        finally:
            connection.close()

    @staticmethod
    def waiting() -> int:
        with connection.cursor() as cursor:
            cursor.execute(FORGET)
            cursor.execute(WAITING)
            return int(cursor.fetchone()[0])

    def finish(self) -> Any:
        self.thread.join(60)
        assert not self.thread.is_alive()
        [result] = self.result
        return result


def call_in_thread(call: Callable[[], Any]) -> Any:
    """The result of a call over a connection of its own, which must not wait for this one."""

    def run() -> Any:
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result(60)
