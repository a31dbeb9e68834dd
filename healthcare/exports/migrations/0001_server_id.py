from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies: list[tuple[str, str]] = []

    operations = [
        migrations.CreateModel(
            name="ServerId",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("value", models.CharField(max_length=36)),
            ],
            options={
                "default_permissions": (),
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="one_server_id")],
            },
        ),
        migrations.RunSQL(
            "INSERT INTO exports_serverid (id, value) VALUES (1, gen_random_uuid()::text)", migrations.RunSQL.noop
        ),
    ]
