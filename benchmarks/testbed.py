"""The servers on their copies of the database, started, checked and ready to be measured."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import databases
from benchmarks.data import Caller, log_in
from benchmarks.protections import check_protections
from benchmarks.servers import RunningServer, choose_servers, run_server
from benchmarks.terminal import print_line


@dataclass(frozen=True)
class Testbed:
    """`callers` by user name; `others` is the number of patients that are not the caller's."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    servers: list[RunningServer]
    callers: dict[str, Caller]
    postgresql: psutil.Process
    others: int

    @property
    def caller(self) -> Caller:
        return self.callers["caller"]


@contextmanager
def start_testbed(
    folder: Path, names: Sequence[str], others: int, callers: Sequence[str] = ("caller",)
) -> Iterator[Testbed]:
    """The servers with these names, or all that this machine can run, each kind on a copy of the filled database."""
    chosen = choose_servers(list(names))
    databases.prepare(others)
    logged_in = {name: log_in(name, others) for name in callers}
    print_line("Copying the database…")
    kinds = sorted({server.database for server in chosen})
    with ExitStack() as stack:
        stack.callback(databases.drop_copies, kinds, others)
        urls = {kind: databases.copy_database(kind, others) for kind in kinds}
        databases.use_database("postgres")
        databases.checkpoint()
        print_line("Starting " + ", ".join(server.name for server in chosen) + "…")
        servers = [
            stack.enter_context(run_server(server, urls[server.database], folder / f"{server.name}.log"))
            for server in chosen
        ]
        if "caller" in logged_in:
            check_protections(servers, logged_in["caller"], others)
        yield Testbed(servers, logged_in, databases.find_server_process(), others)
