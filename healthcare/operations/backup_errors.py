"""What goes wrong with a backup or a restore, in one sentence for the operator."""

from django.db import Error

# Classes of SQLSTATE whose messages quote data: data exceptions and violated constraints.
QUOTES_DATA = ("22", "23")


class BackupError(Exception):
    """The text is one sentence and holds no data."""


def describe_database_error(error: Error) -> str:
    """The error without what it may quote of the data."""
    cause = error.__cause__
    diagnosis = getattr(cause, "diag", None)
    code = getattr(cause, "pgcode", None) or ""
    if diagnosis is None or not code:
        return str(error).strip().partition("\n")[0]  # of the connection
    if code.startswith(QUOTES_DATA):
        place = ".".join(filter(None, [diagnosis.table_name, diagnosis.constraint_name or diagnosis.column_name]))
        return f"SQLSTATE {code}" + (f" in {place}" if place else "")
    return str(diagnosis.message_primary)
