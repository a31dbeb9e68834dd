"""Who a record belongs to: the scope every owned queryset goes through, and the columns every record carries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import pgtrigger
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models.expressions import Combinable
from django.db.models.signals import class_prepared
from django.dispatch import receiver

from healthcare.triggers import DatabaseTrigger

CLOCK_TIMESTAMP = models.Func(function="clock_timestamp", output_field=models.DateTimeField())


class Derived(property):
    """What a record answers beyond its columns, in Python and in SQL over those columns alike; `{today}` is the day."""

    def __init__(self, getter: Callable[[Any], Any], sql: str = "") -> None:
        super().__init__(getter)
        self.sql = sql


def derived(sql: str) -> Callable[[Callable[[Any], Any]], Derived]:
    return lambda getter: Derived(getter, sql)


@dataclass(frozen=True)
class RecordOwner:
    """Whose records a request works on: `scope(owner)` takes it like a user.

    `pk` is None for an anonymous caller. `role` is None where the caller is the owner; otherwise it is the role of the
    delegation that lets the caller act for the owner: "read", "write" or "manage".
    """

    pk: int | None
    username: str = ""
    role: str | None = None


# Whose records a scope holds: a user, the owner of the request, or an SQL expression for the id.
Owner: TypeAlias = AbstractBaseUser | AnonymousUser | RecordOwner | Combinable


class RecordQuerySet(models.QuerySet):
    """Rows that are never deleted, only hidden: DELETE sets `ended_column`."""

    ended_column = "deleted_at"

    def active(self) -> Self:
        return self.filter(**{f"{self.ended_column}__isnull": True})

    def hidden(self) -> Self:
        return self.filter(**{f"{self.ended_column}__isnull": False})

    def locked(self) -> Self:
        """Locked until the transaction ends, so that what refers to a row and what hides it wait for each other."""
        return self.select_for_update(of=("self",), no_key=True)

    def end(self, at: Combinable | None = None) -> int:
        """Hide the active rows among these and return how many there were."""
        return self.active().update(**{self.ended_column: at or CLOCK_TIMESTAMP})

    def restore(self) -> int:
        """Bring the hidden rows among these back and return how many there were."""
        return self.hidden().update(**{self.ended_column: None})


class OwnedQuerySet(RecordQuerySet):
    def owned_by(self, owner: Owner) -> Self:
        """The rows that belong to an owner; none for an anonymous one."""
        if isinstance(owner, Combinable):
            return self.filter(created_by_id=owner)
        return self.filter(created_by_id=owner.pk) if owner.pk else self.none()


# A setting remembers the owner of the last row, for the further rows of a transaction.
RECORD_OWNER_WRITE = """
    IF current_setting('replicas.owner_write', true) = concat(current, ' ', {owner}) AND {is_owner_kept} THEN
        RETURN NULL;
    END IF;
    INSERT INTO replicas_ownerwrite (owner, transaction) VALUES ({written}, current) ON CONFLICT DO NOTHING;
    IF NOT {is_owner_kept} THEN
        INSERT INTO replicas_ownerwrite (owner, transaction) VALUES ({before}, current) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM set_config('replicas.owner_write', concat(current, ' ', {owner}), true);
    RETURN NULL;
"""


class VersionTrigger(DatabaseTrigger):
    """Counts `version` up and sets `updated_at` when an UPDATE changes a row, whatever values the UPDATE sets
    them to. The time is the database's clock at that moment, after any wait for a lock, and never goes back. Nobody
    changes a row that a backfill fills."""

    name = "version"
    skips_backfill = True
    when = pgtrigger.Before
    operation = pgtrigger.Update
    condition = pgtrigger.Condition("OLD.* IS DISTINCT FROM NEW.*")
    func = """
    NEW.version := OLD.version + 1;
    NEW.updated_at := greatest(clock_timestamp(), OLD.updated_at);
    RETURN NEW;
"""


class OwnerWriteTrigger(DatabaseTrigger):
    """Adds the transaction that changes a row to those of the row's owner: see `healthcare.replicas`."""

    name = "owner_write"
    when = pgtrigger.After
    operation = pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete
    security_definer = True
    always = True
    declare = [("current", "CONSTANT bigint := pg_current_xact_id()::text::bigint")]

    @classmethod
    def of(cls, model: type[models.Model]) -> Self:
        fields = {"owner": "0", "before": "0", "written": "0", "is_owner_kept": "true"}
        if issubclass(model, OwnedModel):
            own, before = "NEW.created_by_id", "OLD.created_by_id"
            fields = {
                "owner": own,
                "before": before,
                "written": f"coalesce({own}, {before})",
                "is_owner_kept": f"(TG_OP <> 'UPDATE' OR {own} = {before})",
            }
        return cls(func=RECORD_OWNER_WRITE.format(**fields))


class Record(models.Model):
    """A row with a creator, a time of creation and of the last change, and a version. `VersionTrigger` keeps the last
    two; Python code that needs them after an UPDATE reads them back."""

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False, db_index=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    version = models.PositiveIntegerField(default=1, editable=False)

    pinned = False  # whether it may be written only in the version that was read

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.complete()
        super().save(*args, **kwargs)

    def complete(self) -> None:
        """Set what follows from other fields, before the row is written."""

    def row(self) -> RecordQuerySet:
        """Its row, for the one UPDATE that writes it; none when it is pinned and was changed since it was read."""
        rows: RecordQuerySet = type(self)._default_manager.filter(pk=self.pk)  # type: ignore[assignment]
        return rows.filter(version=self.version) if self.pinned else rows


class OwnedModel(Record):
    """A record that belongs to the user in `created_by`. In the API the owner and the owner's delegates see it."""

    objects = OwnedQuerySet.as_manager()

    class Meta:
        abstract = True


@receiver(class_prepared)
def add_triggers(sender: type[models.Model], **_: Any) -> None:
    if issubclass(sender, Record) and not sender._meta.abstract and not sender._meta.proxy:
        VersionTrigger().register(sender)  # type: ignore[arg-type]
        OwnerWriteTrigger.of(sender).register(sender)  # type: ignore[arg-type]
