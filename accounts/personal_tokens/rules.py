"""Creates personal access tokens: the limits of their number and lifetime, and the owner to whom one is confined."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.identity import check_unchanged
from accounts.mail import Message, send_on_commit
from accounts.models import LoginSession, User
from accounts.personal_tokens.format import hash_secret, new_token_secret, write_token
from accounts.tokens import find_owner_to_act_for
from healthcare.api.acting_for import parse_owner_name
from healthcare.api.exceptions import Conflict

MOST_LIVING = 20  # tokens of one user
DEFAULT_LIFETIME, LONGEST_LIFETIME = timedelta(days=90), timedelta(days=365)
TOKEN_CREATED = Message(
    "A personal access token was created",
    "Somebody who knows your password has created a personal access token of your account. If it was not you, change "
    "your password: that ends all tokens.\n",
)
EXPIRY_OUT_OF_RANGE = f"Write a time in the future, at most {LONGEST_LIFETIME.days} days from now."


class NewToken(NamedTuple):
    """A token that was created. `text` is what its user sends; nothing stored can restore it."""

    session: LoginSession
    owner: User | None  # to whose records it is confined
    text: str


def is_in_range(expires_at: datetime | None) -> bool:
    """Whether a token may end then; None stands for DEFAULT_LIFETIME."""
    return expires_at is None or timedelta(0) < expires_at - timezone.now() <= LONGEST_LIFETIME


def create_token(
    user: User,
    *,
    name: str,
    scope: str,
    acting_for: str | None = None,
    expires_at: datetime | None = None,
    user_agent: str = "",
    address: str | None = None,
) -> NewToken:
    """Create a token for a user whose identity was just proved, with the rights of the tables' owner.

    `acting_for` is an owner's username or id, to whose records the token is confined; the user's own name and `self`
    confine it to their own. Raises ValidationError (400) for an `expires_at` that is out of range, NotADelegate (403)
    without a working delegation, Conflict (409, `too_many_tokens`), and AuthenticationFailed (401) when the user was
    deactivated or got another password since they were read.
    """
    if not is_in_range(expires_at):
        raise ValidationError({"expires_at": [ErrorDetail(EXPIRY_OUT_OF_RANGE, "invalid")]})
    with transaction.atomic():
        # Lock the user's row: concurrent requests count the tokens one after the other, and a change of the password,
        # which ends the tokens, comes before or after.
        check_unchanged(user)
        owner = find_delegating_owner(user, acting_for)
        if LoginSession.objects.live().tokens().filter(user=user).count() >= MOST_LIVING:
            detail = f"You have {MOST_LIVING} tokens, the most that one user can have; end one of them first."
            raise Conflict(detail, code="too_many_tokens")
        secret = new_token_secret()
        session = LoginSession.new(user, user_agent, address, owner.pk if owner else None)
        session.kind, session.name, session.scope = LoginSession.Kind.TOKEN, name, scope
        session.secret_hash = hash_secret(secret)
        session.expires_at = expires_at or session.last_used_at + DEFAULT_LIFETIME
        session.save(force_insert=True)
        send_on_commit(TOKEN_CREATED, user.email)
    return NewToken(session, owner, write_token(session.pk, user.pk, secret))


def find_delegating_owner(user: User, name: str | None) -> User | None:
    """The owner with this name, who has made the user a delegate, or the user; None without a name."""
    if name is None:
        return None
    owner_id = find_owner_to_act_for(user, parse_owner_name(name))
    return user if owner_id is None else User.objects.get(pk=owner_id)
