"""Rate limits that are counted in PostgreSQL, so that they hold across threads, workers and machines.

An attempt is counted in a transaction of its own, which commits before the outcome is known: a request that fails later
does not take its count back, and no row lock is held while a password is hashed. The views that count must therefore
not run in one transaction; `counted_names` alone counts in that of the request. Row locks are taken in one order: the
address, the account from that address, the account.

A login counts in three rows. The account from this address slows down one guesser without locking the owner out, who
is elsewhere. The account slows down many addresses that guess one password, and the address one that guesses many.
An address from which a login to this account has succeeded counts in the first row alone: strangers elsewhere cannot
make it wait.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from accounts.client_address import client_address, client_network
from accounts.identifiers import normalize_identifier
from accounts.models import Attempts, User
from healthcare.api.exceptions import CountedError
from healthcare.api.rate_limits import RateLimited, RatePolicy
from healthcare.operations.metrics import count_login_failure
from healthcare.rls.context import without_role

logger = logging.getLogger("healthcare.security")

# Failures before waiting begins.
FREE_FAILURES_BY_PAIR = 10  # of one account from one address
FREE_FAILURES_BY_ACCOUNT = 100  # of one account from all addresses (NIST SP 800-63B section 5.2.2)
FREE_FAILURES_BY_ADDRESS = 1000  # of all accounts from one address, which may be a clinic's NAT
LONGEST_WAIT = 900  # seconds; the client is slowed down, never locked out
# How long after the last wait a count restarts. An account's must outlast the pauses of a patient guesser.
PAIR_MEMORY, ACCOUNT_MEMORY, ADDRESS_MEMORY = "15 minutes", "1 day", "15 minutes"
KNOWN_ADDRESS_MEMORY = "90 days"  # since the last login from it
REGISTRATIONS_PER_HOUR = 60
TAKEN_EMAILS_PER_HOUR = 20
REFUSED_NAMES_PER_HOUR = 20
ACCOUNT_FILES_PER_HOUR = 10
# What a 429 states of these limits. The window of failures is the pause after which their count restarts.
FAILURES_BY_PAIR = RatePolicy("failures", FREE_FAILURES_BY_PAIR, 15 * 60)
FAILURES_BY_ACCOUNT = RatePolicy("failures", FREE_FAILURES_BY_ACCOUNT, 24 * 60 * 60)
FAILURES_BY_ADDRESS = RatePolicy("failures", FREE_FAILURES_BY_ADDRESS, 15 * 60)
REGISTRATIONS = RatePolicy("registrations", REGISTRATIONS_PER_HOUR, 60 * 60)
TAKEN_EMAILS = RatePolicy("e-mail-changes", TAKEN_EMAILS_PER_HOUR, 60 * 60)
REFUSED_NAMES = RatePolicy("names", REFUSED_NAMES_PER_HOUR, 60 * 60)
ACCOUNT_FILES = RatePolicy("account-files", ACCOUNT_FILES_PER_HOUR, 60 * 60)

# After the free failures every further one doubles the wait. A row that is still waiting is neither changed nor
# returned. One that ends in more than a day was begun by a clock of the database that has been set back since.
COUNT_FAILURE = """
INSERT INTO accounts_attempts AS a (key, kind, count, until) SELECT {key}, '{kind}', 1, now() {source}
ON CONFLICT (key) DO UPDATE SET
    kind = excluded.kind,
    count = CASE WHEN a.until < now() - interval '{memory}' THEN 1 ELSE a.count + 1 END,
    until = now() + interval '1 second' * CASE
        WHEN a.until < now() - interval '{memory}' OR a.count + 1 < {free} THEN 0
        ELSE least(2 ^ least(a.count + 1 - {free}, 20), %(longest_wait)s) END
WHERE a.count < {free} OR a.until <= now() OR a.until > now() + interval '1 second' * 86400
RETURNING a.key
"""
# The INSERTs read each other's results, so PostgreSQL takes their row locks in this order.
COUNT_LOGIN_ATTEMPT = f"""
WITH known AS (
    SELECT EXISTS (
        SELECT FROM accounts_loginaddress WHERE user_id = %(user)s AND network = %(network)s
        AND last_login_at > now() - interval '{KNOWN_ADDRESS_MEMORY}') AS is_known
), counted_address AS ({
    COUNT_FAILURE.format(
        key="%(address)s",
        kind=Attempts.Kind.ADDRESS,
        free="%(free_by_address)s",
        memory=ADDRESS_MEMORY,
        source="FROM known WHERE NOT is_known",
    )
}), counted_pair AS ({
    COUNT_FAILURE.format(
        key="%(pair)s",
        kind=Attempts.Kind.PAIR,
        free="%(free_by_pair)s",
        memory=PAIR_MEMORY,
        source="FROM known WHERE is_known OR EXISTS (SELECT FROM counted_address)",
    )
}), counted_account AS ({
    COUNT_FAILURE.format(
        key="%(account)s",
        kind=Attempts.Kind.ACCOUNT,
        free="%(free_by_account)s",
        memory=ACCOUNT_MEMORY,
        source="FROM known WHERE NOT is_known AND EXISTS (SELECT FROM counted_pair)",
    )
})
SELECT is_known, EXISTS (SELECT FROM counted_address), EXISTS (SELECT FROM counted_pair),
    EXISTS (SELECT FROM counted_account)
