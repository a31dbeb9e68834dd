"""The trigger that deletes expired idempotency records."""

import pgtrigger

from healthcare.triggers import DatabaseTrigger


class ExpiredRecordsTrigger(DatabaseTrigger):
    """After an INSERT into the model's table, deletes up to 100 expired idempotency records, of any caller.

    A record may hold health data and must not stay because its caller never comes back. A transaction never waits for
    another that deletes the same records.
    """

    name = "delete_expired_idempotency_records"
    when = pgtrigger.After
    operation = pgtrigger.Insert
    level = pgtrigger.Statement
    security_definer = True
    func = """
    DELETE FROM api_idempotencyrecord WHERE digest IN (
        SELECT digest FROM api_idempotencyrecord WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED);
    RETURN NULL;
"""
