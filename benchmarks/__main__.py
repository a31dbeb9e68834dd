"""`python3 -m benchmarks`: creates its environment and its rows, runs every server in turn and prints the tables."""

import sys

from benchmarks import python_environments


def main() -> None:
    python_environments.enter_environment(
        references=not {
            "capacity",
            "guard",
            "growth",
            "imports",
            "matching",
            "memory",
            "pgbouncer",
            "replicas",
            "statements",
            "row-level-security",
            "sharding",
        }.intersection(sys.argv[1:2])
    )
    from benchmarks.commands import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
