"""Patroni with a lease shorter than 20 seconds, the least that it accepts: a drill measures what that would give.

Run by the Python of Patroni's environment. Not for production: Patroni supports no such lease.
"""

import sys
from typing import Any

from patroni.__main__ import main  # type: ignore[import-not-found]
from patroni.config import Config  # type: ignore[import-not-found]

ADJUST = "_Config__get_and_maybe_adjust_int_value"
adjust_with_minimum = getattr(Config, ADJUST)


def adjust(self: Any, config: dict[str, Any], name: str, minimum: int) -> Any:
    return adjust_with_minimum(self, config, name, 1 if name == "ttl" else minimum)


if __name__ == "__main__":  # and not in the process that Patroni spawns to start PostgreSQL
    setattr(Config, ADJUST, adjust)
    sys.exit(main())
