"""What replicas add to a restore: the numbers of transactions in a backup are those of another cluster."""

from typing import Any

from django.db import connection

from healthcare.operations.backup_parts import BackupPart, RestoreOptions
from healthcare.replicas.models import OwnerWrite
from healthcare.replicas.position import DIRECTORY

# The restore changes the records of every owner, and each verdict considers those of nobody.
RECORD_RESTORE = "INSERT INTO replicas_ownerwrite (owner, transaction) VALUES (%s, pg_current_xact_id()::text::bigint)"


class OwnerWritesPart(BackupPart):
    name = "owner_writes"

    def finish(self, described: Any, options: RestoreOptions) -> str:
        OwnerWrite.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute(RECORD_RESTORE, [DIRECTORY])
        return ""
