"""The command line."""

import argparse
import os
import signal
import sys

import django

from benchmarks.targets import ENVIRONMENT, PROJECT

BUILD = PROJECT / "build" / "benchmarks"
SAVED = {"compare": "RESULTS.md", "growth": "GROWTH.md", "memory": "MEMORY.md"}
COMMANDS = {
    "compare": "ours and every reference in turn (the default)",
    "guard": "fails, and names the operation, when one asks PostgreSQL more often or costs more than it did",
    "growth": "an owner of 10,000 patients beside one of 1,000,000",
    "memory": "what the processes hold, idle and after a million requests (takes long)",
    "profile": "where the server spends its time",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks",
        description="\n".join(f"{name:8}  {what}" for name, what in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="compare")
    parser.add_argument("--quick", action="store_true", help="short slices, for a first look")
    parser.add_argument("--rounds", type=int, help="how often every server has its turn")
    parser.add_argument("--seconds", type=int, help="length of one slice")
    parser.add_argument("--operations", type=names, default=[], help="some of them, comma-separated")
    parser.add_argument("--servers", type=names, default=[], help="some of them, comma-separated")
    parser.add_argument("--save", action="store_true", help="keep what came out: the tables, the guard's limits")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the command memory")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick or options.command == "guard" else 3)
    return options


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def run(arguments: list[str]) -> None:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    BUILD.mkdir(parents=True, exist_ok=True)
    # The product's own embedded PostgreSQL, in a home of its own, unless DATABASE_URL names another.
    os.environ.setdefault("DATABASE_URL", f"embedded://{BUILD / 'postgres'}")
    os.environ.update(ENVIRONMENT, DJANGO_SETTINGS_MODULE="healthcare.settings")
    django.setup()
    from benchmarks import comparison, growth, guard, memory, profiles
    from benchmarks.answers import UnequalError

    commands = {
        "compare": comparison.run,
        "guard": guard.run,
        "growth": growth.run,
        "memory": memory.run,
        "profile": profiles.run,
    }
    try:
        text = commands[options.command](options, BUILD)
    except (UnequalError, guard.Regressed) as error:
        sys.exit(f"benchmarks: {error}")
    print(text)
    if options.save and options.command in SAVED:
        (PROJECT / "benchmarks" / SAVED[options.command]).write_text(text, encoding="utf-8")
