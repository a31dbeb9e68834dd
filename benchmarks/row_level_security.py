"""What the policies of row-level security cost a request: the same server on a copy of the database that has them and
on one where they are disabled. Nothing else differs: both enter the restricted role and write history and access log.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from benchmarks import databases, report
from benchmarks.load import Contender, measure_interleaved
from benchmarks.operations import PLAIN_NAMES, plain_requests
from benchmarks.servers import OURS, SEARCHES, run_server
from benchmarks.terminal import print_line
from benchmarks.testbed import start_testbed


def run(options: argparse.Namespace, folder: Path) -> str:
    """A table in Markdown."""
    comparable = [name for name in PLAIN_NAMES if name not in {"login", *SEARCHES}]
    operations = [name for name in options.operations or comparable if name in comparable]
    rows = [report.table_head(["operation"], ["with policies, CPU µs", "without, CPU µs", "ratio"])]
    with ExitStack() as stack:
        testbed = stack.enter_context(start_testbed(folder, [OURS.name], options.patients))
        stack.callback(databases.drop_copies, ["unprotected"], options.patients)
        url = databases.copy_database("unprotected", options.patients)
        databases.use_database("postgres")
        unprotected = stack.enter_context(run_server(OURS, url, folder / "unprotected.log"))
        for operation in operations:
            request = plain_requests(testbed.caller, OURS.paging)[operation]
            contenders = [
                Contender("with policies", testbed.servers[0], request, testbed.caller),
                Contender("without", unprotected, request, testbed.caller),
            ]
            measured = measure_interleaved(contenders, testbed.postgresql, options.rounds, options.seconds)
            medians = [f"{report.median_of(slices, lambda one: one.cpu):,.0f}" for slices in measured.values()]
            ratios = report.cpu_ratios(measured["with policies"], measured["without"])
            rows.append(report.row(operation, *medians, report.with_spread(ratios)))
            print_line(rows[-1])
    return "\n".join([f"{report.describe_machine()}. Medians of {options.rounds} rounds.", "", *rows])
