"""What the primary knows about its replicas. Requests have no rights on these tables."""

from django.db import models


class OwnerWrite(models.Model):
    """A transaction that has changed records of an owner. A trigger adds the row: see `healthcare.ownership`.

    Rows are only added: a row that is changed often has many versions, through which each change would have to walk.
    `tidy` removes old ones.
    """

    pk = models.CompositePrimaryKey("owner", "transaction")
    owner = models.BigIntegerField()  # a user's id; 0 for records that have no owner, such as doctors
    transaction = models.BigIntegerField()  # pg_current_xact_id()

    def __str__(self) -> str:
        return f"{self.transaction} of {self.owner}"


class Source(models.Model):
    """The cluster and the timeline that the primary writes, in the only row.

    A replica has the row of the primary's timeline once it follows that, so one that still follows a former primary is
    not read.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    timeline = models.CharField(max_length=40)  # the system identifier and the timeline

    def __str__(self) -> str:
        return self.timeline
