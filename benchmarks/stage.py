"""The servers on their databases, up and ready to be asked."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import databases, honesty
from benchmarks.data import MANY, Caller, log_in
from benchmarks.progress import say
from benchmarks.targets import TARGETS, Running, serving


@dataclass(frozen=True)
class Stage:
    servers: list[Running]
    callers: dict[str, Caller]
    postgresql: psutil.Process


@contextmanager
def set_up(
    folder: Path, names: Sequence[str], callers: Sequence[str] = ("caller",), others: int = MANY
) -> Iterator[Stage]:
    """The servers with these names, or all, each on a copy of the filled database of its kind."""
    wanted = [target for target in TARGETS if not names or target.name in names]
    databases.prepare(others)
    logged_in = {name: log_in(name, others) for name in callers}
    say("Copying the database…")
    kinds = sorted({target.database for target in wanted})
    with ExitStack() as stack:
        stack.callback(databases.drop, kinds, others)
        urls = {kind: databases.copy(kind, others) for kind in kinds}
        databases.use("postgres")
        databases.settle()
        say("Starting " + ", ".join(target.name for target in wanted) + "…")
        servers = [
            stack.enter_context(serving(target, urls[target.database], folder / f"{target.name}.log"))
            for target in wanted
        ]
        if "caller" in logged_in:
            honesty.check(servers, logged_in["caller"], others)
        yield Stage(servers, logged_in, databases.server())
