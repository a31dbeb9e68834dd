"""SQL expressions for the JSON of a record, equal to what `to_representation` of each serializer field returns."""

from collections.abc import Iterable
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any

from django.conf import settings
from django.db import connection, models
from rest_framework import serializers

from healthcare.api import fields as api_fields
from healthcare.api.serializers import IdField
from healthcare.coverage import covered_by_fast_path, is_covered, patched_members
from healthcare.fastpath.placeholders import TODAY, Placeholder
from healthcare.model_fields import ObjectListField
from healthcare.ownership import Derived

LONGEST_NAME = 63  # bytes of a name in PostgreSQL
TEXT_COLUMNS: set[type[models.Field]] = {models.CharField, models.EmailField, models.TextField}
INTEGER_COLUMNS: set[type[models.Field]] = {
    models.AutoField, models.BigAutoField, models.SmallIntegerField, models.IntegerField, models.BigIntegerField,
    models.PositiveSmallIntegerField, models.PositiveIntegerField, models.PositiveBigIntegerField,
}  # fmt: skip
# The columns whose values each serializer field represents as `row_to_json` does. Compared by exact class.
COLUMNS_OF_FIELD: dict[type[serializers.Field], set[type[models.Field]]] = {
    serializers.CharField: TEXT_COLUMNS,
    serializers.EmailField: TEXT_COLUMNS,
    serializers.ChoiceField: TEXT_COLUMNS,
    serializers.UUIDField: {models.UUIDField},
    serializers.IntegerField: INTEGER_COLUMNS,
    serializers.BigIntegerField: INTEGER_COLUMNS,
    serializers.BooleanField: {models.BooleanField},
    serializers.DateField: {models.DateField},
    serializers.DateTimeField: {models.DateTimeField},
    serializers.PrimaryKeyRelatedField: {models.ForeignKey},
    api_fields.TextField: TEXT_COLUMNS,
    api_fields.EmailField: TEXT_COLUMNS,
    api_fields.PhoneField: TEXT_COLUMNS,
    api_fields.WholeNumberField: INTEGER_COLUMNS,
    api_fields.TrueOrFalseField: {models.BooleanField},
    api_fields.DateField: {models.DateField},
    api_fields.DateTimeField: {models.DateTimeField},
    api_fields.MultilineField: TEXT_COLUMNS,
    api_fields.ObjectListField: {ObjectListField},
    IdField: {models.ForeignKey},
}
for pairs in COLUMNS_OF_FIELD.items():
    for one in {base for member in (pairs[0], *pairs[1]) for base in member.__mro__} - {object}:
        covered_by_fast_path(one)
# ISO 8601 in UTC, with microseconds unless they are zero. Django sets every session's time zone to UTC.
TIMESTAMP = """replace(to_char("{}", 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000Z', 'Z')"""
# The members of each object in their declared order and without blanks, neither of which the text of jsonb has.
OBJECTS = """(CASE WHEN {column} = '[]' THEN '[]'::json ELSE (SELECT array_to_json(array_agg(object))
    FROM jsonb_to_recordset({column}) AS object({members})) END)"""


class UnsupportedError(Exception):
    """A member that cannot be expressed in SQL. `member` names it, and `hint` is the remedy."""

    def __init__(self, member: str, hint: str) -> None:
        super().__init__(member)
        self.member, self.hint = member, hint


@dataclass(frozen=True)
class Fragment:
    """SQL with the parameters of its `%s`, placeholders among them."""

    sql: str
    parameters: tuple[Any, ...] = ()


def record_as_json(
    serializer: serializers.BaseSerializer,
    *,
    only: frozenset[str] | None = None,
    columns: Iterable[tuple[str, str]] = (),
    inclusions: Iterable[tuple[str, Fragment]] = (),
) -> Fragment:
    """The JSON text of a row of the serializer's model, byte for byte what the serializer and DRF's renderer give.

    `only` names the fields to answer, `columns` gives SQL for fields that are no columns of the model, and `inclusions`
    JSON that is appended to the record under a name. Raises UnsupportedError.
    """
    model: type[models.Model] = serializer.Meta.model  # type: ignore[attr-defined]
    given = dict(columns)
    parts: list[str] = []
    parameters: list[Any] = []
    for name, field in serializer.fields.items():  # type: ignore[attr-defined]
        if field.write_only or (only is not None and name not in only):
            continue
        member = f"{type(serializer).__name__}.{name}"
        if len(name.encode()) > LONGEST_NAME or not name.isidentifier():
            raise UnsupportedError(member, f"PostgreSQL takes names of at most {LONGEST_NAME} bytes.")
        if name in given and (not known_columns(type(field)) or is_formatted(field)):
            raise UnsupportedError(member, f"{type(field).__name__} has no SQL in healthcare.fastpath.json_sql.")
        expression = Fragment(given[name]) if name in given else field_as_json(type(serializer), model, name, field)
        parts.append(f'{expression.sql} AS "{name}"')
        parameters += expression.parameters
    for name, fragment in inclusions:
        parts.append(f'{fragment.sql}::json AS "{name}"')
        parameters += fragment.parameters
    table = model._meta.db_table
    # Qualified in an inner SELECT, so that the expressions do not meet the columns of joined tables.
    row = ", ".join(f'"{table}"."{column.column}"' for column in model._meta.concrete_fields)
    record = f"SELECT {', '.join(parts)} FROM (SELECT {row}) AS own" if parts else "SELECT"  # noqa: S608
    return Fragment(f"(SELECT row_to_json(record) FROM ({record}) AS record)::text", tuple(parameters))  # noqa: S608


