"""The rule that a clinic always has a manager, for every writer: the API, the admin, commands and psql."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from healthcare.database_objects import DatabaseObject, declare

# Constraint triggers: a clinic needs a permanent manager, an active user whose delegation has the role `manage` and no
# end. The row lock on the clinic serializes managers who leave at once: the second one waits, and sees that the first
# has left. The row lock on the remaining manager waits for a concurrent deactivation. They are checked after each
# statement, or at the end of `managers_checked_at_end`.
LAST_MANAGER = declare(
    DatabaseObject(
        "accounts",
        "last_manager",
        """
CREATE OR REPLACE FUNCTION check_last_manager() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    owners bigint[];
    clinic bigint;
BEGIN
    IF TG_TABLE_NAME = 'accounts_delegation' THEN
        owners := ARRAY[OLD.owner_id];
    ELSE
        owners := ARRAY(SELECT owner_id FROM accounts_delegation
            WHERE delegate_id = OLD.id AND role = 'manage' AND expires_at IS NULL AND revoked_at IS NULL);
    END IF;
    FOR clinic IN SELECT id FROM accounts_user WHERE id = ANY (owners) AND is_clinic ORDER BY id FOR NO KEY UPDATE LOOP
        PERFORM FROM accounts_delegation d JOIN accounts_user u ON u.id = d.delegate_id
        WHERE d.owner_id = clinic AND d.role = 'manage' AND d.expires_at IS NULL AND d.revoked_at IS NULL
            AND u.is_active
        LIMIT 1 FOR SHARE OF u;
        IF NOT FOUND THEN
            RAISE restrict_violation USING CONSTRAINT = 'last_manager',
            MESSAGE = 'A clinic needs a manager. First give another user the role manage, without an end.';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER last_manager AFTER UPDATE ON accounts_delegation DEFERRABLE INITIALLY IMMEDIATE
    FOR EACH ROW WHEN (
        OLD.role = 'manage' AND OLD.expires_at IS NULL AND OLD.revoked_at IS NULL AND (
            NEW.role <> 'manage' OR NEW.expires_at IS NOT NULL OR NEW.revoked_at IS NOT NULL
            OR NEW.owner_id <> OLD.owner_id OR NEW.delegate_id <> OLD.delegate_id)
    ) EXECUTE FUNCTION check_last_manager();
CREATE CONSTRAINT TRIGGER last_manager_deleted AFTER DELETE ON accounts_delegation DEFERRABLE INITIALLY IMMEDIATE
    FOR EACH ROW WHEN (OLD.role = 'manage' AND OLD.expires_at IS NULL AND OLD.revoked_at IS NULL)
    EXECUTE FUNCTION check_last_manager();
CREATE CONSTRAINT TRIGGER last_manager_deactivated AFTER UPDATE OF is_active ON accounts_user
    DEFERRABLE INITIALLY IMMEDIATE
    FOR EACH ROW WHEN (OLD.is_active AND NOT NEW.is_active) EXECUTE FUNCTION check_last_manager();
""",
        """
DROP TRIGGER last_manager_deactivated ON accounts_user;
DROP TRIGGER last_manager_deleted ON accounts_delegation;
DROP TRIGGER last_manager ON accounts_delegation;
DROP FUNCTION check_last_manager();
""",
    )
)
LAST_MANAGER_TRIGGERS = "last_manager, last_manager_deleted, last_manager_deactivated"


@contextmanager
def managers_checked_at_end() -> Iterator[None]:
    """Defer the check to the end of the block, within a transaction, for what takes several statements: deleting a
    clinic with its delegations, or replacing its manager."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET CONSTRAINTS {LAST_MANAGER_TRIGGERS} DEFERRED")
        yield
        cursor.execute(f"SET CONSTRAINTS {LAST_MANAGER_TRIGGERS} IMMEDIATE")
