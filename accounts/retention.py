"""When rows of this app are of no use any more: see `healthcare.operations.tidying`."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from accounts.delegations.models import Notice
from accounts.invitations.models import Invitation
from accounts.models import Attempts, LoginAddress, LoginSession
from accounts.second_factor.models import SecondFactor
from healthcare.operations.tidying import ExpiringRows

UNCONFIRMED_FACTORS_KEPT = timedelta(days=1)


def ended_sessions() -> Q:
    """An ended session and one that does not exist are refused with the same answers, also when an old refresh token is
    used again; ended ones are kept for inquiries."""
    until: datetime = timezone.now() - settings.RETENTION_LOGIN_SESSIONS
    idle = Q(kind=LoginSession.Kind.SESSION, last_used_at__lt=until - settings.SESSION_IDLE_TIME)
    return Q(revoked_at__lt=until) | Q(expires_at__lt=until) | idle


def forgotten_attempts() -> Q:
    """A count restarts at the latest a day after its last wait (`limits.ACCOUNT_MEMORY`), as without its row."""
    return Q(until__lt=timezone.now() - settings.RETENTION_ATTEMPTS)


def forgotten_addresses() -> Q:
    """An address counts as known for 90 days after a login from it (`limits.KNOWN_ADDRESS_MEMORY`)."""
    return Q(last_login_at__lt=timezone.now() - settings.RETENTION_LOGIN_ADDRESSES)


def read_notices() -> Q:
    """A notice that was read is listed no more, and reading it again finds nothing."""
    return Q(read_at__lt=timezone.now() - settings.RETENTION_NOTICES)


def finished_invitations() -> Q:
    """One that was used or has expired is refused as one that does not exist."""
    until = timezone.now() - settings.RETENTION_INVITATIONS
    return Q(used_at__lt=until) | Q(expires_at__lt=until)


def unconfirmed_factors() -> Q:
    """Nobody has sent a code of such a secret, so no login asks for one; another request gives another secret."""
    return Q(confirmed_at=None, created_at__lt=timezone.now() - UNCONFIRMED_FACTORS_KEPT)


EXPIRING = (
    ExpiringRows("login sessions", LoginSession, ended_sessions),
    ExpiringRows("attempts", Attempts, forgotten_attempts),
    ExpiringRows("login addresses", LoginAddress, forgotten_addresses),
    ExpiringRows("read notices", Notice, read_notices),
    ExpiringRows("invitations", Invitation, finished_invitations),
    ExpiringRows("unconfirmed second factors", SecondFactor, unconfirmed_factors),
)
