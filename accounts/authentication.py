"""Bearer tokens (RFC 6750), good only as long as their session and their user are."""

import time
from functools import lru_cache
from typing import Any

from django.db import connection
from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, Token

from accounts.models import LIVE_SESSION_SQL, LoginSession, User
from accounts.tokens import session_and_user_ids
from healthcare.coverage import covered_by_fast_path
from healthcare.rls.context import ENTER, PLANNED_ONCE, SETTINGS, Entry, enter, metadata

# In the model's own order, which is how `from_db` reads them.
COLUMNS = [field.attname for field in User._meta.concrete_fields if field.name not in {"last_login", "created_at"}]
METADATA = "(%s::jsonb || jsonb_build_object('actor', u.id))::text"
# One statement finds the live session and its active user, and enters the database as that user.
AUTHENTICATE = f"""
SELECT {", ".join(f"u.{column}" for column in COLUMNS)}, {ENTER.format(caller="u.id::text", metadata=METADATA)}
{LIVE_SESSION_SQL}
"""  # noqa: S608  (constants alone)
# For a statement that follows at once, unseen: without a live session it enters as nobody. A read changes nothing, so
# nothing has to reach the disk before its answer.
NOBODY, CALLER = "''", f"coalesce((SELECT u.id::text {LIVE_SESSION_SQL}), '')"  # noqa: S608
SOON = "set_config('synchronous_commit', 'off', true)"
READ_AS_NOBODY, READ_AS_CALLER = (
    f"SELECT {SETTINGS.format(caller=caller, metadata=NOBODY)}, {SOON}, {PLANNED_ONCE}" for caller in (NOBODY, CALLER)
)
WRITE_AS_CALLER = f"SELECT {SETTINGS.format(caller=CALLER, metadata='%s')}, {PLANNED_ONCE}"


@lru_cache(maxsize=4096)
def genuine(raw: bytes) -> AccessToken:
    """What a token says whose signature is ours; raises TokenError for another. It may have expired since."""
    return AccessToken(raw)  # type: ignore[arg-type]


@covered_by_fast_path
class SessionJWTAuthentication(JWTAuthentication):
    """Checks the session in the database at every request, so that a logout works at once.

    Sets `request.user` to the user and `request.auth` to the LoginSession. From here to the end of the transaction the
    database shows the caller's rows alone; an anonymous caller owns none.
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
        X-Change-Reason. Whether the session is live only the database knows.
        """
        header = self.get_header(request)  # type: ignore[arg-type]
        raw = self.get_raw_token(header) if header else None
        if raw is None:
            return Entry(READ_AS_NOBODY, [], None)
        ids = session_and_user_ids(self.get_validated_token(raw))
        if ids is None:
            raise self.session_ended()
        if writes:
            return Entry(WRITE_AS_CALLER, [*ids, metadata(ids[1], request)], ids[1])
        return Entry(READ_AS_CALLER, [*ids], ids[1])

    @staticmethod
    def session_ended() -> AuthenticationFailed:
        return AuthenticationFailed("The session has ended; log in again.", code="session_ended")

    @staticmethod
    def load_user(user_id: int) -> User:
        return User.objects.get(pk=user_id)

    def get_validated_token(self, raw_token: bytes) -> Token:
        try:
            token = genuine(raw_token)
        except TokenError:
            token = None
        if token is not None and token["exp"] > time.time():
            return token
        return super().get_validated_token(raw_token)  # says why not

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
        return User.from_db(connection.alias, COLUMNS, row[: len(COLUMNS)])