FROM known
"""  # noqa: S608  (constants alone)
COUNT_SESSION_ATTEMPT = COUNT_FAILURE.format(
    key="%(key)s", kind=Attempts.Kind.SESSION, free="%(free)s", memory=PAIR_MEMORY, source=""
)
# A row that has reached the limit within its hour is neither changed nor returned. An hour that ends far ahead is of a
# clock that has been set back since.
IN_ITS_HOUR = "a.until > now() AND a.until < now() + interval '1 day'"
COUNT_WITHIN_HOUR = f"""
INSERT INTO accounts_attempts AS a (key, kind, count, until)
VALUES (%(key)s, %(kind)s, 1, now() + interval '1 hour')
ON CONFLICT (key) DO UPDATE SET
    kind = excluded.kind,
    count = CASE WHEN {IN_ITS_HOUR} THEN a.count + 1 ELSE 1 END,
    until = CASE WHEN {IN_ITS_HOUR} THEN a.until ELSE now() + interval '1 hour' END
WHERE NOT ({IN_ITS_HOUR}) OR a.count < %(limit)s
RETURNING a.key
"""  # noqa: S608  (constants alone)
SECONDS_TO_WAIT = """
SELECT greatest(1, ceil(extract(epoch FROM until - now())))::int FROM accounts_attempts WHERE key = %s
"""
# Takes the attempt back from the address and the account, deletes the row of the account from this address, and stores
# the address as known. Deletes at most 100 expired rows of each table, so that no login takes long. Each step reads the
# one before, so PostgreSQL takes the row locks in the order above; expired rows are locked without waiting.
CLEAR_FAILURES = f"""
WITH address AS (
    UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now())
    WHERE key = %(address)s AND NOT %(is_known)s RETURNING key
), locked_address AS (
    SELECT count(*) AS rows FROM address
), pair AS (
    DELETE FROM accounts_attempts WHERE key IN (SELECT %(pair)s FROM locked_address) RETURNING key
), locked_pair AS (
    SELECT count(*) AS rows FROM pair
), account AS (
    UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now())
    WHERE key IN (SELECT %(account)s FROM locked_pair) AND NOT %(is_known)s RETURNING key
), locked_account AS (
    SELECT count(*) AS rows FROM account
), expired AS (
    SELECT key FROM accounts_attempts
    WHERE until < now() - interval '1 day' AND (SELECT rows FROM locked_account) >= 0
        AND key NOT IN (%(address)s, %(pair)s, %(account)s)
    LIMIT 100 FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM accounts_attempts WHERE key IN (SELECT key FROM expired)
), forgotten AS (
    -- An array, since PostgreSQL may execute a subquery of IN, and its LIMIT, once for each row.
    DELETE FROM accounts_loginaddress WHERE id = ANY (ARRAY(
        SELECT id FROM accounts_loginaddress WHERE last_login_at < now() - interval '{KNOWN_ADDRESS_MEMORY}'
            AND NOT (user_id = %(user)s AND network = %(network)s)
        LIMIT 100 FOR UPDATE SKIP LOCKED))
), usable_user AS (
    SELECT id FROM accounts_user WHERE id = %(user)s AND (SELECT rows FROM locked_account) >= 0
        AND NOT EXISTS (
            SELECT FROM accounts_loginaddress WHERE user_id = %(user)s AND network = %(network)s
            AND last_login_at > now() - interval '1 hour')
    FOR KEY SHARE
)
INSERT INTO accounts_loginaddress (user_id, network, last_login_at)
SELECT id, %(network)s, now() FROM usable_user
ON CONFLICT (user_id, network) DO UPDATE SET last_login_at = now()
"""  # noqa: S608  (constants alone)
TAKE_BACK = "UPDATE accounts_attempts SET count = greatest(count - 1, 0) WHERE key = %s"
# An attempt begins while its row does not wait, so it ends the wait that it has begun.
TAKE_BACK_FAILURE = """
UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now()) WHERE key = %s
"""
DELETE_ATTEMPTS = "DELETE FROM accounts_attempts WHERE key = %s"


class LoginAttempt:
    """An attempt to log in by password, or to give a code of the second factor after the login.

    It counts as a failure from the beginning and is taken back on success, so that concurrent attempts cannot exceed
    the limit together.
    """

    is_known = False  # whether the account has been logged in to from this address before

    def __init__(self, request: HttpRequest | Request, identifier: str, user: User | None) -> None:
        self.request, self.user_id = request, user.pk if user else None
        self.network = client_network(client_address(request))
        self.account_key = account_key(identifier, user)
        self.pair_key = pair_key(self.network, self.account_key)
        self.address_key = attempts_key("address", self.network)

    @classmethod
    def begin(cls, request: HttpRequest | Request, identifier: str, user: User | None) -> Self:
        """Count an attempt by this account and this address.

        Raises RateLimited (429) while it has to wait. An account that does not exist waits like one that does.
        """
        attempt = cls(request, identifier, user)
        # Throttled rolls back: an attempt that has to wait counts nowhere.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                COUNT_LOGIN_ATTEMPT,
                {
                    **attempt.parameters,
                    "free_by_address": FREE_FAILURES_BY_ADDRESS * settings.THROTTLE_SCALE,
                    "free_by_pair": FREE_FAILURES_BY_PAIR * settings.THROTTLE_SCALE,
                    "free_by_account": FREE_FAILURES_BY_ACCOUNT * settings.THROTTLE_SCALE,
                    "longest_wait": LONGEST_WAIT,
                },
            )
            attempt.is_known, address_counted, pair_counted, account_counted = cursor.fetchone()
            waiting = (
                (attempt.address_key, FAILURES_BY_ADDRESS) if not (attempt.is_known or address_counted)
                else (attempt.pair_key, FAILURES_BY_PAIR) if not pair_counted
                else (attempt.account_key, FAILURES_BY_ACCOUNT) if not (attempt.is_known or account_counted)
                else None
            )  # fmt: skip
            if waiting:
                key, policy = waiting
                wait = seconds_to_wait(key)
                attempt.log("login refused during a back-off", wait=wait)
                raise RateLimited(policy.times(settings.THROTTLE_SCALE), wait)
        return attempt

    @property
    def parameters(self) -> dict[str, str | int | bool | None]:
        return {
            "user": self.user_id,
            "network": self.network,
            "address": self.address_key,
            "pair": self.pair_key,
            "account": self.account_key,
            "is_known": self.is_known,
        }

    def fail(self) -> None:
        count_login_failure()
        self.log("login failed")

    def take_back(self) -> None:
        """Take this attempt back, and keep the failures before it: nothing was wrong, but the login is not complete."""
        keys = [self.pair_key] if self.is_known else [self.address_key, self.pair_key, self.account_key]
        with transaction.atomic(), connection.cursor() as cursor:
            for key in keys:  # in the order of the row locks
                cursor.execute(TAKE_BACK_FAILURE, [key])

    def succeed(self) -> None:
        """Take this attempt back, delete the account's failures from this address, and store the address as known."""
        with connection.cursor() as cursor:
            cursor.execute(CLEAR_FAILURES, self.parameters)

    def log(self, event: str, **members: object) -> None:
        """The account is logged as the key of its attempts, which the admin's search finds, never as it was typed."""
        log_security_event(event, self.request, account=self.account_key, **members)


