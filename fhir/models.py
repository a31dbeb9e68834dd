"""Exports of Bulk Data: see `fhir.bulk`. The records that /fhir answers are those of the other apps."""

import datetime
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import connection, models
from django.db.models.functions import Now
from django.http import QueryDict

from healthcare.operations.tidying import ExpiringRows
from healthcare.ownership import OwnedQuerySet, RecordOwner

# Those that write, of this database: a transaction elsewhere changes nothing here. Every role sees these columns.
RUNNING_TRANSACTIONS = "SELECT backend_xid::text FROM pg_stat_activity WHERE datname = current_database()"
OTHER_TRANSACTIONS = models.Func(
    template=f"ARRAY({RUNNING_TRANSACTIONS} AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL)",
    output_field=ArrayField(models.TextField()),
)


class BulkExportQuerySet(OwnedQuerySet):
    def living(self) -> Self:
        return self.filter(created_at__gt=Now() - BulkExport.LIFETIME)

    def visible_to(self, caller: Any, owner: RecordOwner) -> Self:
        """The living exports that this user has begun while acting for this owner."""
        return self.living().owned_by(owner).filter(caller=caller.pk)

    def start(self, caller: Any, owner: RecordOwner, parameters: dict[str, list[str]]) -> "BulkExport":
        """Begin an export of this moment. Of the caller's exports for this owner the newest BulkExport.MOST stay."""
        # `Now` is the beginning of the statement: a change of this time or an earlier one is of a transaction that has
        # ended, or that the statement sees running.
        begun: Any = self.create(
            caller_id=caller.pk,
            created_by_id=owner.pk,
            created_at=Now(),
            unfinished=OTHER_TRANSACTIONS,
            parameters=parameters,
        )
        earlier = self.visible_to(caller, owner).order_by("-pk").values_list("pk", flat=True)
        self.filter(pk__in=[*earlier[BulkExport.MOST :]]).delete()
        return begun  # type: ignore[no-any-return]


class BulkExport(models.Model):
    """What a kick-off has asked for. It holds no resource: a file is made from the history when it is fetched.

    The history of `created_at` is whole all the time that the export lives: only months that ended a day ago are
    archived.
    """

    LIFETIME = datetime.timedelta(hours=24)
    MOST = 10

    caller = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", editable=False, help_text="Whose records."
    )
    created_at = models.DateTimeField(help_text="The moment whose records are exported.")
    unfinished = ArrayField(
        models.TextField(), default=list, help_text="The ids of the transactions that were writing at this moment."
    )
    parameters = models.JSONField(default=dict, help_text="Those of the URL, by name, each a list.")

    objects = BulkExportQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"bulk export {self.pk}"

    @property
    def expires_at(self) -> datetime.datetime:
        return self.created_at + self.LIFETIME

    @property
    def query(self) -> QueryDict:
        """The parameters as a request has them."""
        query = QueryDict(mutable=True)
        for name, values in self.parameters.items():
            query.setlist(name, values)
        return query

    def is_settled(self) -> bool:
        """Whether every change until its moment has been committed or undone: transactions do not end in the order of
        the times that their changes carry."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT NOT EXISTS ({RUNNING_TRANSACTIONS} AND backend_xid::text = ANY(%s))", [self.unfinished]
            )
            settled: bool = cursor.fetchone()[0]
        return settled


EXPIRED_EXPORTS = ExpiringRows(
    "bulk exports", BulkExport, lambda: models.Q(created_at__lte=Now() - BulkExport.LIFETIME)
)
