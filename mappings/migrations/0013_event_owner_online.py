from django.db import migrations, models
from django.db.models.functions import Coalesce

from healthcare.migration_operations import AddExpressionIndexConcurrently


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("mappings", "0012_event_owner")]
    operations = [
        AddExpressionIndexConcurrently(
            model_name="mappingevent",
            index=models.Index(
                Coalesce("pgh_owner_id", "created_by_id", output_field=models.BigIntegerField()),
                models.OrderBy(models.F("id"), descending=True),
                models.OrderBy(models.F("pgh_id"), descending=True),
                name="mapping_then_owner",
            ),
        ),
    ]
