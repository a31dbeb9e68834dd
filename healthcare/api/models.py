"""Idempotency records: the stored answers to POST requests of all domains."""

from datetime import timedelta
from http import HTTPStatus

from django.conf import settings
from django.db import models
from django.utils import timezone

from healthcare.api.triggers import ExpiredRecordsTrigger, ReplaceExpiredRecordTrigger
from healthcare.operations.request_ids import LONGEST_REQUEST_ID
from healthcare.operations.tidying import ExpiringRows


class IdempotencyRecordQuerySet(models.QuerySet["IdempotencyRecord"]):
    def erase_answers(self) -> int:
        """Empty these answers, and return their number. The requests are still not executed again, but answered 410."""
        return self.update(status=HTTPStatus.GONE, headers={}, body="")

    def withdraw_answers(self) -> int:
        """Empty these answers, which are about records that have another owner now, and return their number. The
        requests are still not executed again, but answered 404."""
        return self.update(status=HTTPStatus.NOT_FOUND, headers={}, body="")


# Of the request that adds the row, as `rls.context` sets it; empty outside of requests.
REQUEST_ID_SQL = "coalesce(nullif(current_setting('pghistory.context_metadata', true), '')::jsonb ->> 'request_id', '')"


class IdempotencyRecord(models.Model):
    """The answer to a POST with an `Idempotency-Key`, returned again when the client repeats the request.

    It may hold health data, so only its caller can read it, and `ExpiredRecordsTrigger` deletes it after a day.
    The key and the request are stored only as hashes keyed with SECRET_KEY.
    """

    LIFETIME = timedelta(hours=24)

    digest = models.CharField(max_length=64, primary_key=True, help_text="Of the caller and the key.")
    fingerprint = models.CharField(max_length=64, help_text="Of the request: method, path and body.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, db_index=False)
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    body = models.TextField(blank=True)
    expires_at = models.DateTimeField(db_index=True)
    # Names the answer in the history, so that an erasure finds the answers about a person.
    request_id = models.CharField(
        max_length=LONGEST_REQUEST_ID, db_default=models.Func(template=REQUEST_ID_SQL, output_field=models.CharField())
    )

    objects = IdempotencyRecordQuerySet.as_manager()

    class Meta:
        triggers = [ExpiredRecordsTrigger(), ReplaceExpiredRecordTrigger()]

    def __str__(self) -> str:
        return self.digest

    @property
    def erased(self) -> bool:
        """Whether an erasure has emptied the answer: see `erase_answers`."""
        return self.status == HTTPStatus.GONE

    @property
    def withdrawn(self) -> bool:
        """Whether the answer is about a record that has another owner now: see `withdraw_answers`."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def expired(self) -> bool:
        return self.expires_at <= timezone.now()


# An answer is repeated, or stays erased (410), until `expires_at`.
EXPIRED_RECORDS = ExpiringRows(
    "idempotency records",
    IdempotencyRecord,
    lambda: models.Q(expires_at__lte=timezone.now() - settings.RETENTION_IDEMPOTENCY_RECORDS),
)
