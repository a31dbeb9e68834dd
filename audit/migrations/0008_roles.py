from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_admin_permissions"), ("staff_roles", "0001_initial")]
    operations = [
        GrantToRole("Records", ["add_legalhold", "change_legalhold", "view_legalhold"]),
        GrantToRole("Auditor", ["view_accesslog", "view_seal", "view_legalhold"]),
    ]
