"""The command line."""

import argparse
import os
import sys

import django

from benchmarks.targets import ENVIRONMENT, PROJECT

BUILD = PROJECT / "build" / "benchmarks"
RESULTS = PROJECT / "benchmarks" / "RESULTS.md"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks", description="Compares the server with others.")
    parser.add_argument("--quick", action="store_true", help="short slices, for a first look")
    parser.add_argument("--rounds", type=int, help="how often every server has its turn")
    parser.add_argument("--seconds", type=int, help="length of one slice")
    parser.add_argument("--operations", type=names, default=[], help="some of them, comma-separated")
    parser.add_argument("--servers", type=names, default=[], help="some of them, comma-separated")
    parser.add_argument("--save", action="store_true", help=f"write the table to {RESULTS.relative_to(PROJECT)}")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 3)
    return options


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def run(arguments: list[str]) -> None:
    options = parse(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    # The product's own embedded PostgreSQL, in a home of its own, unless DATABASE_URL names another.
    os.environ.setdefault("DATABASE_URL", f"embedded://{BUILD / 'postgres'}")
    os.environ.update(ENVIRONMENT, DJANGO_SETTINGS_MODULE="healthcare.settings")
    django.setup()
    from benchmarks import comparison
    from benchmarks.answers import UnequalError

    try:
        text = comparison.run(options, BUILD)
    except UnequalError as error:
        sys.exit(f"benchmarks: {error}")
    print(text)
    if options.save:
        RESULTS.write_text(text, encoding="utf-8")
