"""The tokens of a login session: SimpleJWT's, with the session's id as `sid`."""

import re

from django.db import transaction
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts.limits import address_of
from accounts.models import LoginSession, User


def pair(session: LoginSession) -> dict[str, str]:
    """A fresh access token and the session's current refresh token, which ends when the session does."""
    refresh = RefreshToken.for_user(session.user)
    refresh["jti"] = session.token_id
    refresh["sid"] = session.pk
    refresh["exp"] = int(session.expires_at.timestamp())
    access: AccessToken = refresh.access_token
    access["exp"] = min(access["exp"], refresh["exp"])
    return {"access": str(access), "refresh": str(refresh)}


def named_in(token: Token) -> tuple[int, int] | None:
    """The ids of the session and of the user that a genuine token names; None when they are no ids."""
    session_id, user_id = token.get("sid"), str(token.get("user_id"))
    if type(session_id) is not int or not -(2**63) <= session_id < 2**63:
        return None
    return (session_id, int(user_id)) if re.fullmatch("[0-9]{1,18}", user_id, re.ASCII) else None


def session_named(token: Token) -> LoginSession | None:
    """The living session that a genuine token names, of the user it names; None when there is none."""
    ids = named_in(token)
    if ids is None:
        return None
    sessions = LoginSession.objects.live().filter(pk=ids[0], user_id=ids[1], user__is_active=True)
    return sessions.select_related("user").first()


def start_session(user: User, request: Request) -> LoginSession | None:
    """A session for a user whose password was just checked; None when it changed since, or the user was deactivated."""
    with transaction.atomic():
        if not User.objects.get_queryset().unchanged(user).exists():
            return None
        return LoginSession.objects.start(user, request.headers.get("User-Agent", ""), address_of(request) or None)


def session_of(refresh: str) -> tuple[LoginSession, str]:
    """The session and the token id of a genuine refresh token. AuthenticationFailed (401) for any other."""
    try:
        token = RefreshToken(refresh)  # type: ignore[arg-type]
    except TokenError as error:
        raise AuthenticationFailed("The refresh token is not valid; log in again.") from error
    session = session_named(token)
    if session is None:
        raise AuthenticationFailed("The refresh token is not valid; log in again.")
    return session, str(token.get("jti"))
