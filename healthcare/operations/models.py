"""What operating the database leaves in it."""

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class BackupQuerySet(models.QuerySet["Backup"]):
    def age(self) -> float | None:
        """Seconds since the data of the newest backup was read; None without a backup."""
        newest = self.aggregate(newest=models.Max("taken_at"))["newest"]
        return None if newest is None else (timezone.now() - newest).total_seconds()


class Backup(models.Model):
    """A backup that `manage.py backup` has finished. A restore adds none."""

    # The time of its snapshot: what was written later is not in the file.
    taken_at = models.DateTimeField(db_index=True)
    finished_at = models.DateTimeField(db_default=Now())
    size = models.BigIntegerField(help_text="Bytes of the file.")
    encrypted = models.BooleanField()

    objects = BackupQuerySet.as_manager()

    class Meta:
        ordering = ["-taken_at", "-id"]

    def __str__(self) -> str:
        return f"backup of {self.taken_at:%Y-%m-%d %H:%M}"
