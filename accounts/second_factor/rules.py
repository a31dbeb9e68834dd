"""Begin, confirm, use and remove a second factor: for the API, the admin and commands.

The API's database role has no privilege on these tables, so a request calls this without the role. What is used up must
stay so: call `check_code` in no transaction that is rolled back later.
"""

from dataclasses import dataclass
from enum import Enum

from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.limits import LoginAttempt, log_security_event, user_key
from accounts.mail import Message, send_on_commit
from accounts.models import User
from accounts.second_factor.codes import (
    base32,
    find_step,
    hash_recovery_code,
    is_app_code,
    new_otp_secret,
    new_recovery_codes,
    normalize_code,
    otpauth_uri,
)
from accounts.second_factor.encryption import decrypt_secret, encrypt_secret
from accounts.second_factor.models import RecoveryCode, SecondFactor
from healthcare.api.exceptions import Conflict

FACTOR_RESET = Message(
    "Your second factor was removed",
    "An operator has removed the second factor of your account. Your password alone logs you in now.\n\nLog in and set "
    "up a new one. If you have not asked for this, tell the operators at once and change your password.\n",
)
FACTOR_ENROLLED = Message(
    "Your account has a second factor",
    "Logins to your account ask for a code of an authenticator app from now on. If it was not you, tell those who "
    "operate this service: somebody knows your password.\n",
)
FACTOR_REMOVED = Message(
    "Your second factor was removed",
    "The second factor of your account was removed with your password and a code. Your password alone logs you in now. "
    "If it was not you, change your password and tell those who operate this service.\n",
)


class OtpRequired(AuthenticationFailed):
    """The password of a login was right, and its code missing or wrong."""

    default_detail = "Send as `otp` the code that your authenticator app shows now, or one of your recovery codes."
    members = {"code": "otp_required"}


class FactorEnrolled(Conflict):
    default_detail = "You have a second factor; remove it by DELETE /api/auth/otp/ before you set up another."

    def __init__(self) -> None:
        super().__init__(code="otp_enrolled")


class FactorMissing(Conflict):
    default_detail = "Set up a second factor first: POST /api/auth/otp/ gives its secret."

    def __init__(self) -> None:
        super().__init__(code="otp_not_enrolled")


class CodeCheck(Enum):
    """What became of a code that a user has sent, or not sent."""

    NOT_ENROLLED = "the user has no second factor, and needs no code"
    MISSING = "the user has one, and no code was sent"
    WRONG = "the code is wrong, or was used before"
    ACCEPTED = "the code is right, and is used up now"

    @property
    def passed(self) -> bool:
        return self in {CodeCheck.NOT_ENROLLED, CodeCheck.ACCEPTED}


@dataclass(frozen=True)
class NewFactor:
    """What an authenticator app needs: the secret in base32, or the URI that holds it."""

    secret: str
    otpauth_uri: str


def begin_factor(user: User) -> NewFactor:
    """Give the user a secret, instead of an earlier one that is not confirmed. Raises FactorEnrolled (409)."""
    secret = new_otp_secret()
    encrypted = encrypt_secret(secret, user.pk)
    with transaction.atomic():
        factor, is_new = SecondFactor.objects.select_for_update().get_or_create(
            pk=user.pk, defaults={"encrypted_secret": encrypted}
        )
        if factor.confirmed_at:
            raise FactorEnrolled
        if not is_new:
            factor.encrypted_secret, factor.created_at = encrypted, timezone.now()
            factor.save(update_fields=["encrypted_secret", "created_at"])
    return NewFactor(base32(secret), otpauth_uri(secret, user.username))


def read_unconfirmed(user: User) -> NewFactor | None:
    """What `begin_factor` has given this user last; None once it is confirmed, or if it cannot be decrypted."""
    factor = SecondFactor.objects.filter(pk=user.pk, confirmed_at=None).first()
    secret = decrypt_secret(factor.encrypted_secret, factor.pk) if factor else None
    return NewFactor(base32(secret), otpauth_uri(secret, user.username)) if secret else None


