"""Only active users get patients, new ones or another owner's. A trigger checks it for the API, the admin, commands and
psql. What a user owns stays when the user is deactivated later."""

from healthcare.database_objects import DatabaseObject, declare

# The row lock on the owner lasts until the transaction ends and excludes FOR UPDATE, with which an account that ends is
# locked while its records are counted (`accounts.leaving`). The foreign key takes the same lock, but at the commit.
# Row-level security hides other owners from delegates, hence SECURITY DEFINER. A user who does not exist is left to the
# foreign key.
ACTIVE_OWNER = declare(
    DatabaseObject(
        "patients",
        "active_owner",
        """
CREATE OR REPLACE FUNCTION check_owner_is_active() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM accounts_user WHERE id = NEW.created_by_id AND is_active FOR KEY SHARE;
    IF NOT FOUND AND EXISTS (SELECT FROM accounts_user WHERE id = NEW.created_by_id) THEN
        RAISE restrict_violation USING CONSTRAINT = 'owner_inactive',
        MESSAGE = 'The account of the owner is not active; nothing can be added or given to it.';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER active_owner BEFORE INSERT ON patients_patient
    FOR EACH ROW EXECUTE FUNCTION check_owner_is_active();
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
