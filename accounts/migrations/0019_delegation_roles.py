from django.db import migrations

from healthcare.staff_roles.operations import GrantToRole

# Records sees and merges the patients of every owner already, so giving access to them is no step up. Support sees no
# patient, and could give itself access: it looks only, to answer why somebody cannot work for a clinic.


class Migration(migrations.Migration):
    dependencies = [("accounts", "0018_clinic_lists"), ("staff_roles", "0001_initial")]
    operations = [
        GrantToRole("Records", ["add_delegation", "change_delegation", "view_delegation"]),
        GrantToRole("Auditor", ["view_delegation", "view_notice"]),
        GrantToRole("Support", ["view_delegation", "view_notice"]),
    ]
