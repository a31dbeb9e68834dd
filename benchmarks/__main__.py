"""`python3 -m benchmarks`: makes its environment and its rows, runs every server in turn, prints the table."""

import sys

from benchmarks import python_environments


def main() -> None:
    python_environments.enter(references=not {"guard", "growth", "memory"}.intersection(sys.argv[1:2]))
    from benchmarks.commands import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
