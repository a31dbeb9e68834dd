from django.db import migrations, models

# PostgreSQL refuses to change the type of a column that a view reads. The view belongs to a later app, whose migrations
# may not have run yet. It is replaced in the same transaction, so nobody sees the database without it. A longer varchar
# rewrites nothing.
GROW = """
DO $$
DECLARE
    definition text;
BEGIN
    IF to_regclass('audit_patientaccess') IS NOT NULL THEN
        definition := pg_get_viewdef('audit_patientaccess'::regclass);
        DROP VIEW audit_patientaccess;
    END IF;
    ALTER TABLE audit_accesslog ALTER COLUMN request_id TYPE varchar(64);
    IF definition IS NOT NULL THEN
        EXECUTE 'CREATE VIEW audit_patientaccess WITH (security_barrier) AS ' || definition;
        GRANT SELECT ON audit_patientaccess TO healthcare_api;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_archives")]
    operations = [
        migrations.SeparateDatabaseAndState(
            # Longer ids may be stored already, so a way back changes nothing.
            database_operations=[migrations.RunSQL(GROW, migrations.RunSQL.noop)],
            state_operations=[
                migrations.AlterField("accesslog", "request_id", models.CharField(max_length=64)),
                migrations.AlterField("patientaccess", "request_id", models.CharField(max_length=64)),
            ],
        ),
    ]
