"""Two hosts that start a new version at once: one migrates, the other waits and finds nothing to do."""

import os
import subprocess
import sys
from contextlib import closing
from subprocess import PIPE
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.db import connection

from healthcare.tests.live import TIMEOUT, own_database, url_of

pytestmark = pytest.mark.slow


def test_two_migrate_at_once_both_succeed_and_one_does_the_work(django_db_setup: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():
        connection.ensure_connection()
        with own_database() as name:
            environment = {**os.environ, "DATABASE_URL": url_of(name)}
            command = [sys.executable, "-m", "django", "migrate", "--verbosity", "1"]
            hosts = [
                subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=PIPE, stderr=PIPE, text=True)
                for _ in range(2)
            ]
            results = [(*host.communicate(timeout=TIMEOUT), host.returncode) for host in hosts]
            with closing(psycopg2.connect(url_of(name))) as session, session.cursor() as cursor:
                cursor.execute("SELECT app, name FROM django_migrations")
                applied = cursor.fetchall()
    assert [(errors, status) for _, errors, status in results] == [("", 0)] * 2
    assert len(applied) == len(set(applied)) > 0
    assert sorted("No migrations to apply." in output for output, _, _ in results) == [False, True]
