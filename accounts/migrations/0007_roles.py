from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_admin_permissions"), ("staff_roles", "0001_initial")]
    operations = [
        migrations.AlterModelOptions(
            name="user",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("deactivate_user", "Can deactivate user"),
                    ("set_credentials_user", "Can set username, e-mail and password of user"),
                ],
            },
        ),
        GrantToRole(
            "Support",
            ["add_user", "change_user", "view_user", "deactivate_user", "view_loginsession", "change_loginsession", "view_attempts", "delete_attempts"],
        ),
        GrantToRole("Auditor", ["view_user", "view_loginsession", "view_attempts", "auth.view_group"]),
    ]
