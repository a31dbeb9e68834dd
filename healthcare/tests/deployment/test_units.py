"""deploy/systemd: systemd itself reads the units, and their commands are those of `manage.py`."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from healthcare.tests.deployment.commands import parse_command
from healthcare.tests.test_docs import settings_table

ROOT = Path(settings.BASE_DIR)
UNIT_FOLDER = ROOT / "deploy" / "systemd"
UNIT_PYTHON = "/srv/healthcare/.venv/bin/python"
FINISHING = 30  # seconds that docs/operations.md wants beside DRAIN_SECONDS
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The units with an interpreter that this machine has."""
    folder = tmp_path_factory.mktemp("units")
    shutil.copytree(UNIT_FOLDER, folder, dirs_exist_ok=True)
    for path in folder.glob("*.service"):
        path.write_text(path.read_text().replace(UNIT_PYTHON, sys.executable))
    return sorted(path for path in folder.iterdir() if path.is_file())


def read_unit(name: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.read_string((UNIT_FOLDER / name).read_text(encoding="utf-8"))
    return unit


def arguments_of(name: str, folder: Path) -> list[str]:
    """What `manage.py` is given by a service, whose shell runs with a program that prints its arguments."""
    words = shlex.split(read_unit(name)["Service"]["ExecStart"].replace("%%", "%"))
    if words[0] != "/bin/sh":
        assert words[:2] == [UNIT_PYTHON, "manage.py"]
        return words[2:]
    printing = folder / "print"
    printing.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printing.chmod(0o755)
    script = words[2].replace("/mnt/elsewhere/seals", str(ROOT / "LICENSE"))  # a file with a last line
    assert script.startswith(f"exec {UNIT_PYTHON} manage.py ")
    script = script.replace(f"{UNIT_PYTHON} manage.py", str(printing))
    environment = {"PATH": os.environ["PATH"], "BACKUP_KEY": "age1public"}
    shell = ["/bin/sh", "-c", script]
    return subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@needs_systemd
def test_systemd_finds_no_fault_in_the_units(units: list[Path]):
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd
def test_every_service_is_confined_by_the_common_settings(units: list[Path]):
    """`systemd-analyze security` counts from 0 to 10 what a service could do; common.conf brings it under 2."""
    services = [str(path) for path in units if path.suffix == ".service"]
    rating = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", *services],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert rating.returncode == 0, re.findall("Overall.*", rating.stdout)


def test_every_service_runs_a_command_of_manage_py_with_options_that_it_has(tmp_path: Path):
    commands = {path.stem: parse_command(arguments_of(path.name, tmp_path)) for path in UNIT_FOLDER.glob("*.service")}
    assert commands == {
        "healthcare-server": "serve",
        "healthcare-migrate": "migrate",
        "healthcare-tidy": "tidy",
        "healthcare-seal": "seal_audit",
        "healthcare-verify": "verify_audit",
        "healthcare-verify-full": "verify_audit",
        "healthcare-backup": "backup",
        "healthcare-archive": "archive",
    }
    assert re.fullmatch(r"20\d\d-[01]\d", arguments_of("healthcare-archive.service", tmp_path)[-1])
    assert arguments_of("healthcare-backup.service", tmp_path)[-1] == "age1public"


def test_every_job_that_operations_md_schedules_has_a_timer():
    scheduled = {
        command
        for name in ("operations.md", "backup.md")
        for command in re.findall(
            r"^[\d*]+ [\d*]+ .*manage\.py (\w+)", (ROOT / "docs" / name).read_text("utf-8"), re.MULTILINE
        )
    }
    timers = {path.stem for path in UNIT_FOLDER.glob("*.timer")}
    assert {"healthcare-server", "healthcare-migrate"} == {path.stem for path in UNIT_FOLDER.glob("*.service")} - timers
    started = [(UNIT_FOLDER / f"{timer}.service").read_text(encoding="utf-8") for timer in timers]
    assert len(scheduled) == 4
    for command in scheduled:
        assert any(f"manage.py {command}" in text for text in started), command


def test_systemd_waits_for_as_long_as_the_server_may_take_to_stop():
    service = read_unit("healthcare-server.service")["Service"]
    draining = int(settings_table()["DRAIN_SECONDS"].strip("`"))
    assert int(service["TimeoutStopSec"]) == draining + FINISHING
    assert service["KillMode"] == "mixed"
