"""What links in e-mails do: reset a password, verify an e-mail, and change it once the new one is confirmed.

A request for an e-mail answers the same, after the same statements, whether the address belongs to an account or not.
The functions that confirm run in the caller's transaction, which has no role of the API yet, and lock the user: of two
confirmations of one token the second finds it used.
"""

from collections.abc import Callable
from functools import partial

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from rest_framework.exceptions import AuthenticationFailed, ErrorDetail, ValidationError
from rest_framework.request import Request

from accounts import mail
from accounts.email_links import messages
from accounts.email_links.limits import LinkError, Purpose, count_email
from accounts.email_links.messages import LinkMessage
from accounts.email_links.tokens import EMAIL_CHANGE, EMAIL_VERIFICATION, PASSWORD_RESET, decode_uid
from accounts.identifiers import normalize_identifier
from accounts.limits import account_key, log_security_event, user_key
from accounts.models import User, UserQuerySet
from accounts.serializers import check_password_rules
from healthcare.api.exceptions import NotConfigured
from healthcare.rls.context import enter, leave, without_role

NOBODY = User(pk=0)  # stands in for an unknown user, so that tokens are signed and checked all the same


class EmailNotConfigured(NotConfigured):
    default_detail = "This server sends no e-mails, so it has no such call; ask those who operate it."
    members = {"code": "email_not_configured"}


class EmailUnverified(AuthenticationFailed):
    default_detail = (
        "Confirm your e-mail first, by the link that was sent to it; POST /api/auth/email/verify/ sends another one."
    )
    members = {"code": "email_unverified"}


def people() -> UserQuerySet:
    """The users to whom links are sent."""
    return User.objects.get_queryset().filter(is_active=True, is_clinic=False)


def request_password_reset(request: Request, email: str) -> None:
    """Send a link that resets the password, if this is the e-mail of an active user who has a password."""
    send_link(request, Purpose.RESET, email, messages.RESET, needs=User.has_usable_password)


def request_verification(request: Request, email: str) -> None:
    """Send a link that verifies the e-mail, if it is that of an active user and not verified."""
    send_link(request, Purpose.VERIFICATION, email, messages.VERIFICATION, needs=needs_verification)


def needs_verification(user: User) -> bool:
    return not user.has_verified_email


def send_link(
    request: Request, purpose: Purpose, email: str, message: LinkMessage, needs: Callable[[User], bool]
) -> None:
    """Send the message to the user of this e-mail, if there is one who needs it. Raises RateLimited (429) if the client
    asks for too many."""
    allowed = count_email(request, purpose, email)
    user = people().filter(email__lower=normalize_identifier(email)).first()
    body = message.body(user or NOBODY)
    addressed = allowed and user is not None and needs(user)
    mail.send_later([str(user.email)] if user and addressed else [], message.subject, body)
    log_security_event(f"{purpose} asked for", request, account=account_key(email, user))


def send_first_verification(user: User) -> None:
    """Send a new user the link that verifies their e-mail, when the transaction has committed."""
    body = messages.VERIFICATION.body(user)
    later = partial(mail.send_later, [str(user.email)], messages.VERIFICATION.subject, body)
    transaction.on_commit(later, robust=True)


def reset_password(request: Request, uid: str, token: str, new_password: str) -> None:
    """Set the password by a token, and end every login session. Raises LinkError (400), and ValidationError (400) on
    `new_password`.

    The token was sent to the e-mail of the account, so the e-mail is verified as well.
    """
    user = lock_user(uid)
    is_valid = PASSWORD_RESET.check_token(user or NOBODY, token)
    if user is None or not is_valid or not user.has_usable_password():
        raise LinkError
    check_password_rules(new_password, user, "new_password")
    record_as(user, request)
    user.set_password(new_password)
    user.verified_email = user.email
    user.save(update_fields=["password", "verified_email"], keep_tokens=not settings.PASSWORD_RESET_ENDS_TOKENS)
    log_security_event("password reset by link", request, account=user_key(user.pk))
    mail.send_on_commit(messages.PASSWORD_WAS_RESET, user.email)


def confirm_email(request: Request, uid: str, token: str) -> None:
    """Verify the e-mail, or change it to the one that was asked for. Raises LinkError (400), and ValidationError (400)
    on `token` if another account has taken that e-mail meanwhile."""
    user = lock_user(uid)
    verifies, changes = (one.check_token(user or NOBODY, token) for one in (EMAIL_VERIFICATION, EMAIL_CHANGE))
    if user is None or not (verifies or changes):
        raise LinkError
    record_as(user, request)
    if not changes:
        User.objects.filter(pk=user.pk).update(verified_email=user.email)
        log_security_event("e-mail verified", request, account=user_key(user.pk))
        return
    old, new = user.email, user.pending_email
    values = {"email": new, "verified_email": new, "pending_email": None}
    if user.username == old:
        values["username"] = new
    try:
        with transaction.atomic():
            User.objects.filter(pk=user.pk).update(**values)
    except IntegrityError as error:
        message = "Another account has this e-mail by now; ask for a change to another one."
        raise ValidationError({"token": [ErrorDetail(message, "unique")]}) from error
    log_security_event("e-mail changed", request, account=user_key(user.pk))
    mail.send_on_commit(messages.EMAIL_WAS_CHANGED, old)


def request_email_change(request: Request, user: User, email: str, *, is_allowed: bool) -> None:
    """Store the e-mail that the user asks for, send it a link, and tell the present one, in the caller's transaction.

    An e-mail of another account is stored too, since the user would otherwise see by their file, or by an earlier link,
    that it is taken. Its owner gets another e-mail, without a link. With `is_allowed` off, after too many e-mails to
    the address, nothing happens.
    """
    if not is_allowed:
        return
    with without_role():
        name = normalize_identifier(email)
        owner = User.objects.filter(Q(email__lower=name) | Q(username__lower=name)).exclude(pk=user.pk).first()
        User.objects.filter(pk=user.pk).update(pending_email=email)
    user.pending_email = email
    link, in_use = messages.ADDRESS_CHANGE, messages.EMAIL_IN_USE
    body = link.body(user)
    if owner is None:
        later = partial(mail.send_later, [email], link.subject, body)
    else:
        later = partial(mail.send_later, [str(owner.email)] if owner.is_active else [], in_use.subject, in_use.body)
    transaction.on_commit(later, robust=True)
    mail.send_on_commit(messages.CHANGE_REQUESTED, user.email)
    log_security_event("e-mail change asked for", request, account=user_key(user.pk))


def lock_user(uid: str) -> User | None:
    """The user of a link, locked until the transaction ends; None for an unknown or inactive one."""
    return people().select_for_update(no_key=True).filter(pk=decode_uid(uid) or 0).first()


def record_as(user: User, request: Request) -> None:
    """Have history name the user as the actor of what follows, with the rights of the tables' owner."""
    enter(user.pk, request)
    leave()
