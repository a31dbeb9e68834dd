"""The tokens of a login session: SimpleJWT's, with the session's id as `sid`."""

from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from accounts.models import LoginSession


def pair(session: LoginSession) -> dict[str, str]:
    """A fresh access token and the session's current refresh token, which ends when the session does."""
    refresh = RefreshToken.for_user(session.user)
    refresh["jti"] = session.token_id
    refresh["sid"] = session.pk
    refresh["exp"] = int(session.expires_at.timestamp())
    access: AccessToken = refresh.access_token
    access["exp"] = min(access["exp"], refresh["exp"])
    return {"access": str(access), "refresh": str(refresh)}


def session_of(refresh: str) -> tuple[LoginSession, str]:
    """The session and the token id of a genuine refresh token. AuthenticationFailed (401) for any other."""
    try:
        token = RefreshToken(refresh)  # type: ignore[arg-type]
        session_id = int(token["sid"])
    except (TokenError, KeyError, TypeError, ValueError) as error:
        raise AuthenticationFailed("The refresh token is not valid; log in again.") from error
    session = LoginSession.objects.live().filter(pk=session_id).select_related("user").first()
    if session is None:
        raise AuthenticationFailed("The refresh token is not valid; log in again.")
    return session, str(token["jti"])
