from django.db import migrations

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("doctors", "0001_initial"), ("rls", "0001_role")]
    operations = [RowSecurity("Doctor", "created_by", grants=["SELECT", "INSERT", "UPDATE"], public=True)]
