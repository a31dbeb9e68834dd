"""Adds notices about what others have done with delegations and transfers, and queues the e-mails about them."""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone

from accounts.delegations.models import Delegation, Notice
from accounts.mail import send_later
from accounts.models import User
from healthcare.rls.context import without_role

# Sent with the `user` whose notices are about to be listed. Receivers add notices of events that no request causes,
# such as the lapse of a transfer.
notices_requested = Signal()
# The kinds, each with the subject of the e-mail.
SUBJECTS = {
    "delegation_given": "A delegation was given",
    "delegation_changed": "A delegation was changed",
    "delegation_ended": "A delegation was ended",
    "transfer_offered": "A transfer was offered",
    "transfer_accepted": "A transfer was accepted",
    "transfer_declined": "A transfer was declined",
    "transfer_withdrawn": "A transfer was withdrawn",
    "transfer_lapsed": "A transfer has lapsed",
}

# Nobody gets a second e-mail about the same user within this time, unless they have read the notice of the first one:
# otherwise anybody could send e-mails to anybody by giving and ending delegations.
EMAIL_PAUSE = timedelta(hours=1)


def notify(users: User | Iterable[User], kind: str, by: User | None, about: dict[str, Any]) -> None:
    """Add a notice for each user; those of a clinic go to its managers, and nobody gets one of their own act.

    `kind` is a key of SUBJECTS, and `about` what it is about, in JSON, without data of patients. In the caller's
    transaction, with the rights of the tables' owner; e-mails follow when it has committed.
    """
    subject = SUBJECTS[kind]
    with without_role():
        recipients = find_recipients([users] if isinstance(users, User) else users, by)
        unread = Notice.objects.unread().filter(user__in=recipients, by=by, at__gt=timezone.now() - EMAIL_PAUSE)
        recently_emailed = {*unread.values_list("user_id", flat=True)}
        Notice.objects.bulk_create(Notice(user=user, kind=kind, by=by, about=about) for user in recipients)
    addresses = [str(user.email) for user in recipients if user.is_active and user.pk not in recently_emailed]
    done_by = f" by {by.username}" if by else ""
    body = f"{subject}{done_by}. Log in to read the notice.\n"
    transaction.on_commit(partial(send_later, addresses, subject, body), robust=True)


def find_recipients(users: Iterable[User], by: User | None) -> list[User]:
    """These users and the managers of the clinics among them, each once, without `by`."""
    addressed = list(users)
    managers = Delegation.objects.managing().filter(owner__in=[user.pk for user in addressed if user.is_clinic])
    people = [user.pk for user in addressed if not user.is_clinic]
    found = User.objects.filter(Q(pk__in=people) | Q(pk__in=managers.values("delegate")))
    return list((found.exclude(pk=by.pk) if by else found).order_by("pk"))
