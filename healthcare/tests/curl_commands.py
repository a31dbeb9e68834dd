"""The calls that a script of curl commands makes, compared with the contract matrix."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import resolve

from healthcare.tests.declarations import contracts, described_rows

Call = tuple[str, str]

# The calls that docs/accounts.md shows, instead of scripts/quickstart.sh: they need e-mails, codes or staff.
SHOWN_IN_ACCOUNTS_PAGE: set[Call] = {
    ("POST", "api/auth/email/"),
    ("POST", "api/auth/email/verify/"),
    ("POST", "api/auth/email/verify/confirm/"),
    ("POST", "api/auth/invitations/"),
    ("POST", "api/auth/otp/"),
    ("POST", "api/auth/otp/confirm/"),
    ("DELETE", "api/auth/otp/"),
    ("POST", "api/auth/password/reset/"),
    ("POST", "api/auth/password/reset/confirm/"),
}
# Those that docs/imports.md, docs/exports.md and docs/moving.md show, which send files.
SHOWN_IN_PAGES_ABOUT_FILES: set[Call] = {
    *(("GET", f"api/{kind}/export/") for kind in ("patients", "doctors", "mappings")),
    *(("POST", f"api/{kind}/import/") for kind in ("patients", "doctors", "mappings")),
    ("GET", "api/imports/"),
    ("GET", "api/imports/<int:pk>/"),
    ("POST", "api/imports/<int:pk>/undo/"),
}

# Is found before the real curl on PATH: records each call, with the status of its answer in front, and in a file beside
# it the status and the answer of each call that is refused.
RECORDING_CURL = """
headers="$(mktemp)" body="$(mktemp)"
"{curl}" --silent --show-error --dump-header "$headers" "$@" >"$body" && failure=0 || failure=$?
status="$(sed -n 's/^HTTP[^ ]* \\([0-9]*\\).*/\\1/p' "$headers")"
cat "$body"
printf '%s %s\\n' "$status" "$*" >>"{log}"
case "$status" in [45]*) {{ echo "$status $(cat "$body")"; }} >>"{log}.refused" ;; esac
rm "$headers" "$body"
exit "$failure"
"""
# What a document states behind a call that is refused: its status, and the `code` of the problem or the pointer of its
# first error; of an OperationOutcome the first expression.
STATED_REFUSAL = re.compile(r"  # (\d{3}(?: [\w/.\[\]]+)?)$", re.MULTILINE)


@dataclass
class Run:
    """What the commands of a document did: the calls, each with its status in front, what was printed, and what was
    refused, as documents state it."""

    calls: str
    printed: str
    refused: list[str]


def contract_calls(*app_names: str) -> set[Call]:
    """The method and route of every call of the API that these apps declare; of all apps when none is named."""
    described = described_rows()
    return {
        (method, row.route)
        for name, contract in contracts().items()
        if not app_names or name in app_names
        for row in contract.rows
        if row.access != "PAGE" and row in described
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


def refusal(line: str) -> str:
    """How documents state a refused call, from its status and its answer."""
    status, _, body = line.partition(" ")
    answer: dict[str, Any] = json.loads(body)
    if "issue" in answer:
        return " ".join([status, *answer["issue"][0].get("expression", [])])
    errors = answer.get("errors") or [{"pointer": ""}]
    return f"{status} {answer.get('code') or errors[0]['pointer']}".strip()


def commands_of(document: str, program: str = "") -> str:
    """The blocks of a document that run this program, or all of them, in their order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if program in block)


def run_commands(commands: str, folder: Path, **environment: str) -> Run:
    """Run commands of a document as written. Raises AssertionError where one ends with an error."""
    log = install_recording_curl(folder)
    done = run_bash(f"set -euo pipefail\n{commands}", path=str(folder), **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    refused = Path(f"{log}.refused").read_text().splitlines()
    return Run(log.read_text(), done.stdout, [refusal(line) for line in refused])


def run_bash(script: str, *arguments: str, path: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a script as a user's shell would, with the folder `path` in front of PATH, and these environment variables.
    Skips where curl is missing."""
    if not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("bash and curl are needed")
    environment = {**os.environ, **variables}
    if path:
        environment["PATH"] = f"{path}{os.pathsep}{os.environ['PATH']}"
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
    log = folder / "calls"
    install_program(folder / "curl", RECORDING_CURL.format(log=log, curl=shutil.which("curl")))
    for file in (log, Path(f"{log}.refused")):
        file.write_text("")
    return log


def install_program(file: Path, script: str) -> None:
    file.write_text(f"#!/usr/bin/env bash\n{script}\n")
    file.chmod(0o755)
