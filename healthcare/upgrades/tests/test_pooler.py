"""The lock of `migrate` behind PgBouncer in transaction mode, which gives a session to another client between two
transactions."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from healthcare.rls.tests.test_deployments import needs_pgbouncer, transaction_pooling
from healthcare.tests.live import own_database
from healthcare.upgrades.lock import MigrationLock

pytestmark = pytest.mark.slow


@needs_pgbouncer
def test_the_lock_of_a_pooled_session_excludes_others_and_ends_with_its_client(
    django_db_setup: None, django_db_blocker: Any, tmp_path: Path
) -> None:
    with django_db_blocker.unblock(), own_database() as name, transaction_pooling(name, tmp_path) as port:
        parameters = {**connection.get_connection_params(), "host": "127.0.0.1", "port": port, "dbname": name}
        locks = [MigrationLock(connection) for _ in range(3)]
        for lock in locks:
            lock.connection.get_connection_params = lambda: parameters
        first, second, third = locks
        assert first.acquire()
        assert [second.acquire() for _ in range(5)] == [False] * 5
        first.verify()
        first.release()
        assert third.acquire()
        third.release()
        second.release()
