"""On a full disk of the embedded database writes are 503 and /readyz names it, until there is space again."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from healthcare.embedded.home import Home, resolve_home
from healthcare.embedded.tests.harness import ServerUnderTest, copy_data, stop_everything
from healthcare.operations.tests.calls import PATIENTS, is_unavailable, wait_for_checks
from healthcare.tests.live import serving
from healthcare.tests.memory_folder import temporary_folder

pytestmark = pytest.mark.slow

SIZE = 320  # MiB: the database, some log of changes, and more than DISK_FREE_MIB


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own. Only root may mount one."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with temporary_folder() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m,mode=755", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("this machine may mount nothing")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    with file.open("ab", buffering=0) as filler:
        try:
            while filler.write(b"0" * 65536):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def test_a_full_disk(small_disk: Path, migrated_home: Home) -> None:
    under_test = ServerUnderTest(small_disk / "home")
    copy_data(migrated_home, resolve_home(under_test.home))
    url = f"embedded://{under_test.home}"
    try:
        with serving(url, migrated=True, DJANGO_SETTINGS_MODULE="healthcare.settings") as server:
            token = server.register()[1]["access"]
            wait_for_checks(server)
            filler = small_disk / "filler"
            fill(filler)
            wait_for_checks(server, "disk")
            patient = {"name": "X", "address": os.urandom(100).hex()}
            statuses = set()
            for _ in range(500):
                fill(filler)
                answer = server.call("POST", PATIENTS, patient, token)
                statuses.add(answer.status)
                if is_unavailable(answer):
                    break
            assert statuses - {201} == {503}
            filler.unlink()
            wait_for_checks(server)
            for _ in range(8):
                assert server.call("POST", PATIENTS, patient, token).status == 201
    finally:
        with suppress(AssertionError):
            stop_everything(under_test)
