from django.db import migrations

from healthcare.isolation.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("patients", "0001_initial"), ("isolation", "0001_role")]
    operations = [RowSecurity("Patient", "created_by", grants=["SELECT", "INSERT", "UPDATE"])]
