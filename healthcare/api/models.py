"""Idempotency records: the stored answers to POST requests of all domains."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

from healthcare.api.triggers import ExpiredRecordsTrigger, ReplaceExpiredRecordTrigger


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

    class Meta:
        triggers = [ExpiredRecordsTrigger(), ReplaceExpiredRecordTrigger()]

    def __str__(self) -> str:
        return self.digest

    @property
    def expired(self) -> bool:
        return self.expires_at <= timezone.now()
