from django.db import migrations

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("patients", "0001_initial"), ("rls", "0001_role")]
    operations = [RowSecurity("Patient", "created_by", grants=["SELECT", "INSERT", "UPDATE"])]
