from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations

# The policy compares with the expression of mapping_then_owner, so the version before reads its lists as of a time from
# that index, too.


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("mappings", "0014_event_policies")]
    operations = [RemoveIndexConcurrently(model_name="mappingevent", name="mapping_then_created_by")]
