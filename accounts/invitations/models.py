"""Invitations to register."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.identifiers import ASCII_EMAIL
from healthcare.model_fields import EmailField


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def usable(self) -> Self:
        """Neither used nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), used_at=None)

    def used(self) -> Self:
        return self.exclude(used_at=None)

    def expired(self) -> Self:
        """Those that nobody has used in time."""
        return self.filter(used_at=None, expires_at__lte=Now())


class Invitation(models.Model):
    """The right to register once. What the invited person sends is signed and not stored: see `codes`."""

    # Who may register with it; anyone if it is empty.
    email = EmailField(
        "e-mail",
        max_length=254,
        blank=True,
        validators=[ASCII_EMAIL],
        help_text="Only this e-mail can register with it. Empty: any.",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire.")
    used_at = models.DateTimeField(null=True, editable=False)
    used_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="+"
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"invitation {self.pk}"

    @property
    def state(self) -> str:
        """`used`, `expired` or `usable`."""
        if self.used_at:
            return "used"
        return "expired" if self.expires_at and self.expires_at <= timezone.now() else "usable"
