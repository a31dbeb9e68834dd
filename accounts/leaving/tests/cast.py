"""A client with a personal access token."""

from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from accounts.personal_tokens.format import hash_secret, new_token_secret, write_token


def with_token(user: User, scope: str = "write", name: str = "nightly export") -> APIClient:
    """A client that sends a personal access token of this user."""
    secret = new_token_secret()
    session = LoginSession.new(user, "tests", "127.0.0.1")
    session.kind, session.scope, session.name = LoginSession.Kind.TOKEN, scope, name
    session.secret_hash = hash_secret(secret)
    session.save()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {write_token(session.pk, user.pk, secret)}")
    return client
