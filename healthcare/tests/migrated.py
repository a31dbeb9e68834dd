"""What the tests copy instead of migrating again: to migrate takes five seconds of CPU time, and a copy 0.2.

Both are made once a run, by the first worker that needs them.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.core.management import call_command
from django.db import connection

from healthcare.embedded import server
from healthcare.embedded.home import Home, resolve_home
from healthcare.project import PROJECT
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.superuser import admin_connection

DATABASE = "migrated_template"
LOCK = 8_128_446_004  # of PostgreSQL's advisory locks: any number that nothing else uses


def ensure_template_database() -> None:
    """Create and migrate the database DATABASE, unless another worker has."""
    connection.ensure_connection()  # starts PostgreSQL
    connection.close()
    with closing(admin_connection()) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if cursor.fetchone():
            return
        owner = connection.get_connection_params().get("user")
        cursor.execute(f"CREATE DATABASE {DATABASE}_unfinished" + (f' OWNER "{owner}"' if owner else ""))
        name = connection.settings_dict["NAME"]
        connection.settings_dict["NAME"] = f"{DATABASE}_unfinished"
        try:
            call_command("migrate", interactive=False, verbosity=0)
        finally:
            connection.close()
            connection.settings_dict["NAME"] = name
        cursor.execute(f"ALTER DATABASE {DATABASE}_unfinished RENAME TO {DATABASE}")


def copy_test_databases() -> None:
    """Let Django create each test database as a copy of the template, and apply the migrations that it lacks.

    Not on a server that outlives the run: the template would be left there. The project copies of the guides' tests
    find the template of the run that started them.
    """
    if "HEALTHCARE_TEST_FOLDER" in os.environ:
        ensure_template_database()
        connection.settings_dict["TEST"]["TEMPLATE"] = DATABASE


@contextmanager
def folder_of_the_run() -> Iterator[Path]:
    if folder := os.environ.get("HEALTHCARE_TEST_FOLDER"):
        yield Path(folder)
    else:
        with temporary_folder() as folder_of_this_process:
            yield folder_of_this_process


@contextmanager
def stopped_home() -> Iterator[Home]:
    """A home with a migrated database, whose server is stopped."""
    with folder_of_the_run() as folder:
        home = resolve_home(folder / "migrated" / "home")
        with (folder / "migrated.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "migrated.done").exists():
                environment = {**os.environ, "DATABASE_URL": f"embedded://{home.folder}"}
                migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
                subprocess.run(migrate, cwd=PROJECT, env=environment, check=True)
                server.attach(home)
                server.detach(home)  # waits until the server has stopped
                (folder / "migrated.done").touch()
        yield home
