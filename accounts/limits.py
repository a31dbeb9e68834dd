"""Limits counted in PostgreSQL, so that they hold across threads, workers and machines.

A count commits before the answer is known: a request that fails later does not take it back. Views that count must
therefore not run in one transaction. A row locks before another in one order, address before account.
"""

import ipaddress
from typing import Self

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.identifiers import normalize
from accounts.models import User

FREE_BY_ACCOUNT, FREE_BY_ADDRESS = 10, 100  # failures before waiting begins
LONGEST_WAIT = 900  # seconds; a back-off, never a lock-out
REGISTRATIONS_AN_HOUR = 60

# After the free failures every further one doubles the wait. A row that is still waiting is left as it is, and no row
# comes back. 15 quiet minutes after the last wait the count starts anew.
BACK_OFF = """
INSERT INTO accounts_attempts AS a (key, count, until) VALUES (%(key)s, 1, now())
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN a.until < now() - interval '15 minutes' THEN 1 ELSE a.count + 1 END,
    until = now() + interval '1 second' * CASE
        WHEN a.until < now() - interval '15 minutes' OR a.count + 1 < %(free)s THEN 0
        ELSE least(2 ^ least(a.count + 1 - %(free)s, 20), %(longest)s) END
WHERE a.count < %(free)s OR a.until <= now()
RETURNING 1
"""
HOURLY = """
INSERT INTO accounts_attempts AS a (key, count, until) VALUES (%(key)s, 1, now() + interval '1 hour')
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN a.until <= now() THEN 1 ELSE a.count + 1 END,
    until = CASE WHEN a.until <= now() THEN now() + interval '1 hour' ELSE a.until END
WHERE a.until <= now() OR a.count < %(free)s
RETURNING 1
"""
WAIT = "SELECT greatest(1, ceil(extract(epoch FROM until - now())))::int FROM accounts_attempts WHERE key = %s"
TAKE_BACK = "UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now()) WHERE key = %s"
# Along with the account some rows that count no longer, a bounded number so that no login waits for long.
FORGET = """
WITH old AS (
    SELECT key FROM accounts_attempts WHERE until < now() - interval '1 day' LIMIT 100 FOR UPDATE SKIP LOCKED
)
DELETE FROM accounts_attempts WHERE key IN (SELECT key FROM old UNION ALL SELECT %s)
"""


class LoginAttempt:
    """An attempt to prove who one is. It counts as a failure from the beginning and is taken back on success, so that
    attempts at once cannot slip past the limit together."""

    def __init__(self, account: str, address: str) -> None:
        self.account, self.address = account, address

    @classmethod
    def begin(cls, request: HttpRequest | Request, identifier: str, user: User | None) -> Self:
        """Count it; raises Throttled (429) while the account or the address has to wait. An account that does not
        exist waits like one that does."""
        attempt = cls(
            key("account", str(user.pk)) if user else key("unknown", normalize(identifier)),
            key("address", network(address_of(request))),
        )
        with transaction.atomic():  # both or neither: what has to wait for the account is no failure of the address
            count(BACK_OFF, attempt.address, FREE_BY_ADDRESS)
            count(BACK_OFF, attempt.account, FREE_BY_ACCOUNT)
        return attempt

    def succeed(self) -> None:
        """Forget the account's failures, and this attempt at the address."""
        with connection.cursor() as cursor:
            cursor.execute(TAKE_BACK, [self.address])
            cursor.execute(FORGET, [self.account])


def count_registration(request: HttpRequest | Request) -> None:
    """Raises Throttled (429) beyond 60 registrations an hour from one address."""
    count(HOURLY, key("registration", network(address_of(request))), REGISTRATIONS_AN_HOUR)


def count(statement: str, counted: str, free: int) -> None:
    scaled = free * settings.THROTTLE_SCALE
    with connection.cursor() as cursor:
        cursor.execute(statement, {"key": counted, "free": scaled, "longest": LONGEST_WAIT})
        if cursor.fetchone() is None:
            cursor.execute(WAIT, [counted])
            row = cursor.fetchone()
            raise Throttled(wait=row[0] if row else 1)


def key(kind: str, whom: str) -> str:
    """A keyed hash: what people type into a login may be a password."""
    return salted_hmac("accounts.limits", f"{kind}:{whom}", algorithm="sha256").hexdigest()


def address_of(request: HttpRequest | Request) -> str:
    """The client's address, by TRUSTED_PROXIES entries of X-Forwarded-For; empty when there is none."""
    claimed = BaseThrottle().get_ident(request)  # type: ignore[arg-type]
    for written in (claimed, request.META.get("REMOTE_ADDR")):
        try:
            address = ipaddress.ip_address((written or "").partition("%")[0])  # without the zone (RFC 4007)
        except ValueError:
            continue
        return str(getattr(address, "ipv4_mapped", None) or address)
    return ""


def network(address: str) -> str:
    """What one client holds: an IPv4 address, or a /64 of IPv6."""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address
