from django.db import migrations

from healthcare.isolation.operations import ExpectManyOwners


class Migration(migrations.Migration):
    dependencies = [("mappings", "0006_lists")]
    operations = [ExpectManyOwners("Mapping", "created_by")]
