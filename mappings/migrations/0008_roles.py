from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole


class Migration(migrations.Migration):
    dependencies = [("mappings", "0007_admin_permissions"), ("staff_roles", "0001_initial")]
    operations = [
        GrantToRole("Front desk", ["add_mapping", "change_mapping", "view_mapping", "end_mapping"]),
        GrantToRole("Clinical staff", ["add_mapping", "change_mapping", "view_mapping", "end_mapping"]),
        GrantToRole(
            "Records",
            ["add_mapping", "change_mapping", "view_mapping", "end_mapping", "delete_mapping", "restore_mapping", "export_mapping"],
        ),
        GrantToRole("Auditor", ["view_mapping"]),
    ]
