"""JSON as PostgreSQL builds it: for every field of a serializer the SQL of what its `to_representation` gives."""

from functools import cache
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from rest_framework import serializers

from healthcare.ownership import Derived

# What `row_to_json` writes as DRF and its JSON renderer do.
SAME_IN_JSON = (
    models.BooleanField,
    models.CharField,
    models.DateField,
    models.ForeignKey,
    models.IntegerField,
)
# ISO 8601 with microseconds where there are any. The session's time zone is UTC, as all of Django's are here.
TODAY = object()  # stands for the day among the parameters
MOMENT = """replace(to_char("{}", 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000Z', 'Z')"""


@cache
def row_as_json(
    serializer: type[serializers.Serializer], between: tuple[str, str] | None = None
) -> tuple[str, list[Any]] | None:
    """An expression over the columns of the model's row that gives the record's JSON as text, byte for byte what the
    serializer and the renderer give, and its parameters; None for a serializer that does anything of its own.

    `between` names a field beside those of the model, and the number of another row that it shows.
    """
    if serializer.to_representation is not serializers.Serializer.to_representation:
        return None
    columns = []
    for name, field in serializer().fields.items():
        if field.write_only:
            continue
        other = between[1] if between and name == between[0] else None
        expression = other or expression_of(serializer.Meta.model, name, field)  # type: ignore[attr-defined]
        if expression is None:
            return None
        columns.append(f'{expression} AS "{name}"')
    table = serializer.Meta.model._meta  # type: ignore[attr-defined]
    row = ", ".join(
        f'"{table.db_table}"."{column.column}"' for column in table.concrete_fields
    )  # tells joined ones apart
    sql = f"(SELECT row_to_json(record) FROM (SELECT {', '.join(columns)} FROM (SELECT {row}) AS own) AS record)::text"  # noqa: S608  (names of our own)
    return sql.replace("{today}", "%s::date"), [TODAY] * sql.count("{today}")


def expression_of(model: type[models.Model], name: str, field: serializers.Field) -> str | None:
    derived = getattr(model, name, None)
    if isinstance(derived, Derived):
        return derived.sql
    try:
        column = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    if field.source != name or not isinstance(column, models.Field):
        return None
    if isinstance(column, models.DateTimeField):
        return MOMENT.format(column.column)
    return f'"{column.column}"' if isinstance(column, SAME_IN_JSON) else None
