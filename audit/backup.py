"""What the audit adds to backup and restore: the seals are verified before the restored data counts."""

from typing import Any

from django.conf import settings
from django.db import connection

from audit.models import Seal
from audit.seals import TamperingError, seals
from audit.tables import sealed_tables
from audit.verification import Verifier
from healthcare.operations.backup_errors import BackupError
from healthcare.operations.backup_parts import BackupPart, RestoreOptions
from healthcare.operations.progress import at_intervals


class SealsPart(BackupPart):
    name = "seals"

    def describe(self) -> Any:
        """The number of the seals and the last one, as `seal_audit` prints it."""
        last = Seal.objects.order_by("-id").first()
        return {"count": Seal.objects.count(), "last": str(last) if last else None}

    def check(self, described: Any) -> None:
        if described["count"] and not settings.AUDIT_SEAL_KEY:
            raise BackupError(
                "The backup has seals and AUDIT_SEAL_KEY is not set; set the key of the installation that wrote it."
            )

    def finish(self, described: Any, options: RestoreOptions) -> str:
        if not described["count"]:
            return "The backup has no seals."
        existing = connection.introspection.table_names()  # an older release has fewer
        tables = [table for table in sealed_tables() if table.name in existing]
        found, report_progress = False, at_intervals(options.report)
        try:
            verifier = Verifier(settings.AUDIT_SEAL_KEY.encode(), tables)
            for seal in seals():
                verifier.verify(seal)
                found = found or str(seal) == described["last"]
                report_progress(f"{verifier.verified_rows:,} sealed rows verified…")
            verifier.check_end(None if found else described["last"])
            unsealed = verifier.check_unsealed()
        except TamperingError as error:
            raise BackupError(f"The seals do not hold, or AUDIT_SEAL_KEY is not their key: {error}") from error
        return f"{verifier.verified_rows:,} sealed rows are unaltered; {unsealed:,} rows are not sealed yet."
