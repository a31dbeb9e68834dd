from django.db import migrations

from healthcare.fastpath.operations import KeepVersion


class Migration(migrations.Migration):
    dependencies = [("doctors", "0006_search"), ("fastpath", "0001_initial")]
    operations = [KeepVersion("Doctor")]
