"""A short drill of the cluster; `python -m deploy.cluster drill` is the long one."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.cluster.cluster import Cluster, running_cluster
from deploy.cluster.drill import running_drill
from deploy.cluster.programs import ClusterError, find_programs, missing_programs
from healthcare.embedded.binaries import find_binaries
from healthcare.embedded.home import Home
from healthcare.tests.live import migrated_database
from healthcare.tests.memory_folder import temporary_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if missing := missing_programs():
        pytest.skip(f"needs {'; '.join(missing)}")
    with temporary_folder() as folder, running_cluster(folder / "cluster") as started:
        yield started
        for node in started.nodes:
            node.kill()  # faster than to stop them, and the folder is deleted


def copy_into_cluster(source: str, cluster: Cluster) -> None:
    """Copy a migrated database, which is faster than to migrate a new one."""
    binaries = find_binaries()
    dump = [binaries.program("pg_dump"), "--no-owner", source]
    load = [binaries.program("psql"), "-q", "-v", "ON_ERROR_STOP=1", cluster.database_url]
    dumped = subprocess.run(dump, check=True, capture_output=True)
    loaded = subprocess.run(load, check=False, input=dumped.stdout, capture_output=True)
    assert loaded.returncode == 0, loaded.stderr.decode()


def test_a_folder_whose_cluster_runs_is_refused_and_its_cluster_goes_on(cluster: Cluster) -> None:
    with pytest.raises(ClusterError) as raised, running_cluster(cluster.home.folder):
        pass
    assert str(raised.value) == (
        f"A cluster runs in {cluster.home.folder} already; stop it, or choose another --folder."
    )
    assert cluster.is_complete()


def test_no_acknowledged_write_is_lost_when_the_primary_and_an_instance_are_killed(
    django_db_setup: None, django_db_blocker: Any, cluster: Cluster
) -> None:
    with migrated_database(django_db_blocker) as without_rows:
        copy_into_cluster(without_rows, cluster)
    first = cluster.primary()
    with running_drill(cluster, cluster.home.folder) as drill:
        drill.measure_event("PostgreSQL of the primary killed", drill.kill_postgresql)
        drill.measure_event("instance killed", drill.kill_instance)
    figures = drill.figures()
    assert figures.faults == [], str(figures)
    assert cluster.primary() is not first
    assert drill.clients.changes
    # The comparison detects a loss.
    [(name,)] = cluster.rows("DELETE FROM patients_patient WHERE name LIKE '0-%' AND version > 1 RETURNING name")[:1]
    assert f"{name} was answered and is lost" in drill.figures().faults


def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder() as folder:
        monkeypatch.setattr("deploy.cluster.programs.PATRONI_ENVIRONMENT", folder)
        monkeypatch.setattr("deploy.cluster.programs.find_system_program", lambda name: None)
        with pytest.raises(ClusterError) as raised:
            find_programs(Home(folder, None))
    assert str(raised.value).splitlines() == [
        "These programs are missing. Install them:",
        "  etcd: apt-get install etcd-server",
        "  haproxy: apt-get install haproxy",
        "  patroni: /usr/bin/python3 -m venv --clear .patroni && "
        ".patroni/bin/pip install --require-hashes -r deploy/patroni/requirements.lock",
    ]
