"""Verifying the seals from a button: what was sealed since the last verification, as far as a request has time."""

import logging
import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from audit.models import Seal
from audit.seals import TamperingError, seal_key, seals
from audit.tables import sealed_tables
from audit.verification import Verifier

MOST_SECONDS = 5  # that a request may take for it; `verify_audit` has no limit
# Of an advisory lock: a number that nothing else in this database uses.
RUNNING = 0x5EA1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a verification. `state` is ok, partly (there was no time for the rest), tampered or refused."""

    state: str
    text: str


def verify_in_request(user: Any) -> Outcome:
    """Verify, and record who did and with which result. Nothing is verified without a key, on a database that cannot
    be written to, since there the result cannot be recorded, and while another request verifies."""
    if not settings.AUDIT_SEAL_KEY:
        return Outcome(
            "refused", "AUDIT_SEAL_KEY is not set here: ask an operator to run manage.py verify_audit with it."
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_read_only') = 'on'")
        if cursor.fetchone()[0]:
            text = "This database is read-only, such as a standby: verify the seals on the primary server."
            return Outcome("refused", text)
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [RUNNING])
        if not cursor.fetchone()[0]:
            return Outcome("refused", "Another verification is running: try again in a few seconds.")
    last = Seal.objects.order_by("-id").values_list("id", flat=True).first()
    try:
        outcome = verify_new_seals(time.monotonic() + MOST_SECONDS)
    except TamperingError as error:
        outcome = Outcome("tampered", str(error))
        logger.error("A verification from the admin failed: %s", error)
    record_verification(user, last, outcome)
    return outcome


def verify_new_seals(deadline: float) -> Outcome:
    """Verify one seal at least, and others until the deadline. Raises TamperingError."""
    verifier = Verifier(seal_key(), sealed_tables())
    verifier.resume()
    since, complete = verifier.seal_id, True
    for seal in seals(since):
        if verifier.seal_id != since and time.monotonic() > deadline:
            complete = False
            break
        verifier.verify(seal)
    verifier.check_end()
    unsealed = verifier.check_unsealed(deadline) if complete else 0
    with transaction.atomic():
        verifier.set_mark()
    before = f" Those up to seal {since} were verified before." if since else ""
    if complete:
        return Outcome("ok", verifier.summary(unsealed) + before)
    rest = "press the button again, or ask an operator to run manage.py verify_audit, for the rest."
    text = f"{verifier.verified_rows} sealed rows are unaltered, up to seal {verifier.seal_id}.{before}"
    return Outcome("partly", f"{text} There was no time for more: {rest}")


def record_verification(user: Any, last: int | None, outcome: Outcome) -> None:
    """Log it in the admin's log, at the last seal: the list of seals shows the latest verification."""
    verdict = {"ok": "Verified", "partly": "Verified in part", "tampered": "TAMPERING FOUND"}[outcome.state]
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(Seal),
        object_id=str(last or ""),
        object_repr=f"seal {last}" if last else "no seal",
        action_flag=CHANGE,
        change_message=f"{verdict}: {outcome.text}",
    )


def last_verification() -> LogEntry | None:
    entries = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Seal), action_flag=CHANGE)
    return entries.select_related("user").order_by("-id").first()
