"""Plain calls on every server in turn, everyday calls beside their plain call, and how many statements each sends."""

import argparse
from pathlib import Path

from benchmarks import chart, equal_answers, report
from benchmarks.load import Contender, measure_interleaved
from benchmarks.operations import EVERYDAY_CALLS, NAMES, PLAIN_NAMES, plain_requests
from benchmarks.report import Slices
from benchmarks.servers import OURS
from benchmarks.statement_recorder import record_statements
from benchmarks.terminal import print_line, show_status
from benchmarks.testbed import Testbed, start_testbed

CHART = "results.svg"
WRITE_OPERATIONS = {"create", "patch"}


def run(options: argparse.Namespace, folder: Path) -> str:
    """The report; its chart is written to the folder."""
    results = report.Results(options.rounds, options.seconds, options.patients)
    wanted = [name for name in NAMES if not options.operations or name in options.operations]
    with start_testbed(folder, options.servers, options.patients) as testbed:
        ours = testbed.servers[0]
        supported = [name for name in wanted if equal_answers.supports(name, ours, testbed.caller)]
        results.left_out = [name for name in wanted if name not in supported]

        def measure_everyday_calls(plain_calls: list[str]) -> None:
            for plain in plain_calls if ours.server is OURS else []:
                calls = [name for name in supported if name in EVERYDAY_CALLS and EVERYDAY_CALLS[name].plain == plain]
                if calls:
                    show_status(f"everyday calls beside {plain}")
                    measured = measure_everyday(testbed, plain, calls, options.rounds, options.seconds)
                    results.everyday |= {name: (measured[plain], measured[name]) for name in calls}
                    print_line("\n".join(report.everyday_row(name, results) for name in calls))

        # Reads first: what the writes add to the lists and to the access log would change what a filtered page costs.
        measure_everyday_calls([name for name in PLAIN_NAMES if name not in WRITE_OPERATIONS])
        for operation in [name for name in PLAIN_NAMES if name in supported]:
            show_status(operation)
            results.plain[operation] = measure_plain(testbed, operation, options.rounds, options.seconds)
            print_line(report.plain_rows(operation, results.plain[operation]))
        measure_everyday_calls([name for name in PLAIN_NAMES if name in WRITE_OPERATIONS])
        if ours.server is OURS:
            # Last, because it adds rows to the lists of all servers on this copy of the database.
            results.sent = record_statements(testbed, supported, folder)
    (folder / CHART).write_text(chart.draw(results), encoding="utf-8")
    return report.write(results, CHART)


def measure_plain(testbed: Testbed, operation: str, rounds: int, seconds: int) -> dict[str, Slices]:
    """The slices of each server that has the operation."""
    servers = [one for one in testbed.servers if operation not in one.server.without]
    equal_answers.check_equal_answers(operation, servers, testbed.caller)
    contenders = [
        Contender(one.name, one, plain_requests(testbed.caller, one.server.paging)[operation], testbed.caller)
        for one in servers
    ]
    return measure_interleaved(contenders, testbed.postgresql, rounds, seconds)


def measure_everyday(
    testbed: Testbed, plain: str, operations: list[str], rounds: int, seconds: int
) -> dict[str, Slices]:
    """The slices of a plain call of ours and of these everyday calls."""
    ours = testbed.servers[0]
    tagged = equal_answers.with_entity_tags(ours, testbed.caller)
    for operation in operations:
        equal_answers.check_everyday_answer(operation, ours, tagged)
    requests = {plain: plain_requests(testbed.caller, ours.server.paging)[plain]}
    requests |= {operation: EVERYDAY_CALLS[operation].request for operation in operations}
    contenders = [Contender(name, ours, request, testbed.caller) for name, request in requests.items()]
    return measure_interleaved(contenders, testbed.postgresql, rounds, seconds)
