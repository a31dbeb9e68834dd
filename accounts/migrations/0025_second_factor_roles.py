from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole

# Support helps who has lost the phone. It sets no password, so it cannot log in as somebody whose factor it removes.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0024_invitation_roles"), ("staff_roles", "0001_initial")]
    operations = [GrantToRole("Support", ["reset_second_factor_user"])]
