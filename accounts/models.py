"""Users and their login sessions."""

from typing import Any, ClassVar, Self
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.indexes import OpClass
from django.db import connection, connections, models, transaction
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Lower, Now
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from accounts.admin_sessions import end_admin_sessions
from accounts.delegations.models import Delegation  # registers the models of the subpackage, too, as the next ones do
from accounts.delegations.triggers import managers_checked_at_end
from accounts.identifiers import ASCII_EMAIL, NOT_RESERVED, USERNAME, normalize_identifier
from accounts.invitations.models import Invitation  # noqa: F401
from accounts.login_session_sql import REPLAY_GRACE, ROTATE
from accounts.passwords import prepare_password, spellings
from accounts.second_factor.models import SecondFactor, confirmed_factor
from healthcare.api.triggers import ExpiredRecordsTrigger
from healthcare.model_fields import EmailField, LineField, NameField

models.CharField.register_lookup(Lower)


class UserQuerySet(models.QuerySet["User"]):
    def update(self, **values: Any) -> int:
        """Update, and like `User.save` end the sessions of users who get a password or are deactivated."""
        if "password" not in values and values.get("is_active", True) is True:
            return super().update(**values)
        with transaction.atomic():
            users = User.objects.get_queryset().filter(pk__in=[*self.values_list("pk", flat=True)])
            changed = models.QuerySet.update(users, **values)
            LoginSession.objects.filter(user__in=users).revoke()
            if values.get("is_active", True) is not True:
                end_admin_sessions(users.values_list("pk", flat=True))
        return changed

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic(), managers_checked_at_end():
            return super().delete()

    def clinics_of(self, delegate: "User") -> Self:
        """The clinics that a user may act for."""
        owners = Delegation.objects.living().filter(delegate=delegate).values("owner")
        return self.filter(is_clinic=True, is_active=True, pk__in=owners)

    def may_own_records(self) -> Self:
        """The users who can be chosen as the owner of a record: who works with the records through the API."""
        return self.filter(is_active=True, is_staff=False, is_superuser=False)

    def may_be_delegates(self) -> Self:
        """The users to whom a delegation can be given: nobody logs in to a clinic."""
        return self.filter(is_active=True, is_clinic=False)

    def lock_if_unchanged(self, user: "User") -> Self:
        """This user's row, locked; empty when the user was deactivated or got another password since it was read."""
        return self.select_for_update(no_key=True).filter(pk=user.pk, password=user.password, is_active=True)


class UserManager(BaseUserManager["User"]):
    def get_queryset(self) -> UserQuerySet:
        return UserQuerySet(self.model, using=self._db)

    def find_by_identifier(self, identifier: str) -> "User | None":
        """The user with this username or e-mail. At most one: a username with an @ is its owner's e-mail."""
        return self.with_identifier(identifier).first()

    def find_with_factor(self, identifier: str) -> "User | None":
        """The same, read together with the second factor."""
        return self.with_identifier(identifier).select_related("second_factor").first()

    def with_identifier(self, identifier: str) -> UserQuerySet:
        name = normalize_identifier(identifier)
        return self.get_queryset().filter(Q(username__lower=name) | Q(email__lower=name))

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(username__lower=normalize_identifier(username or ""))

    def create_user(self, username: str, email: str, password: str | None, **fields: Any) -> "User":
        user = self.model(username=self.model.normalize_username(username), email=email, **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, username: str, email: str, password: str | None, **fields: Any) -> "User":
        """Create a superuser. Raises ValidationError when the username or the e-mail is taken or not valid."""
        user = self.model(username=username, email=email, is_staff=True, is_superuser=True, **fields)
        user.set_password(password)
        user.full_clean()
        user.save()
        return user


