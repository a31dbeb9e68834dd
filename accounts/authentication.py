"""Bearer tokens (RFC 6750): the access token of a login, or a personal access token. Either is valid only while its
session is live and its user active."""

import time
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from django.db import connection
from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import Token

from accounts.limits import user_key
from accounts.login_session_sql import LIVE_SESSION_FROM, LIVE_SESSION_SQL, LIVE_SESSION_WHERE, LIVE_USER_WHERE
from accounts.models import LoginSession, User
from accounts.personal_tokens.format import PREFIX, read_token
from accounts.tokens import AccessToken, session_and_user_ids
from healthcare.api.acting_for import OWN_RECORDS, ROLES, NotADelegate, as_id, owner_in_header
from healthcare.api.token_scopes import WRITE, check_token
from healthcare.coverage import covered_by_fast_path
from healthcare.ownership import RecordOwner
from healthcare.rls.context import ENTER, PLANNED_ONCE, SETTINGS, Entry, enter, metadata

SESSION_ENDED = "The session has ended; log in again."
CONFINED_ELSEWHERE = (
    "This token works on the records of one owner alone; leave `X-Acting-For` out, or use another token."
)
# In the order of the model's fields, which `User.from_db` requires.
USER_COLUMNS = [
    field.attname
    for field in User._meta.concrete_fields
    if field.name not in {"last_login", "is_clinic", "created_at", "pending_email"}
]
METADATA = "(%s::jsonb || jsonb_build_object('actor', u.id))::text"
USER_COLUMNS_SQL = ", ".join(f"u.{column}" for column in USER_COLUMNS)
OWN_SETTINGS = {"owner": "''", "role": "''"}  # the settings of a caller who acts for nobody
# One statement finds the live session and its active user, and sets the role and the caller's id for the transaction.
AUTHENTICATE = f"""
SELECT {USER_COLUMNS_SQL}, {ENTER.format(caller="u.id::text", metadata=METADATA, **OWN_SETTINGS)}
{LIVE_SESSION_SQL}
"""  # noqa: S608  (constants alone)
# For a delegate or a personal access token, the statement also joins the owner whom the condition `{named}` selects,
# and the role of the delegation. It finds none without a working delegation, which callers who name themselves do not
# need, and none but the owner to whom a token is confined.
JOIN_OWNER = """LEFT JOIN LATERAL (
    SELECT owner.id, owner.username, CASE WHEN owner.id = u.id THEN '' ELSE delegation.role END AS role
    FROM accounts_user owner LEFT JOIN accounts_delegation delegation ON delegation.owner_id = owner.id
        AND delegation.delegate_id = u.id AND delegation.revoked_at IS NULL
        AND (delegation.expires_at IS NULL OR delegation.expires_at > now())
    WHERE {named} AND owner.is_active AND (owner.id = u.id OR delegation.id IS NOT NULL)
) acting ON true"""
CONFINED = "(s.secret_hash IS NULL OR s.acting_for IS NULL OR s.acting_for = owner.id)"
NAMED_BY_ID, NAMED_BY_USERNAME, NAMED_BY_BOTH = (
    f"owner.id = %s AND {CONFINED}",
    f"lower(owner.username) = %s AND {CONFINED}",
    f"owner.id = %s AND owner.username = %s AND delegation.role = ANY (%s::text[]) AND {CONFINED}",
)
# For tokens alone: the owner to whom the token is confined, or the caller; the caller, who also owns their account; and
# the caller unless the token is confined.
NAMED_BY_TOKEN, NAMED_BY_ACCOUNT, NAMED_SELF = (
    "owner.id = coalesce(s.acting_for, u.id)",
    "owner.id = u.id",
    f"owner.id = u.id AND {CONFINED}",
)
# Without an owner the id is 0, to whom no row belongs.
OWNER_ID = "coalesce(acting.id, 0)::text"
# With a token of the scope `read`, policies refuse what a delegate with the role `read` may not write either. On their
# own records they know no role: there `check_token` alone decides.
OWNER_ROLE = "CASE WHEN s.scope = 'read' AND acting.role <> '' THEN 'read' ELSE coalesce(acting.role, '') END"


