"""The words that the vocabularies hold already. From 0013 on a trigger adds new ones."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("patients", "0013_search_by_staff"),
    ]

    operations = [
        migrations.RunSQL(
            """
            INSERT INTO patients_patientknownword (word)
            SELECT DISTINCT word FROM patients_patientword vocabulary WHERE NOT EXISTS (
                SELECT FROM patients_patientknownword known WHERE known.word = vocabulary.word
            );
            """,
            migrations.RunSQL.noop,
        ),
    ]