def field_as_json(
    owner: type[serializers.BaseSerializer], model: type[models.Model], name: str, field: serializers.Field
) -> Fragment:
    derived = getattr(model, field.source or "", None)
    if type(derived) is Derived and isinstance(derived.sql, str) and derived.sql:
        if not known_columns(type(field)) or is_formatted(field):
            raise UnsupportedError(
                f"{owner.__name__}.{name}", f"{type(field).__name__} has a representation of its own."
            )
        sql = derived.sql.replace("{today}", "%s::date")
        return Fragment(sql, (TODAY,) * sql.count("%s"))
    column = next((c for c in model._meta.concrete_fields if field.source in {c.name, c.attname}), None)
    member = f"{owner.__name__}.{name}"
    if column is None:
        raise UnsupportedError(member, f"{name} is neither a column nor a derived property of {model.__name__}.")
    if type(getattr_static(model, column.attname, None)) is not column.descriptor_class:
        raise UnsupportedError(member, f"{model.__name__}.{column.attname} is not read from its column alone.")
    if not (known_columns(type(field)) & known_columns(type(column))) or is_formatted(field):
        raise UnsupportedError(
            member,
            f"{type(field).__name__} of a {type(column).__name__} has no SQL in healthcare.fastpath.json_sql. "
            "Leave the action out of fast_actions, or add the pair there with a test.",
        )
    if type(field) is serializers.DateTimeField and settings.TIME_ZONE != "UTC":
        raise UnsupportedError(member, "It writes times in TIME_ZONE; use healthcare.api.fields.DateTimeField.")
    if type(column) is models.ForeignKey and type(column.target_field) not in INTEGER_COLUMNS:
        raise UnsupportedError(member, "The foreign key is not an integer.")
    if type(column) is models.DateTimeField:
        return Fragment(TIMESTAMP.format(column.column))
    if type(column) is ObjectListField:
        return Fragment(objects_as_json(column, f'"{column.column}"'))
    return Fragment(f'"{column.column}"')


def objects_as_json(field: ObjectListField, column: str) -> str:
    """SQL for the JSON of a list of objects, given the SQL of the column that holds it."""
    members = ", ".join(f'"{member}" text' for member in field.members)
    return " ".join(OBJECTS.format(column=column, members=members).split())


def known_columns(kind: type) -> set[type[models.Field]]:
    """The column classes that a serializer field or a column of this exact class stands for; empty when unknown.

    A covered subclass (`covered_by_fast_path`) stands for its base. Raises UnsupportedError for a patched class.
    """
    for base, name in patched_members(kind):
        raise UnsupportedError(f"{base.__name__}.{name}", "It was patched, so the fast path does not reproduce it.")
    if kind in COLUMNS_OF_FIELD:
        return COLUMNS_OF_FIELD[kind]
    if any(kind in columns for columns in COLUMNS_OF_FIELD.values()):
        return {kind}
    return known_columns(kind.__base__) if is_covered(kind) and kind.__base__ else set()


def is_formatted(field: serializers.Field) -> bool:
    """Whether the field has a representation of its own, by its options or by members of this one object."""
    options = vars(field)
    key: Any = options.get("pk_field")
    return (
        not {"format", "timezone", "to_representation", "get_attribute"}.isdisjoint(options)
        or options.get("uuid_format", "hex_verbose") != "hex_verbose"
        or bool(options.get("coerce_to_string"))
        or not all(isinstance(choice, str) for choice in options.get("_choices", ()))
        or not (key is None or (INTEGER_COLUMNS & known_columns(type(key)) and not is_formatted(key)))
    )


def included_as_json(links: Fragment) -> Fragment:
    """The JSON array of the `content` of rows that also have a `key`, the newest key first."""
    return Fragment(
        f"(SELECT '[' || coalesce(string_agg(content, ',' ORDER BY key DESC), '') || ']' FROM ({links.sql}) AS rows)",  # noqa: S608
        links.parameters,
    )


def cast_placeholder(field: models.Field) -> str:
    """A placeholder cast to the field's type without its length: the column refuses a longer text."""
    return f"%s::{(field.db_type(connection) or '').partition('(')[0]}"


def substitute(fragment: Fragment, placeholder: Placeholder, sql: str) -> Fragment:
    """The fragment with a placeholder replaced by SQL."""
    pieces = fragment.sql.split("%s")
    rebuilt = pieces[0]
    parameters: list[Any] = []
    for parameter, piece in zip(fragment.parameters, pieces[1:], strict=True):
        if parameter is placeholder:
            rebuilt += sql + piece
        else:
            rebuilt += "%s" + piece
            parameters.append(parameter)
    return Fragment(rebuilt, tuple(parameters))