def live_session_with_owner(named: str, where: str = LIVE_SESSION_WHERE) -> str:
    """LIVE_SESSION_SQL with the owner in `acting`. The parameters of `named` come before those of the session."""
    return f"{LIVE_SESSION_FROM} {JOIN_OWNER.format(named=named)}\n{where}"


AUTHENTICATE_DELEGATE = {
    named: f"""
SELECT {USER_COLUMNS_SQL}, acting.id, acting.username, acting.role, s.scope, s.acting_for,
    {ENTER.format(caller="u.id::text", metadata=METADATA, owner=OWNER_ID, role=OWNER_ROLE)}
{live_session_with_owner(named)}
"""  # noqa: S608  (constants alone)
    for named in (NAMED_BY_ID, NAMED_BY_USERNAME, NAMED_BY_TOKEN, NAMED_BY_ACCOUNT, NAMED_SELF)
}
# For another connection that a request uses. The session has just been found in use, so nothing is written.
ENTER_AGAIN = f"""
SELECT {ENTER.format(caller="u.id::text", metadata=METADATA, owner=OWNER_ID, role=OWNER_ROLE)}
{live_session_with_owner(NAMED_BY_ID, LIVE_USER_WHERE)} AND acting.id IS NOT NULL
"""  # noqa: S608  (constants alone)
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
# Caches of this process. The statement of the fast path compares what they hold with the database, so an outdated entry
# sends a request to the standard path.
known_owners: dict[str, tuple[int, str]] = {}  # whom callers have acted for: id and username by the name in the request
known_tokens: dict[str, "KnownToken"] = {}  # personal access tokens that were found live, by the hash of their secret
MOST_KNOWN = 4096  # of either
remembering = Lock()


@dataclass(frozen=True)
class KnownToken:
    """What never changes about a personal access token: to change it, end the token and create another one."""

    user_id: int
    scope: str
    acting_for: int | None  # the owner to whom it is confined


@dataclass(frozen=True)
class Bearer:
    """What a request has sent as its token: the signed ids of a login, or the parts of a personal access token, which
    prove nothing until the database knows the hash of the secret."""

    session_id: int
    user_id: int
    secret_hash: str | None = None  # None for a login
    acting_for: str = OWN_RECORDS  # the owner whom a login acts for

    @property
    def parameters(self) -> list[Any]:
        """The parameters of LIVE_SESSION_WHERE."""
        return [self.session_id, self.user_id, self.secret_hash]


def remember(cache: dict[str, Any], name: str, value: Any) -> None:
    with remembering:
        if len(cache) >= MOST_KNOWN:
            cache.clear()
        cache[name] = value


@lru_cache(maxsize=4096)
def decode_token(raw: bytes) -> AccessToken:
    """The decoded token. Raises TokenError unless it is valid; a cached result may have expired since."""
    return AccessToken(raw)  # type: ignore[arg-type]


