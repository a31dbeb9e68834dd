"""A form that is sent twice, by a double click or by reloading the answer, is saved once.

Each form carries a random token. The path that a save redirects to is stored under a hash of the token and of all that
was sent, as the API stores the answers to requests with an `Idempotency-Key`. The query string is not stored, since it
may hold a search for a name. Of a record that was added in a popup the key is stored. Sent again with another value, as
after the browser's Back, the form is another request.
"""

import secrets
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from django.db import connection
from django.db.models import Model
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.crypto import salted_hmac

from healthcare.api.models import IdempotencyRecord

SUBMISSION_FIELD = "_submission"
LONGEST_TOKEN = 100
LOCATION, ADDED = (
    "Location",
    "Added",
)  # what is stored: a path, or the key of the added record
NOT_COMPARED = {"csrfmiddlewaretoken", "_save", "_continue", "_addanother"}  # differ between two clicks on one form


def new_token() -> str:
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Submission:
    digest: str
    user_id: int

    @classmethod
    def of(cls, request: HttpRequest) -> Self | None:
        """That of a request whose form has a token."""
        token = request.POST.get(SUBMISSION_FIELD, "")
        if not token or len(token) > LONGEST_TOKEN:
            return None
        sent = sorted((name, values) for name, values in request.POST.lists() if name not in NOT_COMPARED)
        user_id = request.user.pk or 0
        digest = salted_hmac("admin submission", f"{user_id} {request.path} {sent}", algorithm="sha256").hexdigest()
        return cls(digest, user_id)

    def claim(self) -> dict[str, str]:
        """Wait for the same submission to end, and return what was stored of it, empty unless it was saved."""
        with connection.cursor() as cursor:
            # A statement of its own, because the next one must see what the previous holder has committed.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(self.digest[:16], 16) - 2**63])
        record = IdempotencyRecord.objects.filter(pk=self.digest).first()
        return dict(record.headers) if record and not record.expired else {}

    def store(self, response: HttpResponseBase, added: Model | None) -> None:
        """`added` is the record that was added, if one was."""
        redirects = response.status_code == 302
        if redirects or added:
            IdempotencyRecord.objects.create(
                digest=self.digest,
                fingerprint=self.digest,
                user_id=self.user_id,
                status=response.status_code,
                headers={LOCATION: urlsplit(response["Location"]).path} if redirects else {ADDED: str(added.pk)},  # type: ignore[union-attr]
                expires_at=timezone.now() + IdempotencyRecord.LIFETIME,
            )
