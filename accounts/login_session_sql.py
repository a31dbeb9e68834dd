"""SQL about login sessions, for statements that must cost one round trip: rotate a refresh token, find a live session,
and record its use."""

from datetime import timedelta

from django.conf import settings

from healthcare.database_objects import DatabaseObject, declare

REPLAY_GRACE = timedelta(seconds=10)  # in which the refresh token before the current one still works
USE_RECORDED_AFTER = min(timedelta(hours=1), settings.SESSION_IDLE_TIME / 4)
# As `LoginSession.objects.live()`. A test compares the two.
LIVE_SQL = "s.revoked_at IS NULL AND s.expires_at > now()"
IDLE_TIME_SQL, USE_RECORDED_AFTER_SQL = (
    f"interval '{period.total_seconds():.0f} seconds'" for period in (settings.SESSION_IDLE_TIME, USE_RECORDED_AFTER)
)
ROTATE = f"""
UPDATE accounts_loginsession AS s SET
    token_id = CASE WHEN s.token_id = %(token_id)s THEN %(new)s ELSE s.token_id END,
    previous_token_id = CASE WHEN s.token_id = %(token_id)s THEN s.token_id ELSE s.previous_token_id END,
    rotated_at = CASE WHEN s.token_id = %(token_id)s THEN now() ELSE s.rotated_at END,
    last_used_at = now(),
    revoked_at = CASE
        WHEN s.token_id = %(token_id)s THEN NULL
        WHEN s.previous_token_id = %(token_id)s AND s.rotated_at > now() - %(grace)s THEN NULL
        ELSE now() END
WHERE s.id = %(id)s AND s.user_id = %(user_id)s AND s.secret_hash IS NULL AND {LIVE_SQL}
    AND s.last_used_at > now() - {IDLE_TIME_SQL}
    AND EXISTS (SELECT FROM accounts_user u WHERE u.id = s.user_id AND u.is_active)
RETURNING s.token_id, s.rotated_at, s.expires_at, s.revoked_at, s.acting_for
"""  # noqa: S608  (constants alone)
# Stores that a session is in use, with the caller's rights, so only of an own session. It waits for no lock: another
# transaction that holds it stores the same.
RECORD_SESSION_USE = declare(
    DatabaseObject(
        "accounts",
        "record_session_use",
        """
CREATE OR REPLACE FUNCTION record_session_use(session_id bigint) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE accounts_loginsession SET last_used_at = now() WHERE id IN (
        SELECT s.id FROM accounts_loginsession s WHERE s.id = session_id FOR NO KEY UPDATE SKIP LOCKED);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION record_session_use(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION record_session_use(bigint) TO healthcare_api;
""",
        "DROP FUNCTION record_session_use(bigint);",
    )
)
# For the authentication statement, which plans once: the session `s` with the first parameter's id and its user `u`
# with the second's. The third is the hash of the session's secret, NULL for a login, whose tokens are signed. CASE
# evaluates in order, so a request writes only if none has written for USE_RECORDED_AFTER, and an idle login is not
# revived.
LIVE_SESSION_FROM = "FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id"
LIVE_USER_WHERE = f"""WHERE s.id = %s AND u.id = %s AND s.secret_hash IS NOT DISTINCT FROM %s
    AND {LIVE_SQL} AND u.is_active"""
LIVE_SESSION_WHERE = f"""{LIVE_USER_WHERE} AND CASE
    WHEN s.last_used_at > now() - {USE_RECORDED_AFTER_SQL} THEN true
    WHEN s.secret_hash IS NOT NULL OR s.last_used_at > now() - {IDLE_TIME_SQL} THEN record_session_use(s.id)
    ELSE false END"""
LIVE_SESSION_SQL = f"{LIVE_SESSION_FROM}\n{LIVE_SESSION_WHERE}"