def bearer_of(token: Token) -> Bearer | None:
    """The ids in the verified access token of a login; None when a claim is not an id."""
    ids = session_and_user_ids(token)
    return Bearer(*ids, acting_for=str(token.get("acting_for") or OWN_RECORDS)) if ids else None


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
        bearer = self.read_bearer(request)
        if bearer is None:
            enter(None, request)
            return None
        self.bearer = bearer
        session = LoginSession(pk=bearer.session_id, user_id=bearer.user_id)
        user = self.find_user(bearer, session)
        request._request.record_owner = self.owner  # type: ignore[attr-defined]
        return user, session

    def read_bearer(self, request: HttpRequest | Request) -> Bearer | None:
        """The token of the request; None without one. Raises AuthenticationFailed (401) for one that is not valid."""
        header = self.get_header(request)  # type: ignore[arg-type]
        raw = self.get_raw_token(header) if header else None
        if raw is None:
            return None
        if raw.startswith(PREFIX.encode()):
            token = read_token(raw.decode("latin-1"))
            if token is None:
                raise AuthenticationFailed(
                    "The token is not complete; send it as it was shown.", code="token_not_valid"
                )
            return Bearer(token.session_id, token.user_id, token.secret_hash)
        bearer = bearer_of(self.get_validated_token(raw))
        if bearer is None:
            raise AuthenticationFailed(SESSION_ENDED, code="session_ended")
        return bearer

    def entry(
        self, request: HttpRequest, *, writes: bool = False, role: str | None = None, by_tokens: bool = True
    ) -> Entry | None:
        """How a request of the fast path enters the database, in the round trip of its statement.

        `role` is the role that a delegate needs; None where the action ignores X-Acting-For. `by_tokens` is whether
        personal access tokens may do it. Returns None where only standard DRF can answer: for an owner or a token that
        the caches do not have, and for what a token may not do.
        Raises AuthenticationFailed (401) for a token that is not valid, and ValidationError (400) for a bad
        X-Change-Reason or X-Acting-For. Only the statement itself checks session and delegation.
        """
        bearer = self.read_bearer(request)
        if bearer is None:
            return Entry(READ_AS_ANONYMOUS, [], None, RecordOwner(None))
        caller = bearer.user_id
        name = OWN_RECORDS if role is None else self.requested_owner(request, bearer)
        if bearer.secret_hash is not None:
            token = known_tokens.get(bearer.secret_hash)
            if token is None or not by_tokens or (writes and token.scope != WRITE):
                return None
            if role is not None and token.acting_for is not None:
                if owner_in_header(request) is not None:
                    return None
                name = str(token.acting_for)
        if name in {OWN_RECORDS, str(caller)}:
            parameters = [*bearer.parameters, *([metadata(caller, request)] if writes else [])]
            return Entry(WRITE_AS_CALLER if writes else READ_AS_CALLER, parameters, caller, RecordOwner(caller))
        known_owner = known_owners.get(name)  # looked up once: another thread may clear them
        if role is None or known_owner is None:
            return None
        owner_id, username = known_owner
        delegation = [owner_id, username, [*ROLES[ROLES.index(role) :]]]
        parameters = [metadata(caller, request)] if writes else []
        sql = WRITE_AS_DELEGATE if writes else READ_AS_DELEGATE
        owner = RecordOwner(owner_id, username, role)
        return Entry(sql, [*parameters, *delegation, *bearer.parameters], caller, owner)

    @staticmethod
    def requested_owner(request: HttpRequest | Request, bearer: Bearer) -> str:
        """The owner whom the request acts for: the one in its header, else that of the login; OWN_RECORDS for
        neither."""
        name = owner_in_header(request)
        return bearer.acting_for if name is None else name

    def caller_of_ended_session(self, request: Request) -> tuple[int, int] | None:
        """The ids of the user and the session in a valid token, whether the session is live or not; None without one.

        They prove who the caller was, unlike those in a personal access token. The one use is to repeat the answer to a
        logout.
        """
        try:
            bearer = self.read_bearer(request)
        except AuthenticationFailed:
            return None
        return (bearer.user_id, bearer.session_id) if bearer and bearer.secret_hash is None else None

    def enter_again(self, request: HttpRequest | Request) -> None:
        """Enter the database on another connection, as the caller of a request that has been authenticated.

        Raises AuthenticationFailed (401) if the session or the delegation has ended since. The access token may have
        expired meanwhile.
        """
        owner = self.owner or RecordOwner(self.bearer.user_id)
        with connection.cursor() as cursor:
            cursor.execute(ENTER_AGAIN, [metadata(None, request), owner.pk, *self.bearer.parameters])
            if cursor.fetchone() is None:
                raise self.session_ended(request)

    def session_ended(self, request: HttpRequest | Request) -> AuthenticationFailed:
        """The 401 for a session that the database did not find live. A token is then forgotten here, so that the
        general limit no longer counts its requests by its user."""
        try:
            bearer = self.read_bearer(request)
        except AuthenticationFailed:
            bearer = None
        if bearer is None or bearer.secret_hash is None:
            return AuthenticationFailed(SESSION_ENDED, code="session_ended")
        known_tokens.pop(bearer.secret_hash, None)
        return AuthenticationFailed("The token is unknown or has ended; create a new one.", code="token_not_valid")

    @staticmethod
    def load_user(user_id: int) -> User:
        return User.objects.get(pk=user_id)

    def session_of(self, request: HttpRequest) -> LoginSession | None:
        """The session of a request that the fast path has answered, as `authenticate` gives it."""
        bearer = self.read_bearer(request)
        if bearer is None:
            return None
        session = LoginSession(pk=bearer.session_id, user_id=bearer.user_id)
        if bearer.secret_hash is not None and (token := known_tokens.get(bearer.secret_hash)):
            session.kind, session.secret_hash = LoginSession.Kind.TOKEN, bearer.secret_hash
            session.scope, session.acting_for = token.scope, token.acting_for
        return session

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

    def find_user(self, bearer: Bearer, session: LoginSession) -> User:
        """The user of the live session, as whom the transaction goes on.

        Raises AuthenticationFailed (401) without one, NotADelegate (403), and for what a personal access token may not
        do NotByToken and InsufficientScope (403).
        """
        view = (self.request.parser_context or {}).get("view")
        acts = getattr(view, "acts_for_owner", False)
        name = self.requested_owner(self.request, bearer) if acts else OWN_RECORDS
        is_own = name in {OWN_RECORDS, str(bearer.user_id)}
        if bearer.secret_hash is None:
            row = self.fetch(AUTHENTICATE, bearer) if is_own else self.fetch_delegate(name, bearer)
        else:
            row = self.fetch_with_token(bearer, session, view, name, is_own=is_own)
        if self.owner is None:
            self.owner = RecordOwner(bearer.user_id)
        return User.from_db(connection.alias, USER_COLUMNS, row[: len(USER_COLUMNS)])

    def fetch_with_token(self, bearer: Bearer, session: LoginSession, view: Any, name: str, *, is_own: bool) -> Any:
        """Authenticate by a personal access token, and complete the session; the row of the caller."""
        if not getattr(view, "acts_for_owner", False):
            row = self.fetch(AUTHENTICATE_DELEGATE[NAMED_BY_ACCOUNT], bearer)
        elif owner_in_header(self.request) is None:
            row = self.fetch_owner(NAMED_BY_TOKEN, bearer)
        elif is_own:
            row = self.fetch_owner(NAMED_SELF, bearer)
        else:
            row = self.fetch_delegate(name, bearer)
        self.request._request.caller = user_key(bearer.user_id)  # type: ignore[attr-defined]  # for the access log
        session.kind, session.secret_hash = LoginSession.Kind.TOKEN, bearer.secret_hash
        session.scope, session.acting_for = row[len(USER_COLUMNS) + 3 : len(USER_COLUMNS) + 5]
        remember(known_tokens, str(bearer.secret_hash), KnownToken(bearer.user_id, session.scope, session.acting_for))
        check_token(view, self.request.method, session.scope)
        return row

    def fetch(self, statement: str, bearer: Bearer, named: tuple[Any, ...] = ()) -> Any:
        """Run a statement that authenticates. Raises AuthenticationFailed (401) unless it finds the live session."""
        with connection.cursor() as cursor:
            cursor.execute(statement, [metadata(None, self.request), *named, *bearer.parameters])
            row = cursor.fetchone()
        if row is None:
            raise self.session_ended(self.request)
        return row

    def fetch_delegate(self, name: str, bearer: Bearer) -> Any:
        """Authenticate a delegate of the owner with this name; the row of the caller. Raises NotADelegate (403)."""
        key = as_id(name)
        if key is None:
            return self.fetch_owner(NAMED_BY_USERNAME, bearer, name)
        return self.fetch_owner(NAMED_BY_ID, bearer, key)

    def fetch_owner(self, named: str, bearer: Bearer, *names: Any) -> Any:
        row = self.fetch(AUTHENTICATE_DELEGATE[named], bearer, names)
        owner_id, username, role = row[len(USER_COLUMNS) : len(USER_COLUMNS) + 3]
        if owner_id is None:
            self.request._request.refused_delegate = bearer.user_id  # type: ignore[attr-defined]  # for the access log
            is_confined = bearer.secret_hash is not None and row[len(USER_COLUMNS) + 4] is not None
            elsewhere = is_confined and owner_in_header(self.request) is not None
            raise NotADelegate(CONFINED_ELSEWHERE if elsewhere else None)
        self.owner = RecordOwner(owner_id, username, role or None)
        if role:
            remember(known_owners, str(names[0]) if names else str(owner_id), (owner_id, username))
        return row
