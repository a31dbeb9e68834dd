import django.core.validators
from django.db import migrations, models

from healthcare.staff_roles.operations import GrantToRole

# Support adds accounts for people already, so inviting them is no step up.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0023_account_services_row_level_security"), ("staff_roles", "0001_initial")]
    operations = [
        migrations.AlterField(
            model_name="invitation",
            name="email",
            field=models.EmailField(
                blank=True,
                help_text="Only this e-mail can register with it. Empty: any.",
                max_length=254,
                validators=[
                    django.core.validators.RegexValidator(
                        "\\A[\\x21-\\x7e]*\\Z", "Write the e-mail in ASCII (an international domain as xn--…)."
                    )
                ],
                verbose_name="e-mail",
            ),
        ),
        GrantToRole("Support", ["add_invitation", "delete_invitation", "view_invitation"]),
        GrantToRole("Auditor", ["view_invitation"]),
    ]
