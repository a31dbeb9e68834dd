from django.db import migrations

# The function reads with its owner's rights: a caller's temporary table must not stand in for the assignments.
PIN = "ALTER FUNCTION refuse_to_delete_a_treating_doctor() SET search_path = pg_catalog, public, pg_temp"


class Migration(migrations.Migration):
    dependencies = [("mappings", "0003_history")]
    operations = [migrations.RunSQL(PIN, migrations.RunSQL.noop)]
