from django.db import migrations, models

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    initial = True

    dependencies = [("rls", "0001_role")]

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
        RowSecurity(
            "ServerId",
            """
            INSERT INTO exports_serverid (id, value) VALUES (1, gen_random_uuid()::text);
            ALTER TABLE exports_serverid ENABLE ROW LEVEL SECURITY;
            CREATE POLICY public ON exports_serverid FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON exports_serverid TO healthcare_api;
            """,
        ),
    ]
