"""Times as the admin shows them."""

import datetime

from django.utils import formats, timezone


def local_time(moment: datetime.datetime) -> str:
    """The time in TIME_ZONE, to the second, with the zone: "26 Nov 2026, 14:05:09 IST"."""
    local = timezone.localtime(moment)
    return f"{formats.date_format(local, 'j M Y, H:i:s')} {local:%Z}"
