"""The last days, as the columns of a chart. A day begins at midnight in TIME_ZONE."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from healthcare.admin.charts import Column
from healthcare.admin.counts import Count
from healthcare.admin.list_filters import start_of_day


@dataclass(frozen=True)
class RecentDays:
    """So many days, of which the last is `today`."""

    number: int
    today: datetime.date

    @property
    def days(self) -> list[datetime.date]:
        return [self.today - datetime.timedelta(days=back) for back in reversed(range(self.number))]

    @property
    def first(self) -> datetime.date:
        return self.days[0]

    @property
    def beginnings(self) -> list[datetime.datetime]:
        return [start_of_day(day) for day in self.days]

    def columns(self, counts: Sequence[Count], url: Callable[[datetime.date], str]) -> list[Column]:
        """A column for each day. `url` gives the list of a day's rows."""
        return [
            Column(f"{day:%a} {day.day}" if self.number <= 7 else str(day.day), self.name(day), count, url(day))
            for day, count in zip(self.days, counts, strict=True)
        ]

    @staticmethod
    def name(day: datetime.date) -> str:
        return f"{day:%A} {day.day} {day:%B}"
