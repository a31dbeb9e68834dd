from django.db import migrations

from healthcare.search.operations import CreateExtensions, CreateFolding


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [CreateExtensions(), CreateFolding()]
