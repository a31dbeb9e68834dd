"""One import of a kind at a time for each owner, so that two of the same file do not create everything twice."""

from django.db import connection

from healthcare.api.exceptions import Conflict


def take_import_lock(kind: str, owner_id: int) -> None:
    """Take the advisory lock until the transaction ends. Raises Conflict (409) while another import has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('imports.' || %s, %s))", [kind, owner_id])
        if not cursor.fetchone()[0]:
            raise Conflict("Another import of these records is running; repeat this one later.", code="import_running")
