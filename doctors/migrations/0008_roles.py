from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole


class Migration(migrations.Migration):
    dependencies = [("doctors", "0007_admin_permissions"), ("staff_roles", "0001_initial")]
    operations = [
        GrantToRole("Front desk", ["view_doctor"]),
        GrantToRole("Clinical staff", ["add_doctor", "change_doctor", "view_doctor"]),
        GrantToRole(
            "Records",
            ["add_doctor", "change_doctor", "view_doctor", "delete_doctor", "restore_doctor", "export_doctor"],
        ),
        GrantToRole("Auditor", ["view_doctor"]),
    ]
