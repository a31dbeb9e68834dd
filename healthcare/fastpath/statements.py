"""SQL that the statements of several actions share: rows, the result of a read, and entity tags."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from healthcare.api.conditional_requests import ENTITY_TAG_DIGITS, entity_tag_padded_keys
from healthcare.fastpath.execution import Statement
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.placeholders import PRINCIPAL, Placeholder, fill
from healthcare.rls.context import Entry

# The caller's id, empty for an anonymous one, and after a slash that of another owner for whom a delegate acts.
PRINCIPAL_SQL = "concat(current_setting('app.user_id', true), '/' || nullif(current_setting('app.owner_id', true), ''))"
IS_PRINCIPAL = Fragment(f"{PRINCIPAL_SQL} = %s", (PRINCIPAL,))


def principal_of(entry: Entry) -> str:
    """What PRINCIPAL_SQL gives if the statement of the entry has found the caller's session, and the delegation."""
    caller = "" if entry.caller is None else str(entry.caller)
    return f"{caller}/{entry.owner.pk}" if entry.owner.role else caller


@dataclass(frozen=True)
class CompiledRead:
    """A statement with its placeholders. `plannable` and `rare` are those of `execution.Statement`."""

    fragment: Fragment
    plannable: bool
    rare: bool = False

    def statement(self, values: Mapping[Placeholder, Any]) -> Statement:
        return Statement(self.fragment.sql, fill(self.fragment.parameters, values), self.plannable, self.rare)


def compile_rows(rows: QuerySet) -> Fragment:
    """Raises EmptyResultSet for a condition that no row can meet."""
    sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    return Fragment(sql, tuple(parameters))


def raw_sql(fragment: Fragment) -> RawSQL:
    return RawSQL(fragment.sql, list(fragment.parameters))  # noqa: S611  (compiled from the models)


def compile_read(
    expressions: Mapping[str, Fragment], result: Fragment, *, state: str, plannable: bool, rare: bool
) -> CompiledRead:
    """A statement of common table expressions, by name. It selects the session's user, the SQL expression `state`, and
    then `result`, which is the rest of a SELECT."""
    named = ",\n".join(f"{name} AS MATERIALIZED ({fragment.sql})" for name, fragment in expressions.items())
    sql = f"WITH {named}\nSELECT {PRINCIPAL_SQL}, {state}, {result.sql}"  # noqa: S608
    parameters = [parameter for fragment in (*expressions.values(), result) for parameter in fragment.parameters]
    return CompiledRead(Fragment(sql, tuple(parameters)), plannable, rare)


def distinct_ids(subjects: Fragment) -> Fragment:
    """SQL for the array of the ids that a SELECT of `subject` returns, each once."""
    sql = f"(SELECT coalesce(array_agg(DISTINCT subject ORDER BY subject), '{{}}') FROM ({subjects.sql}) AS accessed)"  # noqa: S608
    return Fragment(sql, subjects.parameters)


def escaped(content: str) -> str:
    """SQL that escapes the separators as `actions.encode_json` does."""
    return rf"replace(replace({content}, U&'\2028', '\u2028'), U&'\2029', '\u2029')"


def entity_tag_of(content: str) -> Fragment:
    """SQL for `conditional_requests.entity_tag`: HMAC-SHA256 (RFC 2104) with the key that is derived for entity tags.

    The `%s` of the content come after the two parameters of the fragment.
    """
    inner, outer = entity_tag_padded_keys(settings.SECRET_KEY)
    body = f"convert_to({escaped(content)}, 'UTF8')"
    digest = f"encode(sha256(%s::bytea || sha256(%s::bytea || {body})), 'hex')"
    return Fragment(f"""('"' || left({digest}, {ENTITY_TAG_DIGITS}) || '"')""", (outer, inner))
