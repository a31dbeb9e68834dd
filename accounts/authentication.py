"""Bearer tokens (RFC 6750), good only as long as their session and their user are."""

from typing import Any

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token

from accounts.models import User
from accounts.tokens import session_named


class SessionJWTAuthentication(JWTAuthentication):
    """Checks the session in the database at every request, so that a logout works at once.

    Sets `request.user` to the user and `request.auth` to the LoginSession.
    """

    def authenticate(self, request: Request) -> Any:
        credentials = super().authenticate(request)
        if credentials is None:
            return None
        user, _ = credentials
        return user, self.session

    def get_raw_token(self, header: bytes) -> bytes | None:
        scheme, _, rest = header.partition(b" ")
        return super().get_raw_token(b"Bearer " + rest) if scheme.lower() == b"bearer" else None

    def get_user(self, validated_token: Token) -> User:  # type: ignore[override]
        session = session_named(validated_token)
        if session is None:
            raise AuthenticationFailed("The session has ended; log in again.", code="session_ended")
        self.session = session
        return session.user
