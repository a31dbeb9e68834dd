"""What the direct way keeps in the database."""

from django.db import models


class TableVersion(models.Model):
    """Names the state of a whole table: another one as soon as a change of it is committed. Kept by a trigger, see
    `KeepVersion`. Random, since a count would come again after a restore from a backup."""

    table = models.CharField(max_length=63, primary_key=True)
    version = models.UUIDField()

    def __str__(self) -> str:
        return self.table
