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

from accounts.models import LIVE_SESSION_FROM, LIVE_SESSION_SQL, LIVE_SESSION_WHERE, LoginSession, User
from accounts.tokens import AccessToken, session_and_user_ids
from healthcare.api.acting_for import OWN_RECORDS, ROLES, NotADelegate, as_id, owner_in_header
from healthcare.coverage import covered_by_fast_path
from healthcare.ownership import RecordOwner
from healthcare.rls.context import ENTER, PLANNED_ONCE, SETTINGS, Entry, enter, metadata

# In the order of the model's fields, which `User.from_db` requires.
USER_COLUMNS = [
    field.attname for field in User._meta.concrete_fields if field.name not in {"last_login", "is_clinic", "created_at"}
]
METADATA = "(%s::jsonb || jsonb_build_object('actor', u.id))::text"
USER_COLUMNS_SQL = ", ".join(f"u.{column}" for column in USER_COLUMNS)
OWN_SETTINGS = {"owner": "''", "role": "''"}  # the settings of a caller who acts for nobody
# One statement finds the live session and its active user, and sets the role and the caller's id for the transaction.
AUTHENTICATE = f"""
SELECT {USER_COLUMNS_SQL}, {ENTER.format(caller="u.id::text", metadata=METADATA, **OWN_SETTINGS)}
{LIVE_SESSION_SQL}
"""  # noqa: S608  (constants alone)
# For a delegate, the statement also joins the owner whom the condition `{named}` selects, and the role of the
# delegation. It finds none without a working delegation, which callers who name themselves do not need.
JOIN_OWNER = """LEFT JOIN LATERAL (
    SELECT owner.id, owner.username, CASE WHEN owner.id = u.id THEN '' ELSE delegation.role END AS role
    FROM accounts_user owner LEFT JOIN accounts_delegation delegation ON delegation.owner_id = owner.id
        AND delegation.delegate_id = u.id AND delegation.revoked_at IS NULL
        AND (delegation.expires_at IS NULL OR delegation.expires_at > now())
    WHERE {named} AND owner.is_active AND (owner.id = u.id OR delegation.id IS NOT NULL)
) acting ON true"""
NAMED_BY_ID, NAMED_BY_USERNAME, NAMED_BY_BOTH = (
    "owner.id = %s",
    "lower(owner.username) = %s",
    "owner.id = %s AND owner.username = %s AND delegation.role = ANY (%s::text[])",
)
# Without an owner the id is 0, to whom no row belongs.
OWNER_ID, OWNER_ROLE = "coalesce(acting.id, 0)::text", "coalesce(acting.role, '')"


def live_session_with_owner(named: str) -> str:
    """LIVE_SESSION_SQL with the owner in `acting`. The parameters of `named` come before those of the session."""
    return f"{LIVE_SESSION_FROM} {JOIN_OWNER.format(named=named)}\n{LIVE_SESSION_WHERE}"


AUTHENTICATE_DELEGATE = {
    named: f"""
SELECT {USER_COLUMNS_SQL}, acting.id, acting.username, acting.role,
    {ENTER.format(caller="u.id::text", metadata=METADATA, owner=OWNER_ID, role=OWNER_ROLE)}
{live_session_with_owner(named)}
"""  # noqa: S608  (constants alone)
    for named in (NAMED_BY_ID, NAMED_BY_USERNAME)
}
# The fast path sends these together with the statement that follows, in one message, so nothing can check in between
# whether a session was found. Without a live session the caller's id is empty, which no policy admits. A read need not
# wait until its access-log row is on disk.
ANONYMOUS_SQL, LIVE_CALLER_SQL = "''", f"coalesce((SELECT u.id::text {LIVE_SESSION_SQL}), '')"  # noqa: S608
READ_SETTINGS = f"set_config('synchronous_commit', 'off', true), {PLANNED_ONCE}"
READ_AS_ANONYMOUS, READ_AS_CALLER = (
    f"SELECT {SETTINGS.format(caller=caller, metadata=ANONYMOUS_SQL, **OWN_SETTINGS)}, {READ_SETTINGS}"
    for caller in (ANONYMOUS_SQL, LIVE_CALLER_SQL)
)
WRITE_AS_CALLER = f"SELECT {SETTINGS.format(caller=LIVE_CALLER_SQL, metadata='%s', **OWN_SETTINGS)}, {PLANNED_ONCE}"
# The same for a delegate. The VALUES give one row without a live session, too, so that the settings are always set.
DELEGATE_SETTINGS = {
    "caller": "coalesce(live.caller, '')",
    "owner": "coalesce(live.owner, '0')",
    "role": "coalesce(live.role, '')",
}
LIVE_DELEGATE = f"""FROM (VALUES (1)) AS one LEFT JOIN (
    SELECT u.id::text AS caller, {OWNER_ID} AS owner, {OWNER_ROLE} AS role
    {live_session_with_owner(NAMED_BY_BOTH)}
) AS live ON true"""  # noqa: S608  (constants alone)
READ_AS_DELEGATE = (
    f"SELECT {SETTINGS.format(metadata=ANONYMOUS_SQL, **DELEGATE_SETTINGS)}, {READ_SETTINGS} {LIVE_DELEGATE}"
)
WRITE_AS_DELEGATE = f"SELECT {SETTINGS.format(metadata='%s', **DELEGATE_SETTINGS)}, {PLANNED_ONCE} {LIVE_DELEGATE}"
# A cache of this process: id and username of owners whom callers have acted for, by the name in the request. The
# statement of the fast path compares both with the database, so an outdated entry sends a request to the standard path.
known_owners: dict[str, tuple[int, str]] = {}
MOST_KNOWN_OWNERS = 4096


