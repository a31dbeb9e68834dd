"""Rate limits that are counted in PostgreSQL, so that they hold across threads, workers and machines.

An attempt is counted in a transaction of its own, which commits before the outcome is known: a request that fails later
does not take its count back, and no row lock is held while a password is hashed. The views that count must therefore
not run in one transaction. Row locks are taken in one order, the address before the account.
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

from accounts.identifiers import normalize_identifier
from accounts.models import User

FREE_FAILURES_BY_ACCOUNT, FREE_FAILURES_BY_ADDRESS = 10, 100  # failures before waiting begins
LONGEST_WAIT = 900  # seconds; the client is slowed down, never locked out
REGISTRATIONS_PER_HOUR = 60

# After the free failures every further one doubles the wait. A row that is still waiting is neither changed nor
# returned. The count restarts 15 minutes after the last wait.
COUNT_FAILURE = """
INSERT INTO accounts_attempts AS a (key, count, until) SELECT {key}, 1, now() {source}
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN a.until < now() - interval '15 minutes' THEN 1 ELSE a.count + 1 END,
    until = now() + interval '1 second' * CASE
        WHEN a.until < now() - interval '15 minutes' OR a.count + 1 < {free} THEN 0
        ELSE least(2 ^ least(a.count + 1 - {free}, 20), %(longest_wait)s) END
WHERE a.count < {free} OR a.until <= now()
RETURNING a.key
"""
# The account's INSERT reads the address's result, so PostgreSQL locks the address's row first.
COUNT_LOGIN_ATTEMPT = f"""
WITH counted_address AS ({
    COUNT_FAILURE.format(key="%(address)s", free="%(free_by_address)s", source="")
}), counted_account AS ({
    COUNT_FAILURE.format(key="%(account)s", free="%(free_by_account)s", source="FROM counted_address")
})
SELECT EXISTS (SELECT FROM counted_address), EXISTS (SELECT FROM counted_account)
"""  # noqa: S608  (constants alone)
COUNT_REGISTRATION = """
INSERT INTO accounts_attempts AS a (key, count, until) VALUES (%(key)s, 1, now() + interval '1 hour')
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN a.until <= now() THEN 1 ELSE a.count + 1 END,
    until = CASE WHEN a.until <= now() THEN now() + interval '1 hour' ELSE a.until END
WHERE a.until <= now() OR a.count < %(limit)s
RETURNING a.key
"""
SECONDS_TO_WAIT = """
SELECT greatest(1, ceil(extract(epoch FROM until - now())))::int FROM accounts_attempts WHERE key = %s
"""
# Takes the attempt back from the address and deletes the account's row, and with it at most 100 expired rows so that no
# login takes long. Both deletions depend on the UPDATE, so PostgreSQL locks the address's row first; expired rows are
# locked without waiting.
CLEAR_ACCOUNT_FAILURES = """
WITH address AS (
    UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now())
    WHERE key = %(address)s RETURNING key
), locked_address AS (
    SELECT count(*) AS rows FROM address
), expired AS (
    SELECT key FROM accounts_attempts
    WHERE until < now() - interval '1 day' AND (SELECT rows FROM locked_address) >= 0
    LIMIT 100 FOR UPDATE SKIP LOCKED
)
DELETE FROM accounts_attempts
WHERE key IN (SELECT key FROM expired UNION ALL SELECT %(account)s FROM locked_address)
"""


class LoginAttempt:
    """An attempt to prove a user's identity by password.

    It counts as a failure from the beginning and is taken back on success, so that concurrent attempts cannot exceed
    the limit together.
    """

    def __init__(self, account_key: str, address_key: str) -> None:
        self.account_key, self.address_key = account_key, address_key

    @classmethod
    def begin(cls, request: HttpRequest | Request, identifier: str, user: User | None) -> Self:
        """Count an attempt by this account and this address.

        Raises Throttled (429) while one of them has to wait. An account that does not exist waits like one that does.
        """
        attempt = cls(
            attempts_key("account", str(user.pk))
            if user
            else attempts_key("unknown", normalize_identifier(identifier)),
            attempts_key("address", client_network(client_address(request))),
        )
        # Throttled rolls back: an attempt that has to wait for its account is no failure of the address.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                COUNT_LOGIN_ATTEMPT,
                {
                    "address": attempt.address_key,
                    "account": attempt.account_key,
                    "free_by_address": FREE_FAILURES_BY_ADDRESS * settings.THROTTLE_SCALE,
                    "free_by_account": FREE_FAILURES_BY_ACCOUNT * settings.THROTTLE_SCALE,
                    "longest_wait": LONGEST_WAIT,
                },
            )
            address_counted, account_counted = cursor.fetchone()
            if not account_counted:
                raise throttled(attempt.account_key if address_counted else attempt.address_key)
        return attempt

    def succeed(self) -> None:
        """Delete the account's failures, and take this attempt back from the address's."""
        with connection.cursor() as cursor:
            cursor.execute(CLEAR_ACCOUNT_FAILURES, {"address": self.address_key, "account": self.account_key})


def count_registration(request: HttpRequest | Request) -> None:
    """Raises Throttled (429) beyond 60 registrations an hour from one address."""
    key = attempts_key("registration", client_network(client_address(request)))
    with connection.cursor() as cursor:
        cursor.execute(COUNT_REGISTRATION, {"key": key, "limit": REGISTRATIONS_PER_HOUR * settings.THROTTLE_SCALE})
        if cursor.fetchone() is None:
            raise throttled(key)


def throttled(key: str) -> Throttled:
    """The 429 that tells the client how long this row of attempts still waits, at least one second."""
    with connection.cursor() as cursor:
        cursor.execute(SECONDS_TO_WAIT, [key])
        row = cursor.fetchone()
    return Throttled(wait=row[0] if row else 1)


def attempts_key(kind: str, subject: str) -> str:
    """The primary key of a row of attempts: a keyed hash, since people type passwords into the username field."""
    return salted_hmac("accounts.limits", f"{kind}:{subject}", algorithm="sha256").hexdigest()


def client_address(request: HttpRequest | Request) -> str:
    """The client's address, by TRUSTED_PROXIES entries of X-Forwarded-For; empty when there is none."""
    claimed = BaseThrottle().get_ident(request)  # type: ignore[arg-type]
    for written in (claimed, request.META.get("REMOTE_ADDR")):
        try:
            address = ipaddress.ip_address((written or "").partition("%")[0])  # without the zone (RFC 4007)
        except ValueError:
            continue
        return str(getattr(address, "ipv4_mapped", None) or address)
    return ""


def client_network(address: str) -> str:
    """The address block that one client controls: an IPv4 address, or a /64 of IPv6."""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address
