"""What the direct way keeps in the database."""

from django.db import models


class TableVersion(models.Model):
    """The version of a table: each transaction that changes a row gives it a new one as it commits (see
    `TableVersionTrigger`). Random, because a counter would repeat values after a restore from a backup."""

    table = models.CharField(max_length=63, primary_key=True)
    version = models.UUIDField()

    def __str__(self) -> str:
        return self.table
