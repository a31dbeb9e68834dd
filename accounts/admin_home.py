"""What the admin's home page shows of accounts: the refused logins of today."""

import datetime

from django.utils import timezone

from accounts.models import Attempts
from healthcare.admin.counts import count_rows
from healthcare.admin.home import Figure, Panel, list_url


def read_refused_logins() -> list[Figure]:
    today = timezone.localdate()
    midnight = timezone.make_aware(datetime.datetime.combine(today, datetime.time.min))
    count = count_rows(Attempts.objects.filter(until__gte=midnight).order_by("until"))
    return [Figure("Refused logins", str(count), "counters that failed today", list_url(Attempts))]


HOME_PANELS = [Panel("Refused logins", read_refused_logins)]
