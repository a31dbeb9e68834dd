from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole


class Migration(migrations.Migration):
    dependencies = [("patients", "0010_admin_permissions"), ("staff_roles", "0001_initial")]
    operations = [
        GrantToRole("Front desk", ["add_patient", "change_patient", "view_patient"]),
        GrantToRole("Clinical staff", ["add_patient", "change_patient", "view_patient"]),
        GrantToRole(
            "Records",
            ["add_patient", "change_patient", "view_patient", "delete_patient", "restore_patient", "merge_patient", "export_patient", "view_erasurereceipt"],
        ),
        GrantToRole("Auditor", ["view_patient", "view_erasurereceipt"]),
    ]
