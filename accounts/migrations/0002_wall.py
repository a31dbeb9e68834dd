from django.db import migrations

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("rls", "0001_role")]
    operations = [
        RowSecurity("User", "id", grants=["SELECT", "UPDATE (name, email, username, password)"]),
        RowSecurity("LoginSession", "user", grants=["SELECT", "UPDATE (revoked_at)"]),
    ]
