"""Bearer tokens (RFC 6750), valid only while their session is live and their user active."""

import time
from functools import lru_cache
from typing import Any

from django.db import connection
from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import Token

from accounts.models import LIVE_SESSION_SQL, LoginSession, User
from accounts.tokens import AccessToken, session_and_user_ids
from healthcare.coverage import covered_by_fast_path
from healthcare.rls.context import ENTER, PLANNED_ONCE, SETTINGS, Entry, enter, metadata

# In the order of the model's fields, which `User.from_db` requires.
USER_COLUMNS = [field.attname for field in User._meta.concrete_fields if field.name not in {"last_login", "created_at"}]
METADATA = "(%s::jsonb || jsonb_build_object('actor', u.id))::text"
# One statement finds the live session and its active user, and sets the role and the caller's id for the transaction.
AUTHENTICATE = f"""
SELECT {", ".join(f"u.{column}" for column in USER_COLUMNS)}, {ENTER.format(caller="u.id::text", metadata=METADATA)}
{LIVE_SESSION_SQL}
"""  # noqa: S608  (constants alone)
# The fast path sends these together with the statement that follows, in one message, so nothing can check in between
# whether a session was found. Without a live session the caller's id is empty, which no policy admits. A read need not
# wait until its access-log row is on disk.
ANONYMOUS_SQL, LIVE_CALLER_SQL = "''", f"coalesce((SELECT u.id::text {LIVE_SESSION_SQL}), '')"  # noqa: S608
ASYNCHRONOUS_COMMIT = "set_config('synchronous_commit', 'off', true)"
READ_AS_ANONYMOUS, READ_AS_CALLER = (
    f"SELECT {SETTINGS.format(caller=caller, metadata=ANONYMOUS_SQL)}, {ASYNCHRONOUS_COMMIT}, {PLANNED_ONCE}"
    for caller in (ANONYMOUS_SQL, LIVE_CALLER_SQL)
)
WRITE_AS_CALLER = f"SELECT {SETTINGS.format(caller=LIVE_CALLER_SQL, metadata='%s')}, {PLANNED_ONCE}"


@lru_cache(maxsize=4096)
def decode_token(raw: bytes) -> AccessToken:
    """The decoded token. Raises TokenError unless it is valid; a cached result may have expired since."""
    return AccessToken(raw)  # type: ignore[arg-type]


@covered_by_fast_path
class SessionJWTAuthentication(JWTAuthentication):
    """Checks the session in the database on every request, so that a logout takes effect at once.

    Sets `request.user` to the user and `request.auth` to the LoginSession. From here to the end of the transaction,
    row-level security limits the visible rows to the caller's; an anonymous caller owns none.
    """

    def authenticate(self, request: Request) -> Any:
        self.request = request
        credentials = super().authenticate(request)
        if credentials is None:
            enter(None, request)
            return None
        user, token = credentials
        return user, LoginSession(pk=token["sid"], user_id=user.pk)

    def entry(self, request: HttpRequest, *, writes: bool = False) -> Entry:
        """How a request of the fast path enters the database, in the round trip of its statement.

        Raises AuthenticationFailed (401) for a token that is not valid, and ValidationError (400) for a bad
        X-Change-Reason. Only the statement itself checks whether the session is live.
        """
        header = self.get_header(request)  # type: ignore[arg-type]
        raw = self.get_raw_token(header) if header else None
        if raw is None:
            return Entry(READ_AS_ANONYMOUS, [], None)
        ids = session_and_user_ids(self.get_validated_token(raw))
        if ids is None:
            raise self.session_ended()
        if writes:
            return Entry(WRITE_AS_CALLER, [*ids, metadata(ids[1], request)], ids[1])
        return Entry(READ_AS_CALLER, [*ids], ids[1])

    def caller_of_ended_session(self, request: Request) -> tuple[int, int] | None:
        """The ids of the user and the session in a valid token, whether the session is live or not; None without one.

        They prove who the caller was. The one use is to repeat the answer to a logout.
        """
        header = self.get_header(request)
        raw = self.get_raw_token(header) if header else None
        try:
            ids = session_and_user_ids(self.get_validated_token(raw)) if raw else None
        except AuthenticationFailed:
            return None
        return (ids[1], ids[0]) if ids else None

    @staticmethod
    def session_ended() -> AuthenticationFailed:
        return AuthenticationFailed("The session has ended; log in again.", code="session_ended")

    @staticmethod
    def load_user(user_id: int) -> User:
        return User.objects.get(pk=user_id)

    def get_validated_token(self, raw_token: bytes) -> Token:
        try:
            token = decode_token(raw_token)
        except TokenError:
            token = None
        if token is not None and token["exp"] > time.time():
            return token
        return super().get_validated_token(raw_token)  # raises with the reason

    def get_raw_token(self, header: bytes) -> bytes | None:
        scheme, _, rest = header.partition(b" ")
        return super().get_raw_token(b"Bearer " + rest) if scheme.lower() == b"bearer" else None

    def get_user(self, validated_token: Token) -> User:  # type: ignore[override]
        ids = session_and_user_ids(validated_token)
        row = None
        if ids is not None:
            with connection.cursor() as cursor:
                cursor.execute(AUTHENTICATE, [metadata(None, self.request), *ids])
                row = cursor.fetchone()
        if row is None:
            raise self.session_ended()
        return User.from_db(connection.alias, USER_COLUMNS, row[: len(USER_COLUMNS)])