class User(AbstractBaseUser, PermissionsMixin):
    name = NameField()
    email = EmailField(max_length=254, null=True, validators=[ASCII_EMAIL])  # null for a clinic alone
    # The e-mail whose owner has opened a link that was sent to it: while it is `email`, that one is verified.
    verified_email = EmailField(max_length=254, null=True, editable=False)
    # The e-mail that becomes `email` once its owner opens the link that was sent to it.
    pending_email = EmailField(max_length=254, null=True, editable=False, validators=[ASCII_EMAIL])
    username = models.CharField(max_length=254, validators=[USERNAME, NOT_RESERVED])
    is_active = models.BooleanField("active", default=True, help_text="Unticking ends every session at once.")
    is_staff = models.BooleanField("staff", default=False, help_text="May log in to the admin.")
    is_clinic = models.BooleanField(
        "clinic", default=False, db_default=False, editable=False,
        help_text="Owns records, and nobody logs in to it: delegates act for it.",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()
    _password: str | None

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email", "name"]

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("deactivate_user", "Can deactivate user"),
            ("set_credentials_user", "Can set username, e-mail and password of user"),
            ("hand_over_user", "Can hand over everything that a user owns"),
            ("reset_second_factor_user", "Can remove the second factor of user"),
        ]
        indexes = [
            # The list of the admin: the few inactive and staff users, the clinics, users by time, and their search.
            models.Index(fields=["-id"], condition=Q(is_active=False), name="user_inactive"),
            models.Index(fields=["-id"], condition=Q(is_staff=True), name="user_staff"),
            models.Index(fields=["-id"], condition=Q(is_clinic=True), name="user_clinic"),
            models.Index(fields=["created_at", "id"], name="user_by_start"),
            *(
                models.Index(OpClass(Lower(column), "text_pattern_ops"), name=f"user_prefix_{column}")
                for column in ("username", "email", "name")
            ),
        ]
        constraints = [
            # The admin's forms check them in this order, each in a query of its own. A user who is added between two
            # queries is found by the last one, so an error about the e-mail is always among the errors. The migration
            # creates the index of the e-mail first, so PostgreSQL names that one, too.
            models.UniqueConstraint(
                Lower("username"),
                name="user_username_unique",
                violation_error_message="A user with this username already exists.",
            ),
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_unique",
                violation_error_message="A user with this e-mail already exists.",
            ),
            # Otherwise a user could take another user's e-mail as a username and block their login.
            models.CheckConstraint(
                condition=~Q(username__contains="@") | Q(username=F("email")),
                name="user_username_is_own_email",
                violation_error_message="A username with an @ must be the user's own e-mail.",
            ),
            models.CheckConstraint(
                condition=Q(is_clinic=True, email=None) | Q(is_clinic=False, email__isnull=False),
                name="user_clinic_has_no_email",
                violation_error_message="A clinic has no e-mail, and any other user has one.",
            ),
            # A password that nobody can use begins with an exclamation mark.
            models.CheckConstraint(
                condition=Q(is_clinic=False)
                | (Q(password__startswith="!", is_staff=False, is_superuser=False) & ~Q(username__contains="@")),  # noqa: S106
                name="user_clinic_cannot_log_in",
                violation_error_message="A clinic has no password, no rights in the admin, and no @ in its username: "
                "nobody logs in to it.",
            ),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def has_verified_email(self) -> bool:
        """Whether the owner of the e-mail has opened a link that was sent to it."""
        return self.email is not None and self.verified_email == self.email

    def set_password(self, raw_password: str | None) -> None:
        super().set_password(None if raw_password is None else prepare_password(raw_password))

    def check_password(self, raw_password: str | None) -> bool:
        """Whether this is the password, in the form it is prepared in or as it was typed before passwords were."""
        return raw_password is not None and any(
            super(User, self).check_password(spelling) for spelling in spellings(raw_password)
        )

    def save(
        self, *args: Any, keep_session: "LoginSession | None" = None, keep_tokens: bool = False, **kwargs: Any
    ) -> None:
        """Save. A new password, no password and deactivation revoke every session but `keep_session`, whether the API,
        the admin or a command saves; with `keep_tokens` the personal access tokens stay. Deactivation ends those of the
        admin too; another password ends them anyway."""
        revokes = self.pk and (self._password is not None or not self.has_usable_password() or not self.is_active)
        with transaction.atomic():
            super().save(*args, **kwargs)
            if revokes:
                revoked = self.sessions.exclude(pk=keep_session.pk if keep_session else 0)
                (revoked.exclude(kind=LoginSession.Kind.TOKEN) if keep_tokens else revoked).revoke()
            if self.pk and not self.is_active:
                end_admin_sessions([self.pk])

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(), managers_checked_at_end():
            return super().delete(*args, **kwargs)


