from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations

# The policy compares with the expression of patient_then_owner, so the version before reads its lists as of a time from
# that index, too.


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("patients", "0020_event_policies")]
    operations = [RemoveIndexConcurrently(model_name="patientevent", name="patient_then_created_by")]
