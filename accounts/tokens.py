"""The tokens of a login session: SimpleJWT's, with the session's id as `sid`."""

import re
import time
from typing import Any

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendExpiredToken, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

from accounts.limits import client_address
from accounts.models import LoginSession, User

ISSUED_AHEAD = 60  # seconds that `iat` may lie ahead: the machine that signed the token may have a faster clock


class SessionTokenBackend(TokenBackend):
    """Decodes with a leeway for `iat`. PyJWT's leeway holds for `exp` as well, so `exp` is compared once more."""

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        claims: dict[str, Any] = super().decode(token, verify)
        if verify and int(claims.get("exp", 0)) <= time.time():
            raise TokenBackendExpiredToken("Token is expired")
        return claims


BACKEND = SessionTokenBackend(
    api_settings.ALGORITHM,
    api_settings.SIGNING_KEY,
    audience=api_settings.AUDIENCE,
    issuer=api_settings.ISSUER,
    leeway=ISSUED_AHEAD,
)


class AccessToken(tokens.AccessToken):
    _token_backend = BACKEND


class RefreshToken(tokens.RefreshToken):
    _token_backend = BACKEND
    access_token_class = AccessToken


def issue_token_pair(session: LoginSession) -> dict[str, str]:
    """A new access token and the session's current refresh token, which expires with the session."""
    refresh = RefreshToken.for_user(session.user)
    refresh["jti"] = session.token_id
    refresh["sid"] = session.pk
    refresh["exp"] = int(session.expires_at.timestamp())
    access = refresh.access_token
    access["exp"] = min(access["exp"], refresh["exp"])
    return {"access": str(access), "refresh": str(refresh)}


def session_and_user_ids(token: Token) -> tuple[int, int] | None:
    """The ids of the session and of the user in a verified token; None when a claim is not an id."""
    session_id, user_id = token.get("sid"), str(token.get("user_id"))
    if type(session_id) is not int or not -(2**63) <= session_id < 2**63:
        return None
    return (session_id, int(user_id)) if re.fullmatch("[0-9]{1,18}", user_id, re.ASCII) else None


def find_live_session(token: Token) -> LoginSession | None:
    """The live session in a verified token, when it belongs to the user in the token."""
    ids = session_and_user_ids(token)
    if ids is None:
        return None
    return LoginSession.objects.live().filter(pk=ids[0], user_id=ids[1]).select_related("user").first()


def start_session(user: User, request: Request) -> LoginSession | None:
    """A session for a user whose password was just checked; None when it changed since, or the user was deactivated."""
    user_agent = request.headers.get("User-Agent", "")
    return LoginSession.objects.start_if_unchanged(user, user_agent, client_address(request) or None)


def verify_refresh_token(refresh: str) -> tuple[LoginSession, str]:
    """The live session and the token id of a refresh token. AuthenticationFailed (401) for any other text."""
    try:
        token = RefreshToken(refresh)  # type: ignore[arg-type]
    except TokenError as error:
        raise AuthenticationFailed("The refresh token is not valid; log in again.") from error
    session = find_live_session(token)
    if session is None:
        raise AuthenticationFailed("The refresh token is not valid; log in again.")
    return session, str(token.get("jti"))