class LoginSessionQuerySet(models.QuerySet["LoginSession"]):
    def live(self) -> Self:
        """Sessions that authenticate: not revoked or expired, of an active user, and unless they are tokens not idle
        for too long. See LIVE_SESSION_SQL."""
        active = User.objects.filter(is_active=True)
        used = Q(kind=LoginSession.Kind.TOKEN) | Q(last_used_at__gt=Now() - settings.SESSION_IDLE_TIME)
        return self.filter(used, revoked_at=None, expires_at__gt=Now(), user__in=active)

    def tokens(self) -> Self:
        """The personal access tokens."""
        return self.filter(kind=LoginSession.Kind.TOKEN)

    def revoke(self) -> int:
        """Revoke those that are not revoked yet; returns how many."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())

    def start(self, user: User, user_agent: str, address: str | None, acting_for: int | None = None) -> "LoginSession":
        """Start a session without looking at the user's password."""
        session = self.model.new(user, user_agent, address, acting_for)
        session.save(force_insert=True, using=self.db)
        return session

    def start_if_unchanged(
        self, user: User, user_agent: str, address: str | None, acting_for: int | None = None
    ) -> "LoginSession | None":
        """Start a session for a user whose password was checked before, in one statement.

        None when the user was deactivated or got another password since it was read, or, if it was read together with
        the second factor and had none, has one now.
        """
        session = self.model.new(user, user_agent, address, acting_for)
        with transaction.atomic(using=self.db):
            signal = {"sender": self.model, "instance": session, "raw": False, "using": self.db, "update_fields": None}
            pre_save.send(**signal)
            fields = [field for field in self.model._meta.concrete_fields if not field.primary_key]
            values = [Value(field.pre_save(session, add=True), output_field=field) for field in fields]
            unchanged = User.objects.get_queryset().lock_if_unchanged(user)
            if "second_factor" in user._state.fields_cache and not confirmed_factor(user):
                unchanged = unchanged.filter(~Exists(SecondFactor.objects.confirmed().filter(user=OuterRef("pk"))))
            select, parameters = unchanged.order_by().values_list(*values).query.sql_with_params()
            columns = ", ".join(connections[self.db].ops.quote_name(str(field.column)) for field in fields)
            with connections[self.db].cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO {self.model._meta.db_table} ({columns}) {select} RETURNING id",  # noqa: S608
                    parameters,
                )
                row = cursor.fetchone()
            if row is None:
                return None
            [session.pk] = row
            session._state.adding, session._state.db = False, self.db
            post_save.send(**signal, created=True)
        return session