def confirm_factor(request: HttpRequest | Request, user: User, otp: str | None) -> list[str] | None:
    """Confirm the user's new factor by a code of it, so that logins ask for one. Returns the recovery codes, which are
    not shown again; None for a wrong code. Raises FactorEnrolled or FactorMissing (409)."""
    with transaction.atomic():
        factor = SecondFactor.objects.select_for_update().filter(pk=user.pk).first()
        if factor is None:
            raise FactorMissing
        if factor.confirmed_at:
            raise FactorEnrolled
        step = find_app_step(request, factor, normalize_code(otp))
        if step is None:
            log_factor_event("second factor code wrong at enrolment", request, user.pk)
            return None
        factor.confirmed_at, factor.last_step = timezone.now(), step
        factor.save(update_fields=["confirmed_at", "last_step"])
        codes = new_recovery_codes()
        hashes = [hash_recovery_code(normalize_code(code), user.pk) for code in codes]
        RecoveryCode.objects.bulk_create(RecoveryCode(factor=factor, digest=digest) for digest in hashes if digest)
        send_on_commit(FACTOR_ENROLLED, user.email)
    log_factor_event("second factor enrolled", request, user.pk)
    return codes


def check_code(request: HttpRequest | Request, factor: SecondFactor | None, otp: str | None) -> CodeCheck:
    """Use up a code of the user's app, or a recovery code. Of two requests with the same code one is accepted.

    `factor` is the user's confirmed one, or None. One that was removed or replaced since it was read accepts no code.
    """
    if factor is None:
        return CodeCheck.NOT_ENROLLED
    code = normalize_code(otp)
    if not code:
        return CodeCheck.MISSING
    if use_app_code(request, factor, code) or use_recovery_code(request, factor, code):
        return CodeCheck.ACCEPTED
    log_factor_event("second factor code wrong", request, factor.pk)
    return CodeCheck.WRONG


def check_counted_code(request: HttpRequest | Request, user: User, otp: str | None) -> CodeCheck:
    """Like `check_code`, for a code that comes without a login. Raises RateLimited (429) after repeated wrong ones.

    A wrong one counts as that of a login does, and not with the passwords of the session: neither does a right password
    clear the count, nor do several sessions give more guesses than logins do.
    """
    factors = SecondFactor.objects.confirmed().filter(pk=user.pk)
    if not normalize_code(otp):
        return check_code(request, factors.first(), otp)
    attempt = LoginAttempt.begin(request, user.username, user)
    check = check_code(request, factors.first(), otp)
    if check is CodeCheck.ACCEPTED:
        attempt.succeed()
    elif check is CodeCheck.NOT_ENROLLED:
        attempt.take_back()
    return check


def use_app_code(request: HttpRequest | Request, factor: SecondFactor, code: str) -> bool:
    """Whether this is a code of the app. The UPDATE decides who of two uses it: the other waits for the row's lock, and
    then finds the step used."""
    step = find_app_step(request, factor, code)
    if step is None:
        return False
    unused = Q(last_step=None) | Q(last_step__lt=step)
    same = SecondFactor.objects.confirmed().filter(unused, pk=factor.pk, encrypted_secret=factor.encrypted_secret)
    return bool(same.update(last_step=step))


def find_app_step(request: HttpRequest | Request, factor: SecondFactor, code: str) -> int | None:
    if not is_app_code(code):
        return None
    secret = decrypt_secret(factor.encrypted_secret, factor.pk)
    if secret is None:
        # The user reads that the code is wrong; the operator, who alone can help, reads why.
        log_factor_event("second factor not decrypted by OTP_KEY or SECRET_KEY", request, factor.pk)
        return None
    return find_step(secret, code, factor.last_step)


def use_recovery_code(request: HttpRequest | Request, factor: SecondFactor, code: str) -> bool:
    """Whether this is a recovery code. The DELETE decides who of two uses it."""
    digest = hash_recovery_code(code, factor.pk)
    if digest is None or not factor.recovery_codes.filter(digest=digest).delete()[0]:
        return False
    left = factor.recovery_codes.count()
    log_factor_event("recovery code used", request, factor.pk, left=left)
    return True


def remove_factor(request: HttpRequest | Request | None, user: User, message: Message, **logged: object) -> bool:
    """Remove the user's factor, confirmed or not, with its recovery codes, and tell the user by e-mail. Returns whether
    there was one. `request` is None for a command; `logged` is added to the line in the security log."""
    with transaction.atomic():
        removed = SecondFactor.objects.filter(pk=user.pk).delete()[0] > 0
        if removed:
            send_on_commit(message, user.email)
    if removed:
        log_factor_event("second factor removed", request, user.pk, **logged)
    return removed


def log_factor_event(event: str, request: HttpRequest | Request | None, user_id: int, **members: object) -> None:
    log_security_event(event, request, account=user_key(user_id), **members)
