"""What apps add to backup and restore. An app registers a `BackupPart` when it is ready."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RestoreOptions:
    keep_sessions: bool
    report: Callable[[str], None]  # for progress


class BackupPart:
    """Override what the app needs. `described` is what `describe` returned for the backup that is being restored."""

    name: str

    def describe(self) -> Any:
        """Of the data in the backup, as JSON. Runs in the backup's snapshot."""
        return None

    def check(self, described: Any) -> None:
        """Raise BackupError if this installation cannot restore the backup. Runs before anything is written."""

    def finish(self, described: Any, options: RestoreOptions) -> str:
        """Complete the restored data, or raise BackupError; then the database stays empty. Runs in the transaction of
        the restore. Returns what was done, for the operator."""
        return ""


BACKUP_PARTS: dict[str, BackupPart] = {}


def register_part(part: BackupPart) -> None:
    BACKUP_PARTS[part.name] = part
