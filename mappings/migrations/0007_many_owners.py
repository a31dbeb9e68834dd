from django.db import migrations

from healthcare.rls.operations import ExpectManyOwners


class Migration(migrations.Migration):
    dependencies = [("mappings", "0006_lists")]
    operations = [ExpectManyOwners("Mapping", "created_by")]
