"""Dates and times as RFC 3339 writes them: one form each, so that two readers never understand two days."""

import datetime
import re

# For clients that wrote another form.
WRITE_A_DAY = "Write an existing day as 2026-03-03."
WRITE_A_TIME = "Write an existing time with its zone as 2026-03-03T10:00:00Z."
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
DATE_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]+)?"
    r"(?P<offset>[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


def parse_full_date(text: str) -> datetime.date | None:
    """The day of a full-date, `2026-03-03`; None for any other text and for a day that does not exist."""
    try:
        return datetime.date.fromisoformat(text) if DATE.fullmatch(text) else None
    except ValueError:
        return None


def parse_date_time(text: str) -> datetime.datetime | None:
    """The time of a date-time, `2026-03-03T10:00:00Z`, in UTC; None for any other text.

    T and Z may be in lower case. The offset is required. Digits beyond microseconds are cut off. A leap second
    (`:60`) is not accepted: PostgreSQL would store the next minute.
    """
    match = DATE_TIME.fullmatch(text)
    if match is None:
        return None
    microseconds = (match["fraction"] or ".0")[:7].ljust(7, "0")
    try:
        at = datetime.datetime.fromisoformat(f"{match['day']}T{match['time']}{microseconds}")
        offset = datetime.time.fromisoformat(match["offset"][1:]) if match["offset"][1:] else datetime.time()
    except ValueError:
        return None
    east = datetime.timedelta(hours=offset.hour, minutes=offset.minute)
    try:
        return (at + east if match["offset"][0] == "-" else at - east).replace(tzinfo=datetime.UTC)
    except OverflowError:
        return None
