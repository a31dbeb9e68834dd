"""What PgBouncer between the application and PostgreSQL costs: the same server with direct sessions, which prepare
their statements or do not, and behind PgBouncer with session and with transaction pooling. All use one database.
"""

import argparse
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from benchmarks import databases, report
from benchmarks.load import Contender, measure_interleaved
from benchmarks.operations import PLAIN_NAMES, plain_requests
from benchmarks.servers import OURS, free_port, run_server
from benchmarks.terminal import print_line
from benchmarks.testbed import start_testbed
from healthcare.tests.pgbouncer import find_pgbouncer, running_pgbouncer

POOL_SIZE = 8  # two workers of four threads
UNPREPARED = {"DB_PREPARED_STATEMENTS": "off"}
TRACKING_SINCE = (1, 21)  # of max_prepared_statements


class NoPoolerError(Exception):
    """PgBouncer cannot be measured here; the text says why."""


def run(options: argparse.Namespace, folder: Path) -> str:
    """A table in Markdown, whose ratios are to a direct connection with prepared statements."""
    program, version = find_pgbouncer_version(options.pgbouncer)
    operations = [name for name in options.operations or PLAIN_NAMES if name in PLAIN_NAMES]
    with ExitStack() as stack:
        testbed = stack.enter_context(start_testbed(folder, [OURS.name], options.patients))
        url = databases.url_of(databases.copy_name(OURS.database, options.patients))

        def start(name: str, environment: dict[str, str], mode: str = "", **settings: int) -> Contender:
            poolers, target = stack.enter_context(pooling(program, url, mode, settings, folder)) if mode else ((), url)
            server = replace(OURS, name=name, environment=environment)
            log = folder / f"{name.replace(' ', '_')}.log"
            return Contender(
                name, stack.enter_context(run_server(server, target, log)), requests["get one"], testbed.caller, poolers
            )

        requests = plain_requests(testbed.caller, OURS.paging)
        direct = Contender("direct, prepared", testbed.servers[0], requests["get one"], testbed.caller)
        contenders = [
            direct,
            start("direct, unprepared", UNPREPARED),
            start("session pooling, prepared", {}, "session"),
            start("transaction pooling, unprepared", UNPREPARED, "transaction"),
        ]
        if version >= TRACKING_SINCE:
            name = "transaction pooling, prepared, max_prepared_statements"
            contenders.append(start(name, {}, "transaction", max_prepared_statements=200))
        rows = [report.table_head(["operation", "sessions"], ["application", "PostgreSQL", "PgBouncer", "ratio"])]
        for operation in operations:
            measured = measure_interleaved(
                [replace(contender, request=requests[operation]) for contender in contenders],
                testbed.postgresql, options.rounds, options.seconds,
            )  # fmt: skip
            for name, slices in measured.items():
                parts = [
                    f"{report.median_of(slices, lambda one, part=part: getattr(one, part)):,.0f}"  # type: ignore[misc]
                    for part in ("application", "postgresql", "others")
                ]
                ratio = report.with_spread(report.cpu_ratios(slices, measured[direct.name]))
                rows.append(report.row(operation, name, *parts, ratio))
                print_line(rows[-1])
    head = f"{report.describe_machine()}, PgBouncer {'.'.join(map(str, version))}."
    return "\n".join([f"{head} CPU µs a request, medians of {options.rounds} rounds.", "", *rows])


def find_pgbouncer_version(name: str) -> tuple[str, tuple[int, ...]]:
    """The path of PgBouncer and its version. Raises NoPoolerError."""
    program = find_pgbouncer(name)
    if program is None:
        raise NoPoolerError(f"there is no program {name}; apt-get install pgbouncer.")
    printed = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)\.(\d+)", printed)
    if found is None:
        raise NoPoolerError(f"{program} does not print the version of PgBouncer.")
    return program, tuple(int(part) for part in found.groups())


@contextmanager
def pooling(
    program: str, url: str, mode: str, settings: dict[str, int], folder: Path
) -> Iterator[tuple[tuple[psutil.Process, ...], str]]:
    """PgBouncer in front of this database, and the URL of the database behind it."""
    parts = urlsplit(url)
    place = {name: values[0] for name, values in parse_qs(parts.query).items()}
    user, database, port = parts.username or "", parts.path[1:], free_port()
    target = {**place, "user": user, "dbname": database}
    with running_pgbouncer(
        program, port, database, target, folder, pool_mode=mode, default_pool_size=POOL_SIZE, **settings
    ) as process:
        yield (psutil.Process(process.pid),), f"postgres://{user}@127.0.0.1:{port}/{database}"
