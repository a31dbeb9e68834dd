"""Triggers declared beside their models with django-pgtrigger, and stored in migrations as their whole SQL.

`makemigrations --check` fails when a declared trigger differs from the one in the migrations.
"""

import re
from typing import Any

import pgtrigger
from django.db.models import Model
from pgtrigger.compiler import Trigger, UpsertTriggerSql

TEMPLATE = """
CREATE OR REPLACE FUNCTION {pgid}() RETURNS trigger LANGUAGE plpgsql {rights} AS $$
{declare}BEGIN
    {func}
END $$;
DROP TRIGGER IF EXISTS {pgid} ON {table};
CREATE {constraint} TRIGGER {pgid} {when} {operation} ON {table} {timing} {referencing}
    FOR EACH {level} {condition} EXECUTE FUNCTION {pgid}();
"""
# The function runs with its owner's rights. Its search path is pinned, so that a caller's temporary table cannot stand
# in for a real one.
SECURITY_DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp"

# A backfill of a migration (`healthcare.migration_operations.Backfill`). Requests cannot claim to be one: they run with
# a role set, which a function with its owner's rights does not hide, and their role may not create triggers.
BACKFILL = """(current_setting('app.backfill', true) IS NOT DISTINCT FROM 'on' AND current_setting('role') = 'none'
    AND has_table_privilege('"{table}"'::regclass, 'TRIGGER'))"""


class TriggerSQL(UpsertTriggerSql):
    """The SQL that installs a trigger, as text: a migration that holds it never changes its meaning."""

    def __init__(self, *, pgid: str, table: str, sql: str) -> None:
        self.sql = sql.strip("\n") + "\n"
        super().__init__(pgid=pgid, table=table, func="", when=None, operation=None)

    def get_template(self) -> str:
        """The SQL, escaped for `str.format`, and the hash by which `manage.py pgtrigger ls` finds outdated triggers."""
        return self.sql.replace("{", "{{").replace("}", "}}") + "COMMENT ON TRIGGER {pgid} ON {table} IS '{hash}';\n"

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, [], {"pgid": self.pgid, "table": self.table, "sql": self.sql}


class DatabaseTrigger(pgtrigger.Trigger):
    """A trigger that `pgtrigger.ignore` does not switch off.

    `security_definer` runs its function with the owner's rights. `always` fires it under `session_replication_role =
    replica` too. `skips_backfill` does not fire it for the rows of a backfill; it needs a condition. `get_func` and
    `get_setup` may be overridden; the latter gives SQL to run after the trigger exists.
    """

    security_definer = False
    always = False
    skips_backfill = False

    def get_setup(self, model: type[Model]) -> str:
        return ""

    def render_condition(self, model: Any) -> str:
        condition = super().render_condition(model)
        if not self.skips_backfill:
            return condition
        backfill = BACKFILL.format(table=model._meta.db_table)
        return f"WHEN ({condition.removeprefix('WHEN').strip()} AND NOT {backfill})"

    def compile(self, model: type[Model]) -> Trigger:  # type: ignore[override]
        pgid, table = self.get_pgid(model), model._meta.db_table  # type: ignore[arg-type]
        sql = TEMPLATE.format(
            pgid=pgid,
            rights=SECURITY_DEFINER if self.security_definer else "",
            declare=f"{declare}\n" if (declare := self.render_declare(model)) else "",  # type: ignore[arg-type]
            func=self.render_func(model).strip(),  # type: ignore[arg-type]
            table=f'"{table}"',
            constraint="CONSTRAINT" if self.timing else "",
            when=self.when,
            operation=self.operation,
            timing=f"DEFERRABLE INITIALLY {self.timing}" if self.timing else "",
            referencing=self.referencing or "",
            level=self.level,
            condition=self.render_condition(model),
        )
        if self.always:
            sql += f'ALTER TABLE "{table}" ENABLE ALWAYS TRIGGER {pgid};\n'
        sql = re.sub(r"(?<=\S) +(?= |$)", "", sql + self.get_setup(model), flags=re.MULTILINE)
        return Trigger(name=self.name, sql=TriggerSQL(pgid=pgid, table=table, sql=sql))
