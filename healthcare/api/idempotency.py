"""The `Idempotency-Key` header (IETF draft-ietf-httpapi-idempotency-key-header): a POST sent again happens once.

The key is kept in the transaction of the write, so that there is never one without the other. The same request from the
same caller answers what it answered first, with `Idempotency-Replayed: true`; another request with that key is a 422,
and one that is still under way a 409, at once: nobody waits for a lock.

Only 2xx are kept. An error has undone its transaction, so the key was never used: a retry is processed as the first
one, with a body put right, too. Tokens are never kept, so login and refresh ignore the header: a login sent again
starts one more session, which ends by itself, and a refresh token works once anyway. Without a login, to register, the
caller is whoever sends the same body, password included: nobody meets another's key.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from django.db import connection
from django.utils import timezone
from django.utils.crypto import salted_hmac
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException, ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from healthcare.api.models import IdempotencyRecord

HEADER = "Idempotency-Key"
BARE = re.compile(r"[!#-~][!-~]{0,254}", re.ASCII)
QUOTED = re.compile(r'"([!#-\[\]-~]|\\["\\]){1,255}"', re.ASCII)  # a string of RFC 9651, without blanks
KEPT_HEADERS = ("ETag", "Location")
PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "pattern": f"^({BARE.pattern}|{QUOTED.pattern})$"},
    OpenApiParameter.HEADER,
    description="Makes it safe to send this again: for 24 hours the same request with the same key answers what it "
    "answered first, with `Idempotency-Replayed: true`, and nothing happens twice. Use a new UUID for each request. "
    "422 when the key came with another request before, 409 while that one is under way.",
)
REPLAYED = {
    "description": "`true` when this is the answer of the first time, by its `Idempotency-Key`.",
    "schema": {"const": "true"},
}


def taken_by(operation: dict[str, Any]) -> bool:
    """Whether an OpenAPI operation takes the header."""
    return any(parameter["name"] == HEADER for parameter in operation.get("parameters", []))


class Replayed(Exception):  # noqa: N818  (no error: the request was answered before)
    """Leaves the view with the answer of the first time; the exception handler gives it out."""

    def __init__(self, kept: IdempotencyRecord) -> None:
        body = json.loads(kept.body) if kept.body else None
        self.response = Response(body, kept.status, headers={**kept.headers, "Idempotency-Replayed": "true"})


class KeyReused(APIException):
    status_code = 422
    default_detail = "This Idempotency-Key came with another request before; use a new one."


class UnderWay(APIException):
    status_code = 409
    default_detail = "The first request with this Idempotency-Key is still under way; try again soon."
    wait = 1  # seconds, for Retry-After


@dataclass(frozen=True)
class Key:
    """The key of one request: hashes of whose it is and of what it is for."""

    digest: str
    fingerprint: str
    user_id: int | None

    @classmethod
    def of(cls, request: Request) -> Self | None:
        """The key that came with the request, or None. Call it before `request.data`. ParseError (400) on a bad one."""
        header = request.headers.get(HEADER)
        if header is None:
            return None
        value = read(header)
        # With the key in it, which is not kept, a password in the body cannot be guessed from the fingerprint.
        fingerprint = hashed(value, str(request.method), request.get_full_path(), request._request.body.hex())
        caller = f"user {request.user.pk}" if request.user.pk else f"body {fingerprint}"
        return cls(hashed(value, caller), fingerprint, request.user.pk)

    def claim(self) -> None:
        """Take the key until the transaction ends. Raises Replayed, KeyReused (422) or UnderWay (409)."""
        with connection.cursor() as cursor:
            # Of the transaction, so that it works behind PgBouncer; and a statement of its own, because the next one
            # must see what its last holder has committed.
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int(self.digest[:16], 16) - 2**63])
            if not cursor.fetchone()[0]:
                raise UnderWay
        kept = IdempotencyRecord.objects.filter(pk=self.digest).first()
        if kept is None:
            return
        if not kept.expired:
            raise Replayed(kept) if kept.fingerprint == self.fingerprint else KeyReused
        kept.delete()

    def keep(self, response: Response) -> None:
        """Keep a 2xx answer, in the transaction of the claim."""
        if not 200 <= response.status_code < 300:
            return
        IdempotencyRecord.objects.create(
            digest=self.digest,
            fingerprint=self.fingerprint,
            user_id=self.user_id,
            status=response.status_code,
            headers={name: response[name] for name in KEPT_HEADERS if name in response},
            body="" if response.data is None else JSONRenderer().render(response.data).decode(),
            expires_at=timezone.now() + IdempotencyRecord.LIFETIME,
        )


def read(header: str) -> str:
    """The key in the header's value, quoted as the draft has it or bare. ParseError (400) with a fixed text."""
    if QUOTED.fullmatch(header):
        return re.sub(r"\\(.)", r"\1", header[1:-1])
    if not BARE.fullmatch(header):
        raise ParseError(f"{HEADER} must be 1 to 255 visible ASCII characters, quoted or not.")
    return header


def hashed(*parts: str) -> str:
    """An HMAC-SHA256 of the parts, keyed by SECRET_KEY, in hex."""
    return salted_hmac("healthcare.api.idempotency", json.dumps(parts), algorithm="sha256").hexdigest()


def once(key: Key | None, write: Callable[[], Response]) -> Response:
    """Answer by `write`, once for the key. For a view that opens its own transaction, around this."""
    if key is None:
        return write()
    key.claim()
    response = write()
    key.keep(response)
    return response


class IdempotentMixin(APIView):
    """Gives every POST of a view the header. The whole request must be one transaction (ATOMIC_REQUESTS)."""

    key: Key | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        key = Key.of(request) if request.method == "POST" else None
        if key:
            key.claim()
            self.key = key  # from here on it is ours to keep

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        if self.key:
            self.key.keep(final)
        return final
