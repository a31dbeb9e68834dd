"""As root, another account runs PostgreSQL, and existing folders of others do not change."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healthcare.embedded.account import Account
from healthcare.embedded.home import Home, path_digest, resolve_home
from healthcare.embedded.tests.harness import ServerUnderTest

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.slow]


def as_nobody(folder: Path) -> dict[str, Any]:
    """Return the options for a Python that the account `nobody` can run, with the packages of this one."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    options: dict[str, Any] = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            environment = {
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PATH": "/usr/bin:/bin",
            }
            subprocess.run([python, "-c", "import django, psycopg2"], env=environment, check=True, cwd="/", **options)
        except (OSError, subprocess.CalledProcessError):
            continue
        return {"python": python, "env": environment, **options}
    pytest.skip("no Python on this machine that `nobody` may run")


def test_root_runs_the_server_as_an_unprivileged_account(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    program.connect()
    assert embedded_server.postmaster().uids().real != 0
    assert embedded_server.supervisor().uids().real == embedded_server.postmaster().uids().real
    assert embedded_server.data.stat().st_uid == embedded_server.postmaster().uids().real


def test_no_folder_is_visible_before_the_account_owns_it(
    embedded_server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_in_url = embedded_server.home / "deeper"
    home = resolve_home(folder_in_url)
    seen: list[Home] = []

    def take(account: Account, path: Path) -> None:
        resolve_home.cache_clear()
        seen.append(resolve_home(folder_in_url))  # what another process finds at this moment
        os.chown(path, account.uid, account.gid)

    monkeypatch.setattr(Account, "take_ownership", take)
    home.create()
    home.create()
    assert seen == [home, home]
    assert (folder_in_url.stat().st_uid, folder_in_url.stat().st_mode & 0o777) == (home.owner, 0o700)
    assert list(embedded_server.home.parent.iterdir()) == [embedded_server.home]


def test_the_second_of_two_processes_uses_the_folder_of_the_first(
    embedded_server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = resolve_home(embedded_server.home)
    rename, inodes = Path.rename, []

    def rename_late(new: Path, folder: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        resolve_home(embedded_server.home).create()  # another process creates it first
        inodes.append(folder.stat().st_ino)
        return rename(new, folder)

    monkeypatch.setattr(Path, "rename", rename_late)
    home.create()
    assert inodes == [embedded_server.home.stat().st_ino]
    assert list(embedded_server.home.parent.iterdir()) == [embedded_server.home]


def test_a_folder_that_only_root_can_enter_is_not_changed(
    folder: Path, make_embedded_server: Callable[[Path], ServerUnderTest]
) -> None:
    closed = folder / "closed"
    closed.mkdir(0o700)
    before = closed.stat()
    home = closed / "home"
    elsewhere = make_embedded_server(Path("/var/lib") / f"healthcare-backend-{path_digest(home)}")
    folder_in_url = ServerUnderTest(home)
    program = folder_in_url.program()
    assert program.connect()
    assert elsewhere.postmaster().uids().real != 0
    assert (closed.stat().st_mode, closed.stat().st_uid) == (before.st_mode, before.st_uid)
    assert not home.exists()
    program.request("detach")
    program.end()
    shutil.rmtree(elsewhere.home)


def test_root_copies_programs_that_the_account_cannot_reach(folder: Path, embedded_server: ServerUnderTest) -> None:
    from healthcare.embedded import binaries

    closed = folder / "closed"
    closed.mkdir(0o700)
    package = binaries.find_binaries().folder.parent.parent
    shutil.copytree(package, closed / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    environment = {**os.environ, "PYTHONPATH": str(closed)}
    assert embedded_server.program(env=environment).connect()
    assert Path(embedded_server.postmaster().exe()).is_relative_to(embedded_server.home)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_an_unprivileged_account_runs_the_server_itself(folder: Path, embedded_server: ServerUnderTest) -> None:
    options = as_nobody(folder)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    program = embedded_server.program(**options)
    program.connect()
    assert embedded_server.postmaster().username() == "nobody"
    assert program.request("detach") == "detached"
    assert embedded_server.stopped()


def test_root_uses_the_data_of_an_unprivileged_account_as_that_account(
    folder: Path, embedded_server: ServerUnderTest
) -> None:
    options = as_nobody(folder)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    first = embedded_server.program(**options)
    first.connect()
    first.request("detach")
    first.end()
    by_root = embedded_server.program()
    by_root.connect()
    assert embedded_server.postmaster().username() == "nobody"
    by_root.request("detach")
    by_root.end()
    assert embedded_server.program(**options).connect()


def test_a_folder_without_write_permission_is_reported_in_one_sentence(
    embedded_server: ServerUnderTest, folder: Path
) -> None:
    reply = embedded_server.program(**as_nobody(folder)).request("connect")
    assert reply.startswith(
        "EmbeddedOperationalError: The embedded PostgreSQL cannot start: this account may not write"
    )
    assert not embedded_server.home.exists()
