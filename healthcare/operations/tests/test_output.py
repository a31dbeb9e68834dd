"""What processes print beside the log: in JSON one object a line, and never the text of an exception."""

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest
from django.conf import settings

from healthcare.embedded.home import Home
from healthcare.tests.live import free_port

pytestmark = pytest.mark.slow

WORD = "p4tient-zer0"  # which no output may contain
MANAGE = [sys.executable, "manage.py"]
FAILURES = {
    "uncaught": f"raise ValueError('{WORD}')",
    "chained": f"raise KeyError('{WORD}') from OSError('{WORD}')",
    "thread": f"""
import threading
def fail(): raise ValueError('{WORD}')
thread = threading.Thread(target=fail)
thread.start()
thread.join()""",
    "unraisable": f"""
class Failing:
    def __del__(self): raise ValueError('{WORD}')
Failing()""",
    "warning": f"import warnings; warnings.warn('{WORD}', RuntimeWarning)",
    "application": f"""
import sys
from healthcare.server.processes import load_application
class Finder:
    def find_spec(name, *_): return int(name) if name == '{WORD}' else None
sys.meta_path.insert(0, Finder)
load_application('{WORD}:application', None, None, None, print)""",
    "process": f"""
import multiprocessing
def fail(): raise ValueError('{WORD}')
process = multiprocessing.get_context('fork').Process(target=fail)
process.start()
process.join()""",
    "asyncio": f"""
import asyncio, django
django.setup()
async def fail(): raise ValueError('{WORD}')
async def main():
    asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())""",
}


TYPES = {"chained": "builtins.OSError"}


def run(command: list[str], **variables: str) -> tuple[int, str]:
    """The exit status and all output of a command."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "healthcare.settings", **variables}
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def objects(output: str) -> list[dict[str, Any]]:
    assert output.isascii()
    assert output.endswith("\n")
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.split("\n")[:-1]]
    assert all({"time", "level", "logger"} <= line.keys() for line in lines)
    return lines


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_failure_anywhere_in_a_server_is_logged_without_its_text(name: str, log_format: str):
    code = f"from healthcare.operations.output import format_output\nformat_output()\n{FAILURES[name]}\n"
    _, output = run([sys.executable, "-c", code], LOG_FORMAT=log_format)
    assert WORD not in output
    if log_format == "text":
        assert re.search(r"^[\dT:.-]+Z (WARNING|ERROR|CRITICAL) (healthcare\.errors|asyncio) ", output, re.MULTILINE)
        return
    line = objects(output)[-1]
    assert line["logger"] == ("asyncio" if name == "asyncio" else "healthcare.errors")
    if name == "warning":
        assert line["message"] == "RuntimeWarning at <string>:3"
    else:
        assert line["exception"][0]["frames"]
        assert [one["type"] for one in line["exception"]][-1] == TYPES.get(name, "builtins.ValueError")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["no-port"], {}, "no port"),
        (["--workers", "none"], {}, "number of workers"),
        (["8000"], {"SECRET_KEY": "short", "DEBUG": "False"}, "SECRET_KEY is too weak"),
        (["8000"], {"DATABASE_URL": f"mysql://u:{WORD}@127.0.0.1/d"}, "is not the URL of a PostgreSQL"),
    ],
)
def test_a_server_that_cannot_start_says_so_in_json(arguments: list[str], variables: dict[str, str], message: str):
    status, output = run([*MANAGE, "serve", *arguments], LOG_FORMAT="json", **variables)
    assert status
    assert message in "".join(line["message"] for line in objects(output))
    assert WORD not in output


def test_serve_writes_nothing_but_json_from_its_start_to_its_end(migrated_home: Home):
    environment = {
        **os.environ,
        "DATABASE_URL": f"embedded://{migrated_home.folder.parent}",
        "LOG_FORMAT": " JSON ",
        "METRICS": str(free_port()),
        "DRAIN_SECONDS": "0",
    }
    process = subprocess.Popen(
        [*MANAGE, "serve", str(free_port())],
        cwd=settings.BASE_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    lines: list[dict[str, Any]] = []

    def read_until(logger: str, text: str) -> None:
        for printed in process.stdout or ():
            lines.extend(objects(printed))
            if lines[-1]["logger"] == logger and text in lines[-1]["message"]:
                return
        raise AssertionError(lines)

    read_until("healthcare.stdout", "Stop with Ctrl-C.")
    for child in psutil.Process(process.pid).children():
        child.kill()  # a worker, and the process of the metrics
    read_until("healthcare.server", "it is replaced")
    process.send_signal(signal.SIGHUP)
    read_until("healthcare.server", "SIGHUP")
    process.terminate()
    rest, _ = process.communicate(timeout=120)
    lines += objects(rest or "\n") if rest else []
    assert process.returncode == 0
    assert any(line.get("message", "").startswith("Starting PostgreSQL") for line in lines)
    assert "/healthz" in {line["route"] for line in lines if line["logger"] == "healthcare.access"}
