"""Progress on standard error."""

import sys


def print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show_status(text: str) -> None:
    """On a terminal the next status overwrites this one; elsewhere each has its own line."""
    start, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
    print(start + text, end=end, file=sys.stderr, flush=True)