def requested_owner(request: HttpRequest | Request, token: Token) -> str:
    """The owner whom the request acts for: the one in its header, else that of the login; OWN_RECORDS for neither."""
    name = owner_in_header(request)
    return str(token.get("acting_for") or OWN_RECORDS) if name is None else name


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
        self.owner: RecordOwner | None = None
        request._request.record_owner = None  # type: ignore[attr-defined]  # the fast path may have set another one
        credentials = super().authenticate(request)
        if credentials is None:
            enter(None, request)
            return None
        user, token = credentials
        request._request.record_owner = self.owner  # type: ignore[attr-defined]
        return user, LoginSession(pk=token["sid"], user_id=user.pk)

    def entry(self, request: HttpRequest, *, writes: bool = False, role: str | None = None) -> Entry | None:
        """How a request of the fast path enters the database, in the round trip of its statement.

        `role` is the role that a delegate needs; None where the action ignores X-Acting-For. Returns None for a caller
        who acts for an owner that `known_owners` does not have: standard DRF finds the owner.
        Raises AuthenticationFailed (401) for a token that is not valid, and ValidationError (400) for a bad
        X-Change-Reason or X-Acting-For. Only the statement itself checks session and delegation.
        """
        header = self.get_header(request)  # type: ignore[arg-type]
        raw = self.get_raw_token(header) if header else None
        if raw is None:
            return Entry(READ_AS_ANONYMOUS, [], None, RecordOwner(None))
        token = self.get_validated_token(raw)
        ids = session_and_user_ids(token)
        if ids is None:
            raise self.session_ended()
        caller = ids[1]
        name = OWN_RECORDS if role is None else requested_owner(request, token)
        if name in {OWN_RECORDS, str(caller)}:
            parameters: list[Any] = [*ids, metadata(caller, request)] if writes else [*ids]
            return Entry(WRITE_AS_CALLER if writes else READ_AS_CALLER, parameters, caller, RecordOwner(caller))
        known_owner = known_owners.get(name)  # looked up once: another thread may clear them
        if role is None or known_owner is None:
            return None
        owner_id, username = known_owner
        delegation = [owner_id, username, [*ROLES[ROLES.index(role) :]]]
        parameters = [metadata(caller, request)] if writes else []
        sql = WRITE_AS_DELEGATE if writes else READ_AS_DELEGATE
        return Entry(sql, [*parameters, *delegation, *ids], caller, RecordOwner(owner_id, username, role))

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
        if ids is None:
            raise self.session_ended()
        view = (self.request.parser_context or {}).get("view")
        name = OWN_RECORDS
        if getattr(view, "acts_for_owner", False):
            name = requested_owner(self.request, validated_token)
        if name in {OWN_RECORDS, str(ids[1])}:
            row = self.fetch(AUTHENTICATE, [metadata(None, self.request), *ids])
            self.owner = RecordOwner(ids[1])
        else:
            row = self.fetch_delegate(name, ids)
        return User.from_db(connection.alias, USER_COLUMNS, row[: len(USER_COLUMNS)])

    def fetch(self, statement: str, parameters: list[Any]) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            row = cursor.fetchone()
        if row is None:
            raise self.session_ended()
        return row

    def fetch_delegate(self, name: str, ids: tuple[int, int]) -> Any:
        """Authenticate a delegate of the owner with this name; the row of the caller. Raises NotADelegate (403)."""
        key = as_id(name)
        statement = AUTHENTICATE_DELEGATE[NAMED_BY_USERNAME if key is None else NAMED_BY_ID]
        row = self.fetch(statement, [metadata(None, self.request), name if key is None else key, *ids])
        owner_id, username, role = row[len(USER_COLUMNS) : len(USER_COLUMNS) + 3]
        if owner_id is None:
            self.request._request.refused_delegate = ids[1]  # type: ignore[attr-defined]  # for the access log
            raise NotADelegate
        self.owner = RecordOwner(owner_id, username, role or None)
        if role:
            if len(known_owners) >= MOST_KNOWN_OWNERS:
                known_owners.clear()
            known_owners[name] = (owner_id, username)
        return row
