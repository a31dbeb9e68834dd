"""The versions of the tables whose public answers are cached."""

from django.db import models


class TableVersion(models.Model):
    """The version of a table. Transactions that change rows set a new one when they commit, see `TableVersionTrigger`.

    It is random, because a counter would repeat values after a restore from a backup.
    """

    table = models.CharField(max_length=63, primary_key=True)
    version = models.UUIDField()

    def __str__(self) -> str:
        return self.table
