"""Values as the admin shows them."""

import datetime
from typing import Any

from django.utils import formats, timezone

from healthcare.admin.object_lists import objects_in_words

YES_NO = {True: "Yes", False: "No", None: "Unknown"}


def local_time(moment: datetime.datetime) -> str:
    """The time in TIME_ZONE, to the second, with the zone: "26 Nov 2026, 14:05:09 IST"."""
    local = timezone.localtime(moment)
    return f"{formats.date_format(local, 'j M Y, H:i:s')} {local:%Z}"


def text_of(value: Any) -> str:
    """The text of a value whose type tells how to show it: a time, a date, or a list of objects or texts."""
    if isinstance(value, datetime.datetime):
        return local_time(value)
    if isinstance(value, datetime.date):
        return formats.date_format(value)
    if isinstance(value, list):
        are_objects = all(isinstance(one, dict) for one in value)
        return objects_in_words(value) if are_objects else ", ".join(map(str, value))
    return str(value)
