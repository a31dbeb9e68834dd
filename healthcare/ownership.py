"""Who a record belongs to: the scope every owned queryset goes through, and the columns every record carries."""

from typing import Self

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import F
from django.db.models.expressions import Combinable
from django.utils import timezone


class RecordQuerySet(models.QuerySet):
    """Rows that are never deleted, only hidden: DELETE sets `ended_column`."""

    ended_column = "deleted_at"

    def active(self) -> Self:
        return self.filter(**{f"{self.ended_column}__isnull": True})

    def locked(self) -> Self:
        """Locked until the transaction ends, so that what refers to a row and what hides it wait for each other."""
        return self.select_for_update(of=("self",), no_key=True)

    def end(self, at: Combinable | None = None) -> int:
        """Hide the active rows among these and return how many there were."""
        now = timezone.now()
        return self.active().update(**{self.ended_column: at or now, "updated_at": now, "version": F("version") + 1})


class OwnedQuerySet(RecordQuerySet):
    def owned_by(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """The rows this user created; none for an anonymous one."""
        return self.filter(created_by_id=user.pk) if user.pk else self.none()


class Record(models.Model):
    """A row with a creator, a time of creation and of the last change, and a version that every change counts up."""

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False, db_index=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        abstract = True


class OwnedModel(Record):
    """A record that nobody but its creator sees."""

    objects = OwnedQuerySet.as_manager()

    class Meta:
        abstract = True
