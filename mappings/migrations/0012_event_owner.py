from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("mappings", "0011_owner_policies")]
    operations = [
        migrations.AddField(
            model_name="mappingevent",
            name="pgh_owner_id",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]
