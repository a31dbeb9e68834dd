"""Which calls a script of curl commands makes, to compare them with the contract matrix."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import resolve

from healthcare.tests.contract_matrix import ROWS

Call = tuple[str, str]

# Stands before the real curl on PATH: notes each call, and fails when the answer is an error.
CURL = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"{log}"
exec "{curl}" --fail-with-body --silent --show-error "$@"
"""


def contract_calls() -> set[Call]:
    """Every method and route template of the API, from the matrix that is itself compared with the URL conf."""
    return {(method, row.route) for row in ROWS if row.access != "PAGE" for method in row.methods}


def calls_in(commands: str) -> set[Call]:
    """The method and the route template of each line that is a curl command."""
    found = set()
    for line in commands.splitlines():
        address = re.search(r"https?://[^/\s]+(/[^\s'?]*)", line)
        if address:
            method = re.search(r"(?:-X|--request) ([A-Z]+)", line)
            found.add((method[1] if method else "GET", resolve(address[1]).route))
    return found


def run_bash(script: str, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    """Runs a script as a person's shell would, with a folder in front of PATH; skips where curl is not installed."""
    if not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("bash and curl are needed")
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}" if path else os.environ["PATH"]}
    return subprocess.run(
        ["bash", "-c", script, "bash", *arguments],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def install_recording_curl(folder: Path) -> Path:
    """Puts a curl that notes its calls into the folder and returns the note."""
    log, script = folder / "calls", folder / "curl"
    script.write_text(CURL.format(log=log, curl=shutil.which("curl")))
    script.chmod(0o755)
    log.touch()
    return log
