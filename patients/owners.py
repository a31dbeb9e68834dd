"""Only active users get patients, new ones or another owner's. A trigger checks it for the API, the admin, commands and
psql. What a user owns stays when the user is deactivated later."""

from healthcare.database_objects import DatabaseObject, declare

# The row lock on the owner lasts until the transaction ends and excludes FOR UPDATE, with which an account that ends is
# locked while its records are counted (`accounts.leaving`). The foreign key takes the same lock, but at the commit.
# Row-level security hides other owners from delegates, hence SECURITY DEFINER. A user who does not exist is left to the
# foreign key. An INSERT is checked as a whole, which makes those of many rows cheaper.
ACTIVE_OWNER = declare(
    DatabaseObject(
        "patients",
        "active_owner",
        """
CREATE OR REPLACE FUNCTION check_owner_is_active() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    owners bigint[];
    active boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        owners := ARRAY(SELECT DISTINCT created_by_id FROM new_rows);
    ELSE
        owners := ARRAY[NEW.created_by_id];
    END IF;
    SELECT bool_and(is_active) INTO active FROM (
        SELECT is_active FROM accounts_user WHERE id = ANY (owners) FOR KEY SHARE
    ) AS owner;
    IF NOT active THEN
        RAISE restrict_violation USING CONSTRAINT = 'owner_inactive',
        MESSAGE = 'The account of the owner is not active; nothing can be added or given to it.';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER active_owner AFTER INSERT ON patients_patient REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION check_owner_is_active();
CREATE OR REPLACE TRIGGER active_new_owner BEFORE UPDATE OF created_by_id ON patients_patient
    FOR EACH ROW WHEN (OLD.created_by_id <> NEW.created_by_id) EXECUTE FUNCTION check_owner_is_active();
""",
        """
DROP TRIGGER active_new_owner ON patients_patient;
DROP TRIGGER active_owner ON patients_patient;
DROP FUNCTION check_owner_is_active();
""",
    )
)
