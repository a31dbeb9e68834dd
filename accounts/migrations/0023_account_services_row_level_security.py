from django.db import migrations

from healthcare.rls.operations import RowSecurity

# Without a policy or a privilege: requests read and write these with the rights of the tables' owner, after their own
# checks.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0022_account_services_online"), ("rls", "0001_role")]
    operations = [
        RowSecurity("Invitation", "ALTER TABLE accounts_invitation ENABLE ROW LEVEL SECURITY;"),
        RowSecurity("SecondFactor", "ALTER TABLE accounts_secondfactor ENABLE ROW LEVEL SECURITY;"),
        RowSecurity("RecoveryCode", "ALTER TABLE accounts_recoverycode ENABLE ROW LEVEL SECURITY;"),
    ]
