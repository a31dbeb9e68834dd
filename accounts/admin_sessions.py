"""Ending login sessions of the admin, which Django keeps apart from those of the API."""

from collections.abc import Collection

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.utils import timezone


def end_admin_sessions(user_ids: Collection[int]) -> int:
    """Delete the admin's sessions of these users, and return how many there were.

    The row of a session names its user in encoded data alone, so this decodes every session that has not expired: one
    for each browser in which a member of staff has logged in today.
    """
    wanted = {str(user_id) for user_id in user_ids}
    sessions = Session.objects.filter(expire_date__gt=timezone.now()).iterator(chunk_size=1000)
    found = [session.pk for session in sessions if session.get_decoded().get(SESSION_KEY) in wanted]
    return Session.objects.filter(pk__in=found).delete()[0] if found else 0
