"""Ending an account by its user: what has to be handed over before, and what ends with it."""

from django.db.models import Q
from rest_framework.exceptions import AuthenticationFailed

from accounts.delegations.models import Delegation
from accounts.delegations.rules import as_table_owner, revoke_delegation
from accounts.leaving.parts import ACCOUNT_PARTS, advice, count_records
from accounts.models import User
from healthcare.api.exceptions import Conflict


class RecordsLeft(Conflict):
    """The user owns records. `records` counts them by kind."""

    def __init__(self, records: dict[str, int]) -> None:
        counted = ", ".join(f"{kind.replace('_', ' ')}: {number}" for kind, number in records.items())
        super().__init__(f"You still own records ({counted}). {advice()}", code="records_left", records=records)


class StaffAccount(Conflict):
    """Members of staff do not end their own account in the admin either: a colleague does it, so a superuser who can
    still log in remains."""

    default_detail = "You are a member of staff; ask a colleague to deactivate your account in the admin."

    def __init__(self) -> None:
        super().__init__(code="staff_account")


def leave_account(user: User) -> None:
    """Deactivate the account of a user who owns no records. All its sessions, tokens and delegations end, offers to it
    are declined, and the other sides get notices. In the caller's transaction.

    Raises RecordsLeft, StaffAccount and, for the last manager of a clinic, Conflict with the code `last_manager` (each
    409), and AuthenticationFailed (401) if the user was deactivated or got another password since it was read.

    The locks are taken in the order in which others take them: delegations, the clinics of those that end, offers, and
    then the user. The row lock of the user (FOR UPDATE) excludes transactions that add records for the user or give
    them to the user: a trigger of the records' table holds FOR KEY SHARE on the active owner until it commits. So the
    count sees what was added before, and what comes after is refused. A delegation or an offer that is added to the
    account at this very moment is no record: it does not work for an inactive user, and an offer lapses.
    """
    with as_table_owner():
        refuse_records(user)  # the usual reason, before anything is locked
        end_delegations(user)
        for part in ACCOUNT_PARTS:
            part.settle(user)
        rows = User.objects.select_for_update().filter(pk=user.pk, password=user.password, is_active=True)
        locked = rows.first()
        if locked is None:
            raise AuthenticationFailed("The session has ended; log in again.")
        if locked.is_staff or locked.is_superuser:
            raise StaffAccount
        refuse_records(locked)
        locked.is_active = False
        locked.save(update_fields=["is_active"])


def refuse_records(user: User) -> None:
    """Raises RecordsLeft (409) if the user owns any."""
    records = count_records(user)
    if records:
        raise RecordsLeft(records)


def end_delegations(user: User) -> None:
    """Revoke the living delegations that the user has given and received. The other side of each gets a notice."""
    living = Delegation.objects.living().filter(Q(owner=user) | Q(delegate=user)).order_by("pk")
    for delegation in list(living.select_for_update(no_key=True, of=("self",))):
        revoke_delegation(delegation, by=user)
