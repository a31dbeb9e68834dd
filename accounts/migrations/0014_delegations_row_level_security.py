from django.db import migrations

from healthcare.rls.operations import RowSecurity

# The API changes delegations and adds notices with the rights of the tables' owner, after its own checks.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0013_delegations_online"), ("accounts", "0002_row_level_security"), ("rls", "0001_role")]
    operations = [
        RowSecurity(
            "Delegation",
            """
            ALTER TABLE accounts_delegation ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON accounts_delegation FOR SELECT TO healthcare_api
                USING (
                    owner_id = (SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), current_setting('app.user_id', true)) = current_setting('app.user_id', true) THEN nullif(current_setting('app.user_id', true), '')::bigint WHEN current_setting('app.user_id', true) <> '' AND current_setting('app.owner_role', true) IN ('read', 'write', 'manage') THEN current_setting('app.owner_id', true)::bigint END)
                    OR delegate_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
                );
            GRANT SELECT ON accounts_delegation TO healthcare_api;
            """,
        ),
        RowSecurity("DelegationEvent", "ALTER TABLE accounts_delegationevent ENABLE ROW LEVEL SECURITY;"),
        RowSecurity(
            "Notice",
            """
            ALTER TABLE accounts_notice ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON accounts_notice FOR SELECT TO healthcare_api
                USING (user_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            CREATE POLICY mark_read ON accounts_notice FOR UPDATE TO healthcare_api
                USING (user_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT, UPDATE (read_at) ON accounts_notice TO healthcare_api;
            """,
        ),
    ]
