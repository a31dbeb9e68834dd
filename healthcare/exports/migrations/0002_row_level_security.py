from django.db import migrations

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("exports", "0001_server_id"), ("rls", "0001_role")]

    operations = [
        RowSecurity(
            "ServerId",
            """
            ALTER TABLE exports_serverid ENABLE ROW LEVEL SECURITY;
            CREATE POLICY public ON exports_serverid FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON exports_serverid TO healthcare_api;
            """,
        ),
    ]
