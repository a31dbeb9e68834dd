"""The id by which a server marks the records that it exports."""

from django.db import models


class ServerIdQuerySet(models.QuerySet["ServerId"]):
    def own(self) -> str:
        """The id of this server, a UUID as text."""
        value: str = self.values_list("value", flat=True).get()
        return value


class ServerId(models.Model):
    """A random id that the first migration of a database gives to its server. One row.

    An import compares it: the ids of records in a file are this server's own, or those of another one.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.CharField(max_length=36)

    objects = ServerIdQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_server_id")]

    def __str__(self) -> str:
        return self.value
