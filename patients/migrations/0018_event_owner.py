from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("patients", "0017_owner_policies")]
    operations = [
        migrations.AddField(
            model_name="patientevent",
            name="pgh_owner_id",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]
