"""A real server with a replica."""

from functools import partial

import pytest

from healthcare.operations.tests.calls import execute
from healthcare.server.queue import CONCURRENT_REQUESTS
from healthcare.tests.concurrent_calls import call_concurrently
from healthcare.tests.live import serving
from healthcare.tests.postgres import SeparatePostgres, Standby

pytestmark = pytest.mark.slow

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'healthcare' AND state = 'idle'"


def test_a_worker_opens_as_many_sessions_on_replicas_as_on_the_primary(
    servers: tuple[SeparatePostgres, Standby],
) -> None:
    primary, standby = servers
    with serving(primary.url, migrated=True, DATABASE_REPLICA_URL=standby.url) as server:
        _, tokens = server.register()
        read = partial(server.call, "GET", "/api/patients/", token=tokens["access"])
        search = partial(server.call, "GET", "/api/patients/?search=ada", token=tokens["access"])
        assert read().status == 200  # stores the timeline
        answers = [answer for _ in range(5) for answer in call_concurrently(*[read, search] * 16)]
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"[]")}
        assert 0 < execute(standby.url, SESSIONS) <= CONCURRENT_REQUESTS
