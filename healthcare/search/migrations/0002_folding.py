from django.db import migrations

from healthcare.search.operations import CreateFolding


class Migration(migrations.Migration):
    dependencies = [("search", "0001_extensions")]
    operations = [CreateFolding()]
