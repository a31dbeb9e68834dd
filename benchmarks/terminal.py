"""What a person sees while it runs."""

import sys


def print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show_status(text: str) -> None:
    """On one line of a terminal that the next call writes over; a line of its own elsewhere."""
    start, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
    print(start + text, end=end, file=sys.stderr, flush=True)
