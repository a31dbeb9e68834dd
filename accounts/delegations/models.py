"""Delegations, by which one user may act for another owner, and notices."""

from collections.abc import Collection
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now
from django.utils import timezone

from accounts.delegations import triggers  # noqa: F401  (declares the trigger of the table)
from accounts.delegations.named_users import NamedUser
from audit.history import track_history
from healthcare.api.acting_for import as_id
from healthcare.model_fields import LineField
from healthcare.ownership import RecordOwner


class DelegateRole(models.TextChoices):
    """What a delegate may do with the owner's records. Each role includes the ones before it."""

    READ = "read", "see everything, change nothing"
    WRITE = "write", "also create, change, and end assignments"
    MANAGE = "manage", "also delete, restore, merge, transfer, import, and manage delegations"


class DelegationQuerySet(models.QuerySet["Delegation"]):
    def living(self) -> Self:
        """Those that have neither been revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def past(self) -> Self:
        return self.filter(Q(revoked_at__isnull=False) | Q(expires_at__lte=Now()))

    def working(self) -> Self:
        """The living ones of an active owner and an active delegate, which `accounts.authentication` accepts."""
        return self.living().filter(owner__is_active=True, delegate__is_active=True)

    def of_owner(self, name: str) -> Self:
        """Those of the owner whom `name` gives by id, in digits, or by username, in lower case."""
        key = as_id(name)
        return self.filter(owner__username__lower=name) if key is None else self.filter(owner_id=key)

    def visible_to(self, caller: Any, owner: RecordOwner) -> Self:
        """Those of the owner whom a request acts for; without one those that the caller has given or received."""
        given = Q(owner=owner.pk)
        return self.filter(given if owner.role else given | Q(delegate=caller.pk))

    def end_expired(self) -> int:
        """Set `revoked_at` of the expired ones among these, so that the same two can have a living one again."""
        return self.filter(revoked_at=None, expires_at__lte=Now()).update(revoked_at=F("expires_at"))

    def with_names(self) -> Self:
        """Each with `owner_named` and `delegate_named`: see `NamedUser`."""
        return self.annotate(owner_named=NamedUser("owner_id"), delegate_named=NamedUser("delegate_id"))

    def managing(self) -> Self:
        """The working ones with the role `manage`."""
        return self.working().filter(role=DelegateRole.MANAGE)

    def permanent_managers(self) -> Self:
        """Those of active delegates with the role `manage` and no end, of which a clinic needs one: see `triggers`."""
        return self.filter(role=DelegateRole.MANAGE, expires_at=None, revoked_at=None, delegate__is_active=True)

    def needed_by_clinics(self, users: Collection[int]) -> Self:
        """Those of these users that a clinic needs: if all of these users left, it would have no permanent manager."""
        managers = self.permanent_managers().filter(owner__is_clinic=True)
        others = managers.exclude(delegate__in=users)
        return managers.filter(delegate__in=users).exclude(owner__in=others.values("owner"))

    def last_of_clinics(self, delegations: Collection[int]) -> Self:
        """Those of these delegations that a clinic needs: if all of these ended, it would have no permanent manager."""
        managers = self.permanent_managers().filter(owner__is_clinic=True)
        others = managers.exclude(pk__in=delegations)
        return managers.filter(pk__in=delegations).exclude(owner__in=others.values("owner"))


class Delegation(models.Model):
    """An owner lets a delegate act for them, in a role, until it is revoked or expires."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="delegations_given", db_index=False
    )
    delegate = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="delegations_received", db_index=False
    )
    role = models.CharField(max_length=10, choices=DelegateRole.choices)
    note = LineField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = DelegationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "-id"], name="delegation_given"),
            models.Index(fields=["delegate", "-id"], name="delegation_received"),
        ]
        constraints = [
            # The authentication of delegates uses its index. An expired delegation is revoked before another is given.
            models.UniqueConstraint(
                fields=["owner", "delegate"],
                condition=Q(revoked_at=None),
                name="delegation_once",
                violation_error_message="This user is a delegate already; change that delegation.",
            ),
            models.CheckConstraint(condition=Q(role__in=DelegateRole.values), name="delegation_role_known"),
            models.CheckConstraint(
                condition=~Q(owner=F("delegate")),
                name="delegation_to_another",
                violation_error_message="A user needs no delegation for their own records.",
            ),
        ]

    def __str__(self) -> str:
        return f"delegation {self.pk}"

    @property
    def is_living(self) -> bool:
        """Whether it has neither been revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


DelegationEvent = track_history(Delegation)


class NoticeQuerySet(models.QuerySet["Notice"]):
    def naming(self, user_id: int) -> Self:
        """Those that name this user in `about`, where users are `{"id", "username", "name"}`."""
        path = Value("$.** ? (@.id == $user && exists(@.username))")
        variables = Value({"user": user_id}, models.JSONField())
        names = Func(F("about"), path, variables, function="jsonb_path_exists", output_field=models.BooleanField())
        return self.filter(names)

    def unread(self) -> Self:
        return self.filter(read_at=None)

    def received_by(self, user: Any) -> Self:
        return self.filter(user=user.pk)


class Notice(models.Model):
    """A message to a user about what others have done with a delegation or a transfer; listed until it is read."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=30, help_text="Such as delegation_given or transfer_offered.")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+", db_index=False
    )
    about = models.JSONField(help_text="What it is about: the delegation or the transfer, without data of patients.")
    read_at = models.DateTimeField(null=True, blank=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["user", "-id"], condition=Q(read_at=None), name="notice_unread")]

    def __str__(self) -> str:
        return f"notice {self.pk}"
