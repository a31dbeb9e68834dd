"""The calls that a script of curl commands makes, compared with the contract matrix."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import resolve

from healthcare.tests.declarations import contracts

Call = tuple[str, str]

# The routes that docs/accounts.md shows, instead of scripts/quickstart.sh: they need e-mails, codes or staff.
SHOWN_IN_ACCOUNTS_PAGE: set[str] = {
    "api/auth/invitations/",
}

# Is found before the real curl on PATH: records each call, with the status of its answer in front.
RECORDING_CURL = """#!/usr/bin/env bash
headers="$(mktemp)"
"{curl}" --silent --show-error --dump-header "$headers" "$@" && failure=0 || failure=$?
status="$(sed -n 's/^HTTP[^ ]* \\([0-9]*\\).*/\\1/p' "$headers")"
rm "$headers"
printf '%s %s\\n' "$status" "$*" >>"{log}"
exit "$failure"
"""


def contract_calls(*app_names: str) -> set[Call]:
    """The method and route of every call of the API that these apps declare; of all apps when none is named."""
    return {
        (method, row.route)
        for name, contract in contracts().items()
        if not app_names or name in app_names
        for row in contract.rows
        if row.access != "PAGE"
        for method in row.methods
    }


def calls_in(commands: str) -> set[Call]:
    """The method and the route of each line that is a curl command."""
    found = set()
    for line in commands.splitlines():
        address = re.search(r"https?://[^/\s]+(/[^\s'?]*)", line)
        if address:
            method = re.search(r"(?:-X|--request) ([A-Z]+)", line)
            found.add((method[1] if method else "GET", resolve(address[1]).route))
    return found


def error_statuses(log: str) -> list[str]:
    """The statuses of the recorded calls that were refused or failed, in their order."""
    return re.findall(r"^([45]\d\d) ", log, re.MULTILINE)


def run_bash(script: str, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a script as a user's shell would, with the folder `path` in front of PATH. Skips where curl is missing."""
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
    """Put a curl that records its calls into the folder, and return the path of the record."""
    log, script = folder / "calls", folder / "curl"
    script.write_text(RECORDING_CURL.format(log=log, curl=shutil.which("curl")))
    script.chmod(0o755)
    log.write_text("")
    return log
