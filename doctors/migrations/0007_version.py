from django.db import migrations

from healthcare.direct.operations import KeepVersion


class Migration(migrations.Migration):
    dependencies = [("doctors", "0006_search"), ("direct", "0001_initial")]
    operations = [KeepVersion("Doctor")]
