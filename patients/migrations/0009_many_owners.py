from django.db import migrations

from healthcare.rls.operations import ExpectManyOwners


class Migration(migrations.Migration):
    dependencies = [("patients", "0008_search")]
    operations = [ExpectManyOwners("Patient", "created_by")]
