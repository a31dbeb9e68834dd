from django.db import migrations

# Entries of the admin's log hold no name any more: "recent actions" showed it without a recorded read.
REMOVE_NAMES = """
UPDATE django_admin_log SET object_repr = kind.model || ' ' || object_id
FROM django_content_type kind
WHERE kind.id = content_type_id AND (kind.app_label, kind.model) IN (('patients', 'patient'), ('mappings', 'mapping'))
"""


class Migration(migrations.Migration):
    dependencies = [
        ("mappings", "0002_row_level_security"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunSQL(REMOVE_NAMES, migrations.RunSQL.noop)]
