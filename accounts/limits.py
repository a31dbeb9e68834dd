"""Limits counted in PostgreSQL, so that they hold across threads, workers and machines.

Every count is one statement that commits by itself: a request that fails later does not take it back.
"""

import hashlib
import ipaddress
from typing import Self

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.models import User, normalize

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
WHERE a.until <= now()
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
SUCCEEDED = """
WITH own AS (DELETE FROM accounts_attempts WHERE key = %(account)s OR until < now() - interval '1 day')
UPDATE accounts_attempts SET count = greatest(count - 1, 0) WHERE key = %(address)s
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
            key("account", str(user.pk) if user else normalize(identifier)),
            key("address", network(address_of(request))),
        )
        count(BACK_OFF, attempt.address, FREE_BY_ADDRESS)
        count(BACK_OFF, attempt.account, FREE_BY_ACCOUNT)
        return attempt

    def succeed(self) -> None:
        """Forget the account's failures, and this attempt at the address."""
        with connection.cursor() as cursor:
            cursor.execute(SUCCEEDED, {"account": self.account, "address": self.address})


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
    """A hash: what people type into a login may be a password."""
    return hashlib.sha256(f"{kind}:{whom}".encode()).hexdigest()


def address_of(request: HttpRequest | Request) -> str:
    """The client's address, by TRUSTED_PROXIES entries of X-Forwarded-For; empty when there is none."""
    claimed = BaseThrottle().get_ident(request)  # type: ignore[arg-type]
    for address in (claimed, request.META.get("REMOTE_ADDR")):
        try:
            return str(ipaddress.ip_address(address or ""))
        except ValueError:
            continue
    return ""


def network(address: str) -> str:
    """What one client holds: an IPv4 address, or a /64 of IPv6."""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address
