import datetime
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Incoming:
    values: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)


def expression_of(incoming: Incoming, pointer: str) -> str:
    return incoming.sources.get(pointer.split("/")[1], "")


def instant(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
