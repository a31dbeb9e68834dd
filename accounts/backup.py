"""What accounts add to a restore: the login sessions in the backup end."""

from typing import Any

from django.contrib.sessions.models import Session

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
