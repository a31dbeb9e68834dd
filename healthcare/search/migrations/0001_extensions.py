from django.db import migrations

from healthcare.search.operations import CreateExtensions


class Migration(migrations.Migration):
    """Where the database user may not create extensions, this goes on without them and says what an administrator has
    to run: CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gin; CREATE EXTENSION unaccent; and `rebuild_search` after.
    Until then names are found by the beginnings of their words."""

    initial = True
    dependencies = []
    operations = [CreateExtensions()]
