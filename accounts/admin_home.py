"""What the admin's home page shows of accounts: the refused logins of today."""

from django.utils import timezone

from accounts.models import Attempts
from healthcare.admin.counts import count_rows
from healthcare.admin.home import Figure, filtered_list_url
from healthcare.admin.list_filters import start_of_day

# A successful login from the address removes the count of the account from there, see `limits`.
UNIT = "accounts that failed today, by address, and have not logged in from there since"


def read_refused_logins() -> list[Figure]:
    today = timezone.localdate()
    # In the order of the index `attempts_of_kind`.
    count = count_rows(
        Attempts.objects.filter(kind=Attempts.Kind.PAIR, until__gte=start_of_day(today)).order_by("until")
    )
    url = filtered_list_url(Attempts, kind=Attempts.Kind.PAIR, counted_from=today)
    return [Figure("Refused logins", str(count), UNIT, url)]
