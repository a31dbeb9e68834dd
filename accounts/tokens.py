"""The tokens of a login session: SimpleJWT's, with the session's id as `sid`."""

import hashlib
import re
import time
from typing import Any

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

from accounts.client_address import client_address
from accounts.delegations.models import Delegation
from accounts.limits import attempts_key, log_security_event
from accounts.models import LoginSession, User
from healthcare.api.acting_for import OWN_RECORDS, NotADelegate, as_id

LATEST_EXPIRY = 2**33  # the year 2242; SimpleJWT fails on what `datetime` cannot hold
ISSUED_AHEAD = 60  # seconds that `iat` may lie ahead: the machine that signed the token may have a faster clock


class SessionTokenBackend(TokenBackend):
    """Decodes with a leeway for `iat`. PyJWT's leeway holds for `exp` as well, so `exp` is compared once more."""

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        claims: dict[str, Any] = super().decode(token, verify)
        if verify:
            if not isinstance(claims.get("exp"), int) or claims["exp"] > LATEST_EXPIRY:
                raise TokenBackendError("Token is invalid")
            if claims["exp"] <= time.time():
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
    """The session's current access and refresh token; the latter expires with the session.

    They are signed anew and not stored. All claims follow from the session, so a repeated call returns the same pair.
    """
    issued, ends = int(session.rotated_at.timestamp()), int(session.expires_at.timestamp())
    access_id = hashlib.sha256(f"access {session.token_id}".encode()).hexdigest()[:32]
    lifetime = int(api_settings.ACCESS_TOKEN_LIFETIME.total_seconds())
    claims = {
        "access": (AccessToken(), {"exp": min(issued + lifetime, ends), "jti": access_id}),
        "refresh": (RefreshToken(), {"exp": ends, "jti": session.token_id}),
    }
    for token, own in claims.values():
        token.payload |= {**own, "iat": issued, "user_id": str(session.user_id), "sid": session.pk}
    if session.acting_for is not None:
        claims["access"][0].payload["acting_for"] = session.acting_for
    return {name: str(token) for name, (token, _) in claims.items()}


def session_and_user_ids(token: Token) -> tuple[int, int] | None:
    """The ids of the session and of the user in a verified token; None when a claim is not an id."""
    session_id, user_id = token.get("sid"), str(token.get("user_id"))
    if type(session_id) is not int or not -(2**63) <= session_id < 2**63:
        return None
    return (session_id, int(user_id)) if re.fullmatch("[0-9]{1,18}", user_id, re.ASCII) else None


def start_session(user: User, request: Request, acting_for: str = OWN_RECORDS) -> LoginSession | None:
    """A session for a user whose password was just checked; None when it changed since, or the user was deactivated.

    `acting_for` names the owner for whom its requests act, as `parse_owner_name` gives it. Raises NotADelegate (403).
    """
    owner_id = find_owner_to_act_for(user, acting_for)
    user_agent = request.headers.get("User-Agent", "")
    return LoginSession.objects.start_if_unchanged(user, user_agent, client_address(request) or None, owner_id)


def find_owner_to_act_for(user: User, name: str) -> int | None:
    """The id of the owner with this name, who has made the user a delegate; None for the user's own records."""
    key = as_id(name)
    is_own = name == user.username.lower() if key is None else key == user.pk  # digits alone are an id
    if is_own or name == OWN_RECORDS:
        return None
    delegation = Delegation.objects.working().filter(delegate=user).of_owner(name).first()
    if delegation is None:
        raise NotADelegate
    return delegation.owner_id


def exchange_refresh_token(refresh: str, request: Request) -> LoginSession:
    """The session whose tokens the client gets for this one. AuthenticationFailed (401) if it gets none."""
    refused = AuthenticationFailed("The refresh token is not valid; log in again.")
    try:
        token = RefreshToken(refresh)  # type: ignore[arg-type]
    except TokenError as error:
        raise refused from error
    ids = session_and_user_ids(token)
    session = LoginSession.rotate(*ids, str(token.get("jti"))) if ids else None
    if session is not None and session.revoked_at:
        account = attempts_key("account", str(session.user_id))
        log_security_event("session ended by a reused refresh token", request, account=account)
    if session is None or session.revoked_at:
        raise refused
    return session
