"""Fixtures: Python on the live server's database, and a second server on it with the limits of production."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from django.conf import settings

from healthcare.tests.live import TIMEOUT, LiveServer, free_port, server_command, wait_until_answering

# Runs each line it reads, a piece of Python as JSON, and says so.
SHELL = """
import json, sys
import django
django.setup()
from django.core.management import call_command
from accounts.models import Attempts, LoginSession, User
for line in sys.stdin:
    exec(json.loads(line))
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def shell(live_server_process: LiveServer) -> Iterator[Callable[[str], None]]:
    """Runs Python in a Django process of its own on the live server's database; returns when it has committed."""
    command = [sys.executable, "-c", SHELL]
    live = live_server_process
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=settings.BASE_DIR, env=live.environment, **pipes) as process:  # type: ignore[call-overload]

        def run(code: str) -> None:
            process.stdin.write(json.dumps(code) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def limited(live_server_process: LiveServer) -> Iterator[LiveServer]:
    """A second server on the live server's database, with THROTTLE_SCALE=1 and one trusted proxy."""
    port = free_port()
    environment = live_server_process.environment | {"THROTTLE_SCALE": "1", "TRUSTED_PROXIES": "1"}
    process = subprocess.Popen(server_command(port), cwd=settings.BASE_DIR, env=environment)
    try:
        wait_until_answering(port, process)
        yield replace(live_server_process, port=port, environment=environment)
    finally:
        process.terminate()
        process.wait(TIMEOUT)
