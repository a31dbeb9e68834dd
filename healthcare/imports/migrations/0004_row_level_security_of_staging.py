from django.db import migrations

from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    """Without policies and grants: only the command reads what it has staged, with the rights of the tables' owner."""

    dependencies = [("imports", "0003_staging"), ("rls", "0001_role")]
    operations = [
        RowSecurity("StagedFile", "ALTER TABLE imports_stagedfile ENABLE ROW LEVEL SECURITY;"),
        RowSecurity("StagedRow", "ALTER TABLE imports_stagedrow ENABLE ROW LEVEL SECURITY;"),
    ]
