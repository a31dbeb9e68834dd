"""PostgreSQL refuses root: another account runs it, and no folder that is not ours changes."""

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
from healthcare.embedded.home import Home, digest, resolve
from healthcare.embedded.tests.place import Place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


def as_nobody(folder: Path) -> dict[str, Any]:
    """A Python that the account `nobody` may run, with the packages of this one."""
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


def test_root_hands_the_server_to_an_unprivileged_account(place: Place) -> None:
    program = place.program()
    program.connect()
    assert place.postmaster().uids().real != 0
    assert place.supervisor().uids().real == place.postmaster().uids().real
    assert place.data.stat().st_uid == place.postmaster().uids().real


def test_root_never_shows_a_folder_that_its_account_cannot_enter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = place.home / "deeper"
    home = resolve(asked)
    seen: list[Home] = []

    def take(account: Account, path: Path) -> None:
        resolve.cache_clear()
        seen.append(resolve(asked))  # what another process would find at this moment
        os.chown(path, account.uid, account.gid)

    monkeypatch.setattr(Account, "take", take)
    home.make()
    home.make()
    assert seen == [home, home]
    assert (asked.stat().st_uid, asked.stat().st_mode & 0o777) == (home.owner, 0o700)
    assert list(place.home.parent.iterdir()) == [place.home]


def test_who_makes_the_folder_second_leaves_the_first_ones(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    home = resolve(place.home)
    rename, made = Path.rename, []

    def late(new: Path, folder: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        resolve(place.home).make()  # another process is faster
        made.append(folder.stat().st_ino)
        return rename(new, folder)

    monkeypatch.setattr(Path, "rename", late)
    home.make()
    assert made == [place.home.stat().st_ino]
    assert list(place.home.parent.iterdir()) == [place.home]


def test_root_leaves_a_folder_that_only_root_may_enter_as_it_is(
    folder: Path, make_place: Callable[[Path], Place]
) -> None:
    closed = folder / "closed"
    closed.mkdir(0o700)
    before = closed.stat()
    home = closed / "home"
    elsewhere = make_place(Path("/var/lib") / f"healthcare-backend-{digest(home)}")
    asked = Place(home)
    program = asked.program()
    assert program.connect()
    assert elsewhere.postmaster().uids().real != 0
    assert (closed.stat().st_mode, closed.stat().st_uid) == (before.st_mode, before.st_uid)
    assert not home.exists()
    program.ask("leave")
    program.end()
    shutil.rmtree(elsewhere.home)


def test_root_copies_programs_that_the_account_cannot_reach(folder: Path, place: Place) -> None:
    from healthcare.embedded import binaries

    closed = folder / "closed"
    closed.mkdir(0o700)
    package = binaries.find().folder.parent.parent
    shutil.copytree(package, closed / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    environment = {**os.environ, "PYTHONPATH": str(closed)}
    assert place.program(env=environment).connect()
    assert Path(place.postmaster().exe()).is_relative_to(place.home)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_an_unprivileged_account_runs_the_server_itself(folder: Path, place: Place) -> None:
    options = as_nobody(folder)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    program = place.program(**options)
    program.connect()
    assert place.postmaster().username() == "nobody"
    assert program.ask("leave") == "left"
    assert place.stopped()


def test_root_uses_the_data_of_an_unprivileged_account_as_that_account(folder: Path, place: Place) -> None:
    options = as_nobody(folder)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    first = place.program(**options)
    first.connect()
    first.ask("leave")
    first.end()
    by_root = place.program()
    by_root.connect()
    assert place.postmaster().username() == "nobody"
    by_root.ask("leave")
    by_root.end()
    assert place.program(**options).connect()


def test_a_folder_without_write_permission_is_said_in_one_sentence(place: Place, folder: Path) -> None:
    answer = place.program(**as_nobody(folder)).ask("connect")
    assert answer.startswith(
        "EmbeddedOperationalError: The embedded PostgreSQL cannot start: this account may not write"
    )
    assert not place.home.exists()
