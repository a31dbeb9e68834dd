"""The `Idempotency-Key` header (IETF draft-ietf-httpapi-idempotency-key-header): a repeated POST is executed once.

The key is stored in the transaction of the write, so that neither exists without the other. The same request from the
same caller gets the first answer again, with `Idempotency-Replayed: true`. Another request with that key gets a 422. A
request whose first execution is still running gets a 409 at once: nothing waits for a lock.

Only 2xx answers are stored. An error has rolled its transaction back, so the key is unused: a retry is processed as the
first request, with a corrected body, too. Tokens are never stored, so login and refresh ignore the header. Without a
login, that is on registration, the caller is identified by the body, password included. Where the answer holds another
secret that is shown once, such as a personal access token, the header is refused: see `NoKeyMixin`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Self

from django.db import connection
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from healthcare.api.acting_for import owner_of
from healthcare.api.models import IdempotencyRecord
from healthcare.operations.metrics import count_idempotent_replay

KEY_HEADER = "Idempotency-Key"
BARE = re.compile(r"[!#-~][!-~]{0,254}", re.ASCII)
KEY_STRING = re.compile(r'"([!#-\[\]-~]|\\["\\]){1,255}"', re.ASCII)  # a string of RFC 9651, without blanks
DIGESTED_AT_ONCE = 64 * 1024  # bytes
STORED_HEADERS = ("ETag", "Location")
KEY_PARAMETER = OpenApiParameter(
    KEY_HEADER,
    {"type": "string", "pattern": f"^({BARE.pattern}|{KEY_STRING.pattern})$"},
    OpenApiParameter.HEADER,
    description="Makes the request safe to retry: for 24 hours, the same request with the same key returns the first "
    "answer with `Idempotency-Replayed: true` and is not executed again. Use a new UUID for each request. "
    "422: the key was used for another request. 409: the first request with the key is still running. 410: the data "
    "that it wrote has been erased. 404: the patient whom it was about has another owner now.",
)
REPLAYED = {
    "description": "`true` if this is the stored answer to the first request with the same `Idempotency-Key`.",
    "schema": {"const": "true"},
}


def accepts_key(operation: dict[str, Any]) -> bool:
    """Whether an OpenAPI operation accepts the header."""
    return any(parameter["name"] == KEY_HEADER for parameter in operation.get("parameters", []))


class AnsweredBefore(Exception):  # noqa: N818  (not an error: the request has been answered before)
    """Leaves the view with the stored answer, which the exception handler returns."""

    def __init__(self, record: IdempotencyRecord) -> None:
        count_idempotent_replay()
        body = json.loads(record.body) if record.body else None
        self.response = Response(body, record.status, headers={**record.headers, "Idempotency-Replayed": "true"})


class KeyReused(APIException):
    status_code = 422
    default_detail = "This Idempotency-Key was used for another request; send a new key."


class AnswerErased(APIException):
    status_code = 410
    default_detail = "What this request wrote has been erased; it is not executed again."


class FirstRequestRunning(APIException):
    status_code = 409
    default_detail = "The first request with this Idempotency-Key is still running; try again soon."
    wait = 1  # seconds, for Retry-After


@dataclass(frozen=True)
class Key:
    """The key of one request: a hash of the key with its caller, and a hash of the request."""

    digest: str
    fingerprint: str
    user_id: int | None

    @classmethod
    def of(
        cls,
        request: HttpRequest,
        user_id: int | None,
        session_id: int | None = None,
        *,
        acting_for: int | None = None,
        body: IO[bytes] | None = None,
    ) -> Self | None:
        """The key that a user sent with the request, or None. Call it before DRF reads the body.

        The same key is another one when the user acts for another owner, whose id is `acting_for`. With a `session_id`
        the same request from another login session is another request. `body` is the body of the request where a view
        has read it into a file. Raises ParseError (400) on a malformed key.
        """
        header = request.headers.get(KEY_HEADER)
        if header is None:
            return None
        value = read_idempotency_key(header)
        # The key is part of the fingerprint and not stored, so a password in the body cannot be guessed from it.
        session = () if session_id is None else (str(session_id),)
        content = request.body.hex() if body is None else digest_of_file(body)
        fingerprint = keyed_digest(value, str(request.method), request.get_full_path(), content, *session)
        caller = f"user {user_id}" if user_id else f"body {fingerprint}"
        if acting_for:
            caller += f" for {acting_for}"
        return cls(keyed_digest(value, caller), fingerprint, user_id)

    @property
    def lock_id(self) -> int:
        """The key of the advisory lock, a signed 64-bit integer."""
        return int(self.digest[:16], 16) - 2**63

    def claim(self) -> None:
        """Take the key until the transaction ends. Raises AnsweredBefore, NotFound (404), AnswerErased (410), KeyReused
        (422) or FirstRequestRunning (409)."""
        with connection.cursor() as cursor:
            # A transaction-level lock works behind PgBouncer. The lock is a statement of its own, because the next
            # statement must see what the previous holder has committed.
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [self.lock_id])
            if not cursor.fetchone()[0]:
                raise FirstRequestRunning
        record = IdempotencyRecord.objects.filter(pk=self.digest).first()
        if record is None or record.expired:
            return
        if record.fingerprint != self.fingerprint:
            raise KeyReused
        if record.withdrawn:
            raise NotFound
        raise AnswerErased if record.erased else AnsweredBefore(record)

    def replay(self) -> None:
        """Raise AnsweredBefore if this very request was. Takes no key, and ignores one of another request."""
        record = IdempotencyRecord.objects.filter(pk=self.digest, fingerprint=self.fingerprint).first()
        if record is not None and not record.expired:
            raise AnsweredBefore(record)

    def store(self, response: Response) -> None:
        """Store a 2xx answer, in the transaction of the claim. A trigger deletes the expired record of the same key."""
        if not 200 <= response.status_code < 300:
            return
        IdempotencyRecord.objects.create(
            digest=self.digest,
            fingerprint=self.fingerprint,
            user_id=self.user_id,
            status=response.status_code,
            headers={name: response[name] for name in STORED_HEADERS if name in response},
            body="" if response.data is None else JSONRenderer().render(response.data).decode(),
            expires_at=timezone.now() + IdempotencyRecord.LIFETIME,
        )


def read_idempotency_key(header: str) -> str:
    """The key in the header's value, with or without the quotes of the draft. Raises ParseError (400)."""
    if KEY_STRING.fullmatch(header):
        return re.sub(r"\\(.)", r"\1", header[1:-1])
    if not BARE.fullmatch(header):
        raise ParseError(f"{KEY_HEADER} must be 1 to 255 visible ASCII characters, quoted or not.")
    return header


