"""The tokens of a login session: SimpleJWT's, with the session's id as `sid`."""

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
