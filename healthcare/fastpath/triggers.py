"""The triggers that give a table a version (`TableVersion`): a random one with every transaction that changes a row.

Declare both in a model's `Meta.triggers`. The app's migration has to depend on ("fastpath", "0001_initial").
"""

import pgtrigger
from django.db.models import Model

from healthcare.triggers import DatabaseTrigger

# Once a transaction, as it commits (a deferred constraint trigger): the row lock on the version lasts as long as a
# commit, not as long as a transaction.
RENEW = """
    IF current_setting('fastpath.{table}', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        PERFORM set_config('fastpath.{table}', pg_current_xact_id()::text, true);
        INSERT INTO fastpath_tableversion ("table", version) VALUES ('{table}', gen_random_uuid())
        ON CONFLICT ("table") DO UPDATE SET version = excluded.version;
    END IF;
    RETURN NULL;
"""
FIRST_VERSION = """
INSERT INTO fastpath_tableversion ("table", version) VALUES ('{table}', gen_random_uuid())
ON CONFLICT ("table") DO UPDATE SET version = excluded.version;
"""


class TableVersionTrigger(DatabaseTrigger):
    """Renews the table's version when rows change."""

    name = "table_version"
    when = pgtrigger.After
    operation = pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete
    timing = pgtrigger.Deferred
    security_definer = True
    always = True

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        return RENEW.format(table=model._meta.db_table)

    def get_setup(self, model: type[Model]) -> str:
        return FIRST_VERSION.format(table=model._meta.db_table)


class TruncateVersionTrigger(DatabaseTrigger):
    """Renews the table's version on TRUNCATE."""

    name = "table_version_truncate"
    when = pgtrigger.After
    operation = pgtrigger.Truncate
    level = pgtrigger.Statement
    security_definer = True
    always = True

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        return RENEW.format(table=model._meta.db_table)