def digest_of_file(file: IO[bytes]) -> str:
    """The SHA-256 of a file, from its start."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(DIGESTED_AT_ONCE):
        digest.update(chunk)
    return digest.hexdigest()


def keyed_digest(*parts: str) -> str:
    """An HMAC-SHA256 of the parts, keyed by SECRET_KEY, in hex."""
    return salted_hmac("healthcare.api.idempotency", json.dumps(parts), algorithm="sha256").hexdigest()


def execute_once(key: Key | None, write: Callable[[], Response]) -> Response:
    """Call `write` unless the key has been used. The caller, a view without ATOMIC_REQUESTS, opens the transaction."""
    if key is None:
        return write()
    key.claim()
    response = write()
    key.store(response)
    return response


class IdempotentMixin(APIView):
    """Accepts the header on every POST of a view. The whole request must be one transaction (ATOMIC_REQUESTS)."""

    actions_without_key: ClassVar[Set[str]] = frozenset()  # the POST actions that change nothing
    key: Key | None = None

    @classmethod
    def takes_key(cls, method: str | None, action: str | None) -> bool:
        return method == "POST" and action not in cls.actions_without_key

    def find_key(self, request: Request) -> Key | None:
        """The key of a POST by this caller for this owner, or None."""
        owner = owner_of(request)
        return Key.of(request._request, request.user.pk, acting_for=owner.pk if owner.role else None)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        takes_key = self.takes_key(request.method, getattr(self, "action", None))
        if takes_key and KEY_HEADER in request.headers:
            request._request.body  # noqa: B018  (reads it into memory, since DRF would consume the stream)
        super().initial(request, *args, **kwargs)
        key = self.find_key(request) if takes_key else None
        if key:
            key.claim()
            self.key = key  # claimed: `finalize_response` stores the answer

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        if self.key:
            self.key.store(final)
        return final


class NoKeyMixin(APIView):
    """Refuses the header (400) on every POST of a view whose answer holds a secret, which must not be stored.

    A client that sends the key relies on it: ignored, a repeated request would be executed twice.
    """

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and KEY_HEADER in request.headers:
            raise ParseError(
                f"Send this without {KEY_HEADER}: the answer holds a secret, and is not stored for a repeated request."
            )