class SessionAttempt:
    """An attempt by a user who is logged in: to give the current password, or to confirm a new second factor by a code.

    It counts by session, a LoginSession or one of the admin: neither do failed logins make the owner wait here, nor the
    holder of a stolen token make the owner's logins wait.
    """

    def __init__(self, request: HttpRequest | Request, session: int | str, user_id: int) -> None:
        self.request, self.user_id = request, user_id
        self.key = attempts_key("session", str(session))

    @classmethod
    def begin(cls, request: HttpRequest | Request, session: int | str, user_id: int) -> Self:
        """Count an attempt, and raise RateLimited (429) while it has to wait. `session` is the id of a LoginSession or
        the key of a session of the admin."""
        attempt = cls(request, session, user_id)
        free = FREE_FAILURES_BY_PAIR * settings.THROTTLE_SCALE
        with connection.cursor() as cursor:
            cursor.execute(COUNT_SESSION_ATTEMPT, {"key": attempt.key, "free": free, "longest_wait": LONGEST_WAIT})
            if cursor.fetchone() is None:
                wait = seconds_to_wait(attempt.key)
                attempt.log("current password refused during a back-off", wait=wait)
                raise RateLimited(FAILURES_BY_PAIR.times(settings.THROTTLE_SCALE), wait)
        return attempt

    def fail(self) -> None:
        self.log("current password wrong")

    def succeed(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(DELETE_ATTEMPTS, [self.key])

    def log(self, event: str, **members: object) -> None:
        log_security_event(event, self.request, account=user_key(self.user_id), **members)


def log_security_event(event: str, request: HttpRequest | Request | None, **members: object) -> None:
    """One WARNING such as `login failed account=… address=203.0.113.9 request_id=…`; a command has no request."""
    if request is not None:
        members |= {"address": client_address(request) or None, "request_id": getattr(request, "request_id", None)}
    logger.warning(event, extra={"fields": members})


def count_registration(request: HttpRequest | Request) -> None:
    """Raises RateLimited (429) beyond 60 registrations an hour from one address."""
    key = attempts_key("registration", client_network(client_address(request)))
    count_within_hour(key, Attempts.Kind.REGISTRATION, REGISTRATIONS, "registration refused", request)


@contextmanager
def counted_email_change(request: HttpRequest | Request, user: User) -> Iterator[None]:
    """Change the e-mail. Raises RateLimited (429) after it was found taken 20 times within an hour.

    It counts as taken from the beginning and is taken back unless a constraint is violated, so that neither concurrent
    changes exceed the limit together, nor does a 429 tell whether this one is taken.
    """
    key = attempts_key("email change", str(user.pk))
    count_within_hour(
        key, Attempts.Kind.EMAIL_CHANGE, TAKEN_EMAILS, "e-mail change refused", request, account=user_key(user.pk)
    )
    taken = False
    try:
        yield
    except IntegrityError:
        taken = True
        raise
    finally:
        if not taken:
            with connection.cursor() as cursor:
                cursor.execute(TAKE_BACK, [key])


@contextmanager
def counted_names(request: Request, user: User) -> Iterator[None]:
    """Run a block that raises ValidationError (400) if a username that this user has sent is unknown, or is taken.

    Raises CountedError (400) for it, and RateLimited (429) once 20 were refused within an hour. It counts as refused
    from the beginning, in the transaction of the request, so that concurrent requests wait for each other: neither do
    they exceed the limit together, nor does a 429 tell what the answer would have been. The block runs without the
    role of the API.
    """
    key = attempts_key("name", str(user.pk))
    account = user_key(user.pk)
    with without_role(), connection.cursor() as cursor:
        count_within_hour(key, Attempts.Kind.NAME, REFUSED_NAMES, "name refused", request, account=account)
        try:
            with transaction.atomic():
                yield
        except ValidationError as error:
            raise CountedError(error.detail) from error
        cursor.execute(TAKE_BACK, [key])


def count_account_file(request: Request) -> None:
    """Raises RateLimited (429) beyond 10 files an hour about the caller's account."""
    user: Any = request.user
    key = attempts_key("account file", str(user.pk))
    account = user_key(user.pk)
    count_within_hour(key, Attempts.Kind.ACCOUNT_FILE, ACCOUNT_FILES, "account file refused", request, account=account)


def count_within_hour(
    key: str, kind: Attempts.Kind, policy: RatePolicy, event: str, request: HttpRequest | Request, **logged: object
) -> None:
    """Raises RateLimited (429) and logs the event once the key was counted so often within an hour."""
    scaled = policy.times(settings.THROTTLE_SCALE)
    with connection.cursor() as cursor:
        cursor.execute(COUNT_WITHIN_HOUR, {"key": key, "kind": kind, "limit": scaled.quota})
        if cursor.fetchone() is None:
            wait = seconds_to_wait(key)
            log_security_event(event, request, **logged, wait=wait)
            raise RateLimited(scaled, wait)


def seconds_to_wait(key: str) -> int:
    """How long this row of attempts still waits, at least one second."""
    with connection.cursor() as cursor:
        cursor.execute(SECONDS_TO_WAIT, [key])
        row = cursor.fetchone()
    return int(row[0]) if row else 1


def attempts_key(kind: str, subject: str) -> str:
    """The primary key of a row of attempts: a keyed hash, since people type passwords into the username field."""
    return salted_hmac("accounts.limits", f"{kind}:{subject}", algorithm="sha256").hexdigest()


def account_key(identifier: str, user: User | None) -> str:
    """The key of the attempts of an account, or of an identifier that belongs to none."""
    return user_key(user.pk) if user else attempts_key("unknown", normalize_identifier(identifier))


@lru_cache(maxsize=4096)
def user_key(user_id: int) -> str:
    """The key of the attempts of a user's account, by which the access log and the security log name the user."""
    return attempts_key("account", str(user_id))


def pair_key(network: str, account: str) -> str:
    """The key of the attempts of an account, given by its own key, from one address."""
    return attempts_key("pair", f"{network} {account}")
