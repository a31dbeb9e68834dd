"""What apps add to `manage.py demo`. An app derives a `DemoPart` in its module `demo_data`."""

import datetime
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, TypeVar

from django.db.models import Model

from healthcare.demo.past import Pasts
from healthcare.demo.working_time import WorkingTime

Part = TypeVar("Part", bound="DemoPart")


@dataclass
class Demo:
    """One run of the command. Times lie between `start` and `now`, patients are numbered from 0 on."""

    patients: int
    seed: int
    start: datetime.datetime
    now: datetime.datetime
    pasts: Pasts = field(default_factory=Pasts)
    parts: dict[type["DemoPart"], "DemoPart"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parts = {part: part(self) for part in DEMO_PARTS}

    def part(self, part: type[Part]) -> Part:
        found = self.parts[part]
        assert isinstance(found, part)  # noqa: S101  (for the type checker)
        return found

    @cached_property
    def time(self) -> WorkingTime:
        return WorkingTime(self.now)

    def request_id(self, random: Random) -> str:
        return f"{random.getrandbits(128):032x}"

    def context(self, random: Random, actor: int, reason: str = "") -> dict[str, Any]:
        """What the history says of a request."""
        context = {"actor": actor, "request_id": self.request_id(random)}
        return context | ({"reason": reason} if reason else {})


DEMO_PARTS: list[type["DemoPart"]] = []


class DemoPart:
    """Override what the app needs. The parts run in the order of INSTALLED_APPS, in one transaction. Each has random
    numbers of its own, so that a new part changes nothing that others add."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.random = Random(f"{demo.seed} {type(self).__module__}")  # noqa: S311  (no secrets)

    def __init_subclass__(cls) -> None:
        DEMO_PARTS.append(cls)

    def is_present(self) -> bool:
        """Whether an earlier run has added this part."""
        return False

    def tables(self) -> list[type[Model]]:
        """The models whose records `Pasts` writes: they are locked against other writers until the end."""
        return []

    def earliest_time(self) -> datetime.datetime:
        """The earliest time that the rows of this part may have."""
        return self.demo.start

    def begin(self) -> None:
        """Add what there is once."""

    def add_patients(self, numbers: range) -> None:
        """Add the patients with these numbers, or what belongs to them."""

    def finish(self) -> None:
        """Add what needs all others. The triggers of the history are switched on again."""

    def describe(self) -> str:
        """What the person who runs the command reads at its end."""
        return ""
