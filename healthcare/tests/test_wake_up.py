"""Signals of the server's processes: none waits until something else wakes the main thread, and none blocks it."""

import subprocess
import sys

import pytest

from healthcare.project import PROJECT
from healthcare.tests.live import TIMEOUT

pytestmark = pytest.mark.slow

PROGRAM = """
import signal, sys, threading
from healthcare.server.wake_up import WakeUp
handled = []
wake_up = WakeUp()
def handle(*_):
    handled.append(1)
    wake_up.set()
signal.signal(signal.SIGUSR2, handle)
"""
ANOTHER_THREAD_RECEIVES_IT = """
threading.Timer(0.5, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)).start()
while not handled:
    wake_up.wait()
"""
IT_ARRIVES_AT_EACH_LINE_OF_THE_WAIT = """
def interrupt(frame, event, argument):
    if frame.f_code.co_name != "handle":
        sys.settrace(None)
        signal.raise_signal(signal.SIGUSR2)
        sys.settrace(interrupt)
    return interrupt
for _ in range(10):
    sys.settrace(interrupt)
    wake_up.wait(0.01)
    wake_up.set()
    sys.settrace(None)
assert len(handled) > 40, len(handled)
"""


@pytest.mark.parametrize("case", [ANOTHER_THREAD_RECEIVES_IT, IT_ARRIVES_AT_EACH_LINE_OF_THE_WAIT])
def test_a_signal_always_ends_the_wait_of_the_main_thread(case: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + case], cwd=PROJECT, timeout=TIMEOUT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