class LoginSession(models.Model):
    """One login on one device, or one personal access token.

    The refresh token of a login rotates; only the ids (`jti`) of the last two are stored. `rotated_at` is when the
    current pair of tokens was issued. `last_used_at` lags behind the last request by at most `USE_RECORDED_AFTER`.

    A personal access token has the kind `token`. It has no refresh token, does not end for want of use, and never
    changes but for `last_used_at` and `revoked_at`: see `accounts.personal_tokens`.
    """

    class Kind(models.TextChoices):
        SESSION = "session", "login"
        TOKEN = "token", "personal access token"

    class Scope(models.TextChoices):
        READ = "read", "read"
        WRITE = "write", "read and write"

    kind = models.CharField(
        max_length=10, choices=Kind.choices, default=Kind.SESSION, db_default=Kind.SESSION, editable=False
    )
    name = LineField(max_length=100, blank=True, default="", db_default="", help_text="What a token is for.")
    # What a token may do; a login may do everything.
    scope = models.CharField(
        max_length=10, choices=Scope.choices, blank=True, default="", db_default="", editable=False
    )
    # SHA-256 of a token's secret, in hex; null for a login.
    secret_hash = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    token_id = models.CharField(max_length=32, editable=False)
    previous_token_id = models.CharField(max_length=32, blank=True, editable=False)
    user_agent = LineField(max_length=200, blank=True)
    address = models.GenericIPAddressField(null=True)
    # The id of the owner whose records the requests of this session work on, unless a header says otherwise.
    acting_for = models.BigIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    rotated_at = models.DateTimeField(editable=False)
    last_used_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = LoginSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["address", "-id"], name="session_of_address")]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="session", scope="", secret_hash=None)
                | Q(kind="token", scope__in=["read", "write"], secret_hash__isnull=False),
                name="session_kind",
            ),
        ]
        triggers = [ExpiredRecordsTrigger()]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @classmethod
    def new(cls, user: User, user_agent: str, address: str | None, acting_for: int | None = None) -> "LoginSession":
        """An unsaved session of the kind `session`, which starts now and ends after SESSION_LIFETIME."""
        now = timezone.now()
        return cls(
            user=user,
            token_id=uuid4().hex,
            user_agent=user_agent[:200],
            address=address,
            acting_for=acting_for,
            rotated_at=now,
            last_used_at=now,
            expires_at=now + settings.SESSION_LIFETIME,
        )

    @classmethod
    def rotate(cls, session_id: int, user_id: int, token_id: str) -> "LoginSession | None":
        """Exchange the refresh token with this id; the session whose tokens the client gets. None if it gets none.

        One UPDATE decides, whose expressions PostgreSQL evaluates again after a wait for the row's lock, so one of many
        concurrent calls rotates the token. The others find it to be the previous one within the grace period: they get
        the same pair, so that neither a second tab nor a lost answer logs the user out. Any other token that was used
        before means that somebody else holds a copy, which revokes the session.
        """
        values: dict[str, Any] = {"id": session_id, "user_id": user_id, "token_id": token_id, "new": uuid4().hex}
        with connection.cursor() as cursor:
            cursor.execute(ROTATE, values | {"grace": REPLAY_GRACE})
            row = cursor.fetchone()
        if row is None:
            return None
        names = ("token_id", "rotated_at", "expires_at", "revoked_at", "acting_for")
        return cls(pk=session_id, user_id=user_id, **dict(zip(names, row, strict=True)))


class LoginAddress(models.Model):
    """An address from which a login to an account has succeeded. `accounts.limits` writes it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="login_addresses", db_index=False)
    network = models.CharField(max_length=50)  # an IPv4 address or a /64 of IPv6, see `client_network`
    last_login_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "network"], name="login_address_unique")]

    def __str__(self) -> str:
        return f"login address {self.pk}"


class Attempts(models.Model):
    """A count for one account, address or both, whose hash is the key. `accounts.limits` writes it."""

    class Kind(models.TextChoices):
        """What is counted, and for whom."""

        PAIR = "pair", "failed logins to an account from an address"
        ACCOUNT = "account", "failed logins to an account"
        ADDRESS = "address", "failed logins from an address"
        SESSION = "session", "wrong current passwords in a session"
        REGISTRATION = "registration", "registrations from an address"
        EMAIL_CHANGE = "email change", "changes of an account to a taken e-mail"
        EMAILS_TO = "e-mails to", "e-mails with a link that were asked for to an address"
        EMAILS_FROM = "e-mails from", "e-mails with a link that were asked for from an address of a client"
        WRONG_LINKS = "wrong links", "wrong links of e-mails from an address of a client"
        NAME = "name", "unknown or taken names that an account has sent"
        ACCOUNT_FILE = "account file", "files of an account that its user has asked for"

    key = models.CharField(max_length=64, primary_key=True)
    # Empty in rows of an earlier version, until they count again.
    kind = models.CharField("counts", max_length=20, choices=Kind.choices, blank=True, default="", db_default="")
    count = models.PositiveIntegerField()
    until = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "attempts"
        indexes = [models.Index(fields=["kind", "until"], name="attempts_of_kind")]

    def __str__(self) -> str:
        return self.key
