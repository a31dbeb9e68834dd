"""What accounts add to a restore: the login sessions and tokens in the backup end, and what lives again is counted."""

from typing import Any

from django.contrib.sessions.models import Session

from accounts.delegations.models import Delegation
from accounts.invitations.models import Invitation
from accounts.models import LoginSession
from healthcare.operations.backup_parts import BackupPart, RestoreOptions


class LoginSessionsPart(BackupPart):
    """A session that was ended after the backup is live in it, so by default all end."""

    name = "sessions"

    def finish(self, described: Any, options: RestoreOptions) -> str:
        if options.keep_sessions:
            return "Login sessions go on as they were at the time of the backup."
        ended = LoginSession.objects.revoke()
        of_the_admin, _ = Session.objects.all().delete()
        return f"{ended:,} login sessions and {of_the_admin:,} sessions of the admin ended."


class InvitationsPart(BackupPart):
    """An invitation that was withdrawn or used after the backup is usable in it. None is withdrawn here:
    a person who has registered since the backup needs theirs again."""

    name = "invitations"

    def describe(self) -> int:
        return Invitation.objects.usable().count()

    def finish(self, described: int | None, options: RestoreOptions) -> str:
        """`described` is None for a backup of a release without invitations."""
        if not described:
            return ""
        return (
            f"Invitations that could be used at the time of the backup: {described:,}. Delete in the admin those that "
            "were withdrawn since."
        )


class DelegationsPart(BackupPart):
    """A delegation that was ended after the backup lives in it. None ends here: a clinic would have no manager."""

    name = "delegations"

    def describe(self) -> int:
        return Delegation.objects.living().count()

    def finish(self, described: int | None, options: RestoreOptions) -> str:
        """`described` is None for a backup of a release without delegations."""
        if not described:
            return ""
        return f"Delegations work as at the time of the backup: {described:,}. End in the admin what was ended since."
