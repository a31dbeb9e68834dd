"""Users and their login sessions."""

from datetime import timedelta
from typing import Any, ClassVar, Self
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.identifiers import ASCII_EMAIL, USERNAME, normalize
from healthcare.model_fields import NameField

models.CharField.register_lookup(Lower)


class UserQuerySet(models.QuerySet["User"]):
    def update(self, **values: Any) -> int:
        """Updates. Setting passwords or deactivating ends the sessions of these users, as `User.save` does."""
        if "password" not in values and values.get("is_active", True) is True:
            return super().update(**values)
        with transaction.atomic():
            users = User.objects.get_queryset().filter(pk__in=[*self.values_list("pk", flat=True)])
            changed = models.QuerySet.update(users, **values)
            LoginSession.objects.filter(user__in=users).revoke()
        return changed

    def unchanged(self, user: "User") -> Self:
        """This user, locked, unless deactivated or given another password since it was read."""
        return self.select_for_update(no_key=True).filter(pk=user.pk, password=user.password, is_active=True)


class UserManager(BaseUserManager["User"]):
    def get_queryset(self) -> UserQuerySet:
        return UserQuerySet(self.model, using=self._db)

    def named(self, identifier: str) -> "User | None":
        """The user with this username or e-mail. At most one: a username with an @ is its owner's e-mail."""
        name = normalize(identifier)
        return self.filter(Q(username__lower=name) | Q(email__lower=name)).first()

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(username__lower=normalize(username or ""))

    def create_user(self, username: str, email: str, password: str | None, **fields: Any) -> "User":
        user = self.model(username=self.model.normalize_username(username), email=email, **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, username: str, email: str, password: str | None, **fields: Any) -> "User":
        """A member of staff who may do everything in the admin. ValidationError when the name or e-mail is taken."""
        user = self.model(username=username, email=email, is_staff=True, is_superuser=True, **fields)
        user.set_password(password)
        user.full_clean()
        user.save()
        return user


class User(AbstractBaseUser, PermissionsMixin):
    name = NameField()
    email = models.EmailField(max_length=254, validators=[ASCII_EMAIL])
    username = models.CharField(max_length=254, validators=[USERNAME])
    is_active = models.BooleanField("active", default=True, help_text="Unticking ends every session at once.")
    is_staff = models.BooleanField("staff", default=False, help_text="May log in to the admin.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()
    _password: str | None

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email", "name"]

    class Meta:
        ordering = ["-id"]
        constraints = [
            # First, so that of a taken e-mail that is the username too the e-mail is named.
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_unique",
                violation_error_message="A user with this e-mail already exists.",
            ),
            models.UniqueConstraint(
                Lower("username"),
                name="user_username_unique",
                violation_error_message="A user with this username already exists.",
            ),
            # Else one could take another's e-mail as a username and stand in the way of their login.
            models.CheckConstraint(
                condition=~Q(username__contains="@") | Q(username=F("email")),
                name="user_username_is_own_email",
                violation_error_message="A username with an @ must be the user's own e-mail.",
            ),
        ]

    def __str__(self) -> str:
        return self.username

    def save(self, *args: Any, keep: "LoginSession | None" = None, **kwargs: Any) -> None:
        """Saves. A new password ends every session but the one to keep, whoever set it: the API, the admin, a command.
        So does taking the password away, and deactivation, for good."""
        ends = self.pk and (self._password is not None or not self.has_usable_password() or not self.is_active)
        with transaction.atomic():
            super().save(*args, **kwargs)
            if ends:
                self.sessions.exclude(pk=keep.pk if keep else 0).revoke()


class LoginSessionQuerySet(models.QuerySet["LoginSession"]):
    def live(self) -> Self:
        return self.filter(revoked_at=None, expires_at__gt=timezone.now())

    def revoke(self) -> int:
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())

    def start(self, user: User, user_agent: str, address: str | None) -> "LoginSession":
        now = timezone.now()
        return self.create(
            user=user,
            token_id=uuid4().hex,
            user_agent=user_agent[:200],
            address=address,
            last_used_at=now,
            expires_at=now + settings.SESSION_LIFETIME,
        )


class LoginSession(models.Model):
    """One login on one device. Its refresh token rotates: only the id (`jti`) of the current one is kept, no token."""

    GRACE = timedelta(seconds=10)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    token_id = models.CharField(max_length=32, editable=False)
    previous_token_id = models.CharField(max_length=32, blank=True, editable=False)
    user_agent = models.CharField(max_length=200, blank=True)
    address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = LoginSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"session {self.pk}"

    def rotate(self, token_id: str) -> str | None:
        """Exchange the refresh token with this id for the id of the next one; None when it is not the current one.

        One UPDATE decides, so of many at once one wins. A token that was used before means that somebody else holds
        it: the session is revoked, unless it is the previous one within the grace (a client that retried).
        """
        now, new = timezone.now(), uuid4().hex
        # No join: that would move every condition into a subquery, which an UPDATE that waited does not check again.
        sessions = LoginSession.objects.live().filter(pk=self.pk, user__in=User.objects.filter(is_active=True))
        if sessions.filter(token_id=token_id).update(token_id=new, previous_token_id=token_id, last_used_at=now):
            return new
        retried = Q(previous_token_id=token_id, last_used_at__gt=now - self.GRACE)
        sessions.exclude(retried).revoke()
        return None


class Attempts(models.Model):
    """Counts what is limited, by a hash of whom it counts: an account or an address. See `limits`."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField()
    until = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "attempts"

    def __str__(self) -> str:
        return self.key
