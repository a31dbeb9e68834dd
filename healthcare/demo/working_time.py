"""Random times at which people work: most of them on weekdays from 8 to 18 o'clock, local time."""

import datetime
from bisect import bisect
from itertools import accumulate
from random import Random

from django.utils import timezone

MONDAY = 4 * 24  # hours from the epoch, a Thursday, to the first Monday
WEEKDAY = [0.05] * 8 + [1, 2, 2, 2, 1, 1.5, 2, 2, 1.5, 1] + [0.1] * 6  # the weight of each hour
WEEKEND = [0.02] * 9 + [0.3] * 8 + [0.02] * 7
WEEK = [*accumulate(WEEKDAY * 5 + WEEKEND * 2, initial=0.0)]
WHOLE_WEEK = WEEK[-1]


class WorkingTime:
    """Maps times to the work that is done until then, and back. Both grow together."""

    def __init__(self, now: datetime.datetime) -> None:
        offset = timezone.localtime(now).utcoffset() or datetime.timedelta()
        self.offset = offset.total_seconds() / 3600 - MONDAY

    def work_until(self, moment: datetime.datetime) -> float:
        hours = moment.timestamp() / 3600 + self.offset
        weeks, hour = divmod(hours, 168)
        whole = int(hour)
        return weeks * WHOLE_WEEK + WEEK[whole] + (hour - whole) * (WEEK[whole + 1] - WEEK[whole])

    def when_done(self, work: float) -> datetime.datetime:
        weeks, rest = divmod(work, WHOLE_WEEK)
        whole = min(bisect(WEEK, rest) - 1, 167)
        hours = weeks * 168 + whole + (rest - WEEK[whole]) / (WEEK[whole + 1] - WEEK[whole])
        return datetime.datetime.fromtimestamp((hours - self.offset) * 3600, datetime.UTC)

    def between(self, after: datetime.datetime, before: datetime.datetime, part: float) -> datetime.datetime:
        """The time at which this part of the work, from 0 to 1, between the two times is done."""
        first, last = self.work_until(after), self.work_until(before)
        return min(max(self.when_done(first + part * (last - first)), after), before)

    def random(self, random: Random, after: datetime.datetime, before: datetime.datetime) -> datetime.datetime:
        return self.between(after, before, random.random())
