"""What read replicas take from the primary: the same server without a replica, with one and with two.

All use one database. The standbys share this machine's cores, so the primary's CPU tells what a primary on a machine of
its own could serve, and the rate does not.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg2
from django.db import connection

from benchmarks import databases, report
from benchmarks.load import Contender, Slice, measure_interleaved
from benchmarks.operations import EVERYDAY_CALLS, plain_requests
from benchmarks.servers import OURS, run_server
from benchmarks.terminal import print_line
from benchmarks.testbed import start_testbed
from healthcare.embedded.home import POSTGRES_PORT
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import Standby

OPERATIONS = ("list 20", "search hit", "search miss", "FHIR search")
CATCHING_UP = 60  # seconds


def run(options: argparse.Namespace, folder: Path) -> str:
    """A table in Markdown, whose ratios are to a server without replicas."""
    with ExitStack() as stack:
        testbed = stack.enter_context(start_testbed(folder, [OURS.name], options.patients))
        database = databases.copy_name(OURS.database, options.patients)
        url = databases.url_of(database)
        requests = plain_requests(testbed.caller, OURS.paging)
        requests |= {name: call.request for name, call in EVERYDAY_CALLS.items()}
        user = connection.get_connection_params()["user"]
        standbys = [stack.enter_context(running_standby()) for _ in range(2)]
        contenders = [Contender("none", testbed.servers[0], requests["list 20"], testbed.caller)]
        for number, name in enumerate(("one", "two"), 1):
            hosts = [str(standby.home.socket_folder) for standby in standbys[:number]]
            # The servers' sessions are spread over them at random.
            replicas = f"postgres://{user}@/{database}?host={','.join(hosts)}&port={POSTGRES_PORT}"
            server = replace(OURS, name=f"{name} replicas", environment={"DATABASE_REPLICA_URL": replicas})
            started = stack.enter_context(run_server(server, url, folder / f"{name}_replicas.log"))
            processes = tuple(psutil.Process(standby.process.pid) for standby in standbys[:number] if standby.process)
            contenders.append(Contender(name, started, requests["list 20"], testbed.caller, processes))
        columns = ["application", "primary", "replicas", "ratio of the primary", "requests/s"]
        rows = [report.table_head(["operation", "replicas"], columns)]
        for operation in options.operations or OPERATIONS:
            measured = measure_interleaved(
                [replace(contender, request=requests[operation]) for contender in contenders],
                testbed.postgresql, options.rounds, options.seconds,
            )  # fmt: skip
            for name, slices in measured.items():
                rows.append(describe(operation, name, slices, measured["none"]))
                print_line(rows[-1])
    return "\n".join([f"{report.describe_machine()}. CPU µs a request, medians of {options.rounds} rounds.", "", *rows])


def describe(operation: str, name: str, slices: list[Slice], without: list[Slice]) -> str:
    parts = [
        f"{report.median_of(slices, lambda one, part=part: getattr(one, part)):,.0f}"  # type: ignore[misc]
        for part in ("application", "postgresql", "others", "rate")
    ]
    ratios = sorted(one.postgresql / other.postgresql for one, other in zip(slices, without, strict=True))
    return report.row(operation, name, *parts[:3], report.with_spread(ratios), parts[3])


@contextmanager
def running_standby() -> Iterator[Standby]:
    """A standby of the embedded PostgreSQL, which has caught up."""
    with temporary_folder() as folder:
        standby = Standby(folder, connection.home)  # type: ignore[attr-defined]
        standby.start()
        try:
            wait_until_caught_up(standby)
            yield standby
        finally:
            standby.stop()


def wait_until_caught_up(standby: Standby) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn()")
        [(written,)] = cursor.fetchall()
    deadline = time.monotonic() + CATCHING_UP
    while time.monotonic() < deadline:
        with closing(psycopg2.connect(standby.url)) as session, session.cursor() as cursor:
            cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [written])
            [(has_caught_up,)] = cursor.fetchall()
        if has_caught_up:
            return
        time.sleep(0.2)
    raise RuntimeError(f"the standby does not catch up; see {standby.home.log}")
