"""Rows that are of no use any more after a time, and how `manage.py tidy` removes them.

An app declares its own ones where it is set up (`AppConfig.ready`). A row may be removed only when its absence changes
no answer that the API promises.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import CompositePrimaryKey, Model, Q, QuerySet

ROWS_PER_TRANSACTION = 1000


@dataclass(frozen=True)
class ExpiringRows:
    """Rows of a model that are removed once `condition` holds, a Q that is asked for at each run. `name` is what
    `tidy` calls them."""

    name: str
    model: type[Model]
    condition: Callable[[], Q]

    def expired(self) -> QuerySet[Any]:
        return self.model._base_manager.filter(self.condition()).order_by("pk")

    def remove(self) -> Iterator[int]:
        """Remove the expired rows in short transactions, and yield the number of each.

        A row that another transaction has locked, such as a second run, is skipped, so nothing waits. A row that is
        used again until it is locked is not expired any more and stays.
        """
        expired, last = self.expired(), None
        # Django names no table where the primary key has several columns.
        of = () if isinstance(self.model._meta.pk, CompositePrimaryKey) else ("self",)
        while True:
            rest = expired if last is None else expired.filter(pk__gt=last)
            with transaction.atomic():
                rows = rest.select_for_update(skip_locked=True, of=of)[:ROWS_PER_TRANSACTION]
                keys = list(rows.values_list("pk", flat=True))
                self.model._base_manager.filter(pk__in=keys).delete()
            if not keys:
                return
            yield len(keys)
            last = keys[-1]


REGISTERED: list[ExpiringRows] = []


def register_expiring_rows(*expiring: ExpiringRows) -> None:
    REGISTERED.extend(expiring)
