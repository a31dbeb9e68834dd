from django.db import migrations

from healthcare.rls.operations import CreateRole


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [CreateRole()]
