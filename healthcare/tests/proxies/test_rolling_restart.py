"""A short run of scripts/rolling_upgrade, without repetition of requests by the proxy."""

from pathlib import Path

import pytest

from healthcare.tests.live import environment_of, free_port, server_command
from healthcare.tests.proxies.proxy import APPLICATION_SETTINGS, program, running_proxy
from healthcare.tests.proxies.rolling_upgrade import WITHOUT_REPETITION, Instance, restart_under_load, running

pytestmark = pytest.mark.slow


@pytest.mark.long
@pytest.mark.skipif(not program("haproxy"), reason="needs haproxy")
def test_no_request_fails_while_the_servers_behind_haproxy_restart(live_database: str, tmp_path: Path) -> None:
    environment = environment_of(live_database) | APPLICATION_SETTINGS | {"DRAIN_SECONDS": "5"}
    instances = [
        Instance(port, server_command(port), environment, tmp_path / f"{port}.log")
        for port in (free_port(), free_port())
    ]
    ports = [instance.port for instance in instances]
    with running(instances), running_proxy("haproxy", *ports, replacing=WITHOUT_REPETITION) as proxy:
        outcome = restart_under_load(proxy, instances, requests=1000)
    assert outcome.failures == {}
    assert outcome.wrongly_stored == []
    assert outcome.requests >= 1000
    assert len(outcome.acknowledged) > 100
