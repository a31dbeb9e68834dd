"""A release after this one, in a copy of the project: patients get a chart number, indexed and filled for those that
exist. Rows that the old version inserts meanwhile get it from a trigger."""

from healthcare.tests.project_copy import ProjectCopy

FIELD = '    chart_number = models.CharField(max_length=20, blank=True, default="", db_default="")\n'
INDEX = """\
            models.Index(
                fields=["created_by", "chart_number"], condition=Q(deleted_at=None), name="patient_by_chart"
            ),
"""
NUMBER_NEW_CHARTS = '''
        migrations.RunSQL("""
            CREATE FUNCTION number_new_chart() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                NEW.chart_number := 'C' || NEW.id;
                RETURN NEW;
            END $$;
            CREATE TRIGGER number_new_chart BEFORE INSERT ON patients_patient
                FOR EACH ROW WHEN (NEW.chart_number = '') EXECUTE FUNCTION number_new_chart();
        """),
'''
NUMBER_CHARTS = """
        healthcare.migration_operations.Backfill(
            table="patients_patient", assignments="chart_number = 'C' || id", where="chart_number = ''"
        ),
"""
OPERATIONS = "    operations = ["


def write_sample_release(project: ProjectCopy) -> str:
    """Returns the name of the migration that adds the column. Another one follows it."""
    project.insert("patients/models.py", FIELD, before="    deleted_at = models.DateTimeField(")
    project.insert("patients/models.py", INDEX, before='            models.Index(fields=["merged_into"]')
    last = '"created_at", "updated_at",\n        ]'
    project.replace("patients/serializers.py", last, last.replace('at",\n', 'at", "chart_number",\n'))
    before = set(project.root.glob("patients/migrations/0*.py"))
    project.manage("makemigrations", "patients")
    column, online = sorted(set(project.root.glob("patients/migrations/0*.py")) - before)
    text = column.read_text(encoding="utf-8")
    end = text.rindex("    ]")
    column.write_text(text[:end] + NUMBER_NEW_CHARTS + text[end:], encoding="utf-8")
    text = online.read_text(encoding="utf-8")
    assert text.count(OPERATIONS) == 1
    online.write_text(text.replace(OPERATIONS, OPERATIONS + NUMBER_CHARTS), encoding="utf-8")
    return column.stem
