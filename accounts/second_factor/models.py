"""The second factor of a user."""

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone


class SecondFactorQuerySet(models.QuerySet["SecondFactor"]):
    def confirmed(self) -> Self:
        """Those that logins ask for: their owners have sent a code."""
        return self.exclude(confirmed_at=None)


class SecondFactor(models.Model):
    """The secret from which a user's authenticator app derives a code every 30 seconds (TOTP, RFC 6238)."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="second_factor"
    )
    encrypted_secret = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)
    confirmed_at = models.DateTimeField(null=True)
    # The time step of the last accepted code: no code of this step or an earlier one is accepted again.
    last_step = models.BigIntegerField(null=True)

    objects = SecondFactorQuerySet.as_manager()

    def __str__(self) -> str:
        return f"second factor of user {self.pk}"


def confirmed_factor(user: Any) -> SecondFactor | None:
    """The user's factor if it is confirmed. It is read with the user where that is who logs in, or has the session."""
    factor: SecondFactor | None = getattr(user, "second_factor", None)
    return factor if factor and factor.confirmed_at else None


class RecoveryCode(models.Model):
    """A code that works once instead of one of the app; its row is deleted when it is used."""

    factor = models.ForeignKey(SecondFactor, on_delete=models.CASCADE, related_name="recovery_codes", db_index=False)
    digest = models.CharField(max_length=64)  # SHA-256, in hex: see `codes.hash_recovery_code`

    class Meta:
        constraints = [models.UniqueConstraint(fields=["factor", "digest"], name="recovery_code_unique")]

    def __str__(self) -> str:
        return f"recovery code {self.pk}"
