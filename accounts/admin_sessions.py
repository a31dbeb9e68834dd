"""Login sessions of the admin, which Django keeps apart from those of the API: how long they last, and ending them."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone

LAST_USED = "last_used"  # in the session: the time in seconds
# A request stores that the session is in use if the last one that did so is older than this share of the idle time.
RECORDED_SHARE = 1 / 6


def limit_session(request: HttpRequest, **_: Any) -> None:
    """At the login: end the session after SESSION_COOKIE_AGE, however often it is saved until then. A repeated login of
    the same user, for which Django keeps the session's key, gets another key too (ASVS 7.2.4)."""
    now = timezone.now()
    if LAST_USED in request.session:
        request.session.cycle_key()
    request.session.set_expiry(now + timedelta(seconds=settings.SESSION_COOKIE_AGE))
    request.session[LAST_USED] = now.timestamp()


def end_if_idle(request: HttpRequest) -> bool:
    """Log out after ADMIN_IDLE_TIME without a request, and return whether that happened."""
    now = timezone.now().timestamp()
    idle, longest = now - request.session.get(LAST_USED, 0), settings.ADMIN_IDLE_TIME.total_seconds()
    if LAST_USED in request.session and abs(idle) > longest:  # used in the future: a clock was set back
        logout(request)
        return True
    if idle > longest * RECORDED_SHARE:
        request.session[LAST_USED] = now
    return False


def end_admin_sessions(user_ids: Iterable[int]) -> int:
    """Delete the admin's sessions of these users, and return how many there were.

    The row of a session names its user in encoded data alone, so this decodes every session that has not expired: one
    for each browser in which a member of staff has logged in today.
    """
    wanted = {str(user_id) for user_id in user_ids}
    if not wanted:
        return 0
    sessions = Session.objects.filter(expire_date__gt=timezone.now()).iterator(chunk_size=1000)
    found = [session.pk for session in sessions if session.get_decoded().get(SESSION_KEY) in wanted]
    return Session.objects.filter(pk__in=found).delete()[0] if found else 0
