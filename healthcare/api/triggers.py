"""The triggers that delete expired idempotency records, which their callers may not delete."""

import pgtrigger

from healthcare.triggers import DatabaseTrigger


class ExpiredRecordsTrigger(DatabaseTrigger):
    """After an INSERT into the model's table, deletes up to 100 expired idempotency records, of any caller.

    A record may hold health data and must not stay because its caller never comes back. A transaction never waits for
    another that deletes the same records. The keys are an array, since PostgreSQL may execute a subquery of IN, and its
    LIMIT, once for each row.
    """

    name = "delete_expired_idempotency_records"
    when = pgtrigger.After
    operation = pgtrigger.Insert
    level = pgtrigger.Statement
    security_definer = True
    func = """
    DELETE FROM api_idempotencyrecord WHERE digest = ANY (ARRAY(
        SELECT digest FROM api_idempotencyrecord WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED));
    RETURN NULL;
"""


class ReplaceExpiredRecordTrigger(DatabaseTrigger):
    """Before an INSERT, deletes the same caller's expired record of the same key.

    A privilege to DELETE would also allow the role of API requests to lock the table against everybody. The minute is
    for the clocks: the application has found the record expired by its own.
    """

    name = "replace_expired_record"
    when = pgtrigger.Before
    operation = pgtrigger.Insert
    security_definer = True
    func = """
    DELETE FROM api_idempotencyrecord
    WHERE digest = NEW.digest AND user_id IS NOT DISTINCT FROM NEW.user_id
    AND expires_at <= clock_timestamp() + interval '1 minute';
    RETURN NEW;
"""
