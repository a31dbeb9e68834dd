from django.db import migrations

from healthcare.rls.operations import RowSecurity

CALLER = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
OWNER = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) "
    "THEN nullif(current_setting('app.user_id', true), '')::bigint "
    "WHEN current_setting('app.user_id', true) <> '' "
    "AND current_setting('app.owner_role', true) IN ('read', 'write', 'manage') "
    "THEN current_setting('app.owner_id', true)::bigint END)"
)
# A request for another owner sees the delegations of that owner alone, not those that the caller has received. Whoever
# may act for a clinic sees its account, which has neither an e-mail nor a password.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0016_clinics_online")]
    operations = [
        RowSecurity(
            "Delegation",
            f"""
            DROP POLICY own ON accounts_delegation;
            CREATE POLICY own ON accounts_delegation FOR SELECT TO healthcare_api
                USING (owner_id = {OWNER} OR (delegate_id = {CALLER} AND {OWNER} = {CALLER}));
            """,
            f"""
            DROP POLICY own ON accounts_delegation;
            CREATE POLICY own ON accounts_delegation FOR SELECT TO healthcare_api
                USING (owner_id = {OWNER} OR delegate_id = {CALLER});
            """,
        ),
        RowSecurity(
            "User",
            f"""
            CREATE POLICY clinic ON accounts_user FOR SELECT TO healthcare_api
                USING (is_clinic AND EXISTS (
                    SELECT FROM accounts_delegation d
                    WHERE d.owner_id = accounts_user.id AND d.delegate_id = {CALLER} AND d.revoked_at IS NULL
                    AND (d.expires_at IS NULL OR d.expires_at > now())));
            """,
            "DROP POLICY clinic ON accounts_user;",
        ),
    ]
