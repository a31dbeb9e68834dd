"""The fast paths of `GET /…/<id>/history/` and `GET /api/patients/<id>/access-log/`."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db import models
from django.db.models import QuerySet

from audit.actor_names import ACTOR_NAME_SQL
from audit.history import Deleted, Inserted, OwnedEvent
from audit.models import PatientAccess
from audit.serializers import BOOKKEEPING, PatientAccessSerializer
from healthcare.fastpath.eligibility import has_receivers
from healthcare.fastpath.execution import Statement
from healthcare.fastpath.json_sql import (
    COLUMNS_OF_FIELD,
    TIMESTAMP,
    Fragment,
    UnsupportedError,
    known_columns,
    objects_as_json,
    record_as_json,
)
from healthcare.fastpath.lists_of_records import FastRecordList
from healthcare.fastpath.placeholders import KEY, OWNER, Parameter
from healthcare.model_fields import ObjectListField

# Over rows with an `event` and the event before it in `previous`, both of the type of the table of events.
EVENT = """(SELECT row_to_json(answer) FROM (SELECT
    (event).version AS version, {at} AS at, {action} AS action, (event).pgh_context->'actor' AS actor,
    {actor_name} AS actor_name, (event).pgh_context->'request_id' AS request_id,
    (event).pgh_context->'reason' AS reason,
    ('{{' || concat_ws(',', {changes}) || '}}')::json AS changes) AS answer)::text"""
EVENT_ACTION = """CASE WHEN (event).pgh_label = '{inserted}' THEN 'create'
    WHEN (event).pgh_label = '{deleted}' THEN 'delete'
    WHEN {has_previous} AND (previous).{ended} IS NULL AND (event).{ended} IS NOT NULL THEN 'delete'
    WHEN {has_previous} AND (previous).{ended} IS NOT NULL AND (event).{ended} IS NULL THEN 'restore'
    ELSE 'update' END"""
HAS_PREVIOUS = "(previous).pgh_id IS NOT NULL"
OWNER_CHANGE = f"""CASE WHEN {HAS_PREVIOUS} AND (previous).created_by_id <> (event).created_by_id
    THEN '"created_by":[' || (previous).created_by_id || ',' || (event).created_by_id || ']' END"""


class FastHistory(FastRecordList):
    """What `EventSerializer` answers. A window function gives each event the one before it."""

    def scopes(self) -> Iterator[tuple[str, Callable[[Any], QuerySet]]]:
        yield from super().scopes()
        yield "history_scope", self.viewset.history_scope

    def is_observed(self) -> bool:
        return super().is_observed() or has_receivers([self.viewset.event_model], writes=False)

    def target(self) -> QuerySet:
        records: QuerySet = self.viewset.history_scope(Parameter(OWNER))
        return records.filter(pk=Parameter(KEY)).order_by()

    def compile_rows_of_record(self, condition: str) -> Fragment:
        events = self.viewset.event_model
        compared = (
            "SELECT event.pgh_id AS key, event, lead(event) OVER (ORDER BY event.pgh_id DESC) AS previous "  # noqa: S608
            f'FROM "{events._meta.db_table}" AS event WHERE event.id = %s AND EXISTS (SELECT FROM target)'
        )
        where = f" WHERE {condition}" if condition else ""
        return Fragment(f"SELECT key, {event_as_json(events)} AS content FROM ({compared}) AS compared{where}", (KEY,))  # noqa: S608


class FastAccessLog(FastRecordList):
    # The log is found by a GIN index on the patients, which serves bitmap scans alone.
    planner_settings = (Statement("SET LOCAL enable_bitmapscan = on"), Statement("SET LOCAL enable_sort = on"))

    def is_observed(self) -> bool:
        return super().is_observed() or has_receivers([PatientAccess], writes=False)

    def compile_rows_of_record(self, condition: str) -> Fragment:
        content = record_as_json(
            PatientAccessSerializer(), columns=[("actor_name", ACTOR_NAME_SQL.format(actor="actor"))]
        )
        table = f'"{PatientAccess._meta.db_table}"'
        rows = f"SELECT {table}.id AS key, {content.sql} AS content FROM {table} WHERE {table}.patient_id = %s"  # noqa: S608
        if condition:
            rows += f" AND {condition.replace('key', f'{table}.id')}"
        return Fragment(rows, (*content.parameters, KEY))


def event_as_json(events: Any) -> str:
    """The JSON of an event, byte for byte what `EventSerializer` gives. Raises UnsupportedError."""
    ended = events._meta.get_field(events.ended_column()).column
    fields = [field for field in events._meta.fields if not field.name.startswith("pgh_")]
    changes = [change_as_json(events, field) for field in fields if field.name not in BOOKKEEPING]
    if issubclass(events, OwnedEvent):
        changes.append(OWNER_CHANGE)
    sql = EVENT.format(
        at=timestamp("(event).pgh_created_at"),
        actor_name=ACTOR_NAME_SQL.format(actor="((event).pgh_context->>'actor')::bigint"),
        action=EVENT_ACTION.format(
            inserted=Inserted.label, deleted=Deleted.label, ended=f'"{ended}"', has_previous=HAS_PREVIOUS
        ),
        changes=", ".join(changes),
    )
    return " ".join(sql.split())


def change_as_json(events: Any, field: models.Field) -> str:
    """`"name":[before, after]`, or NULL when the event has not changed the field."""
    if not any(known_columns(type(field)) & columns for columns in COLUMNS_OF_FIELD.values()):
        raise UnsupportedError(f"{events.__name__}.{field.name}", f"{type(field).__name__} is not known here.")
    before, after = f'(previous)."{field.column}"', f'(event)."{field.column}"'
    changed = f"{before} IS DISTINCT FROM {after}"
    if isinstance(field, models.CharField | models.TextField):
        changed += f" AND ({HAS_PREVIOUS} OR {after} <> '')"  # of a creation, only what was given
    if isinstance(field, ObjectListField):
        changed += f" AND ({HAS_PREVIOUS} OR {after} <> '[]')"
    pair = f"{value_as_json(field, before)} || ',' || {value_as_json(field, after)}"
    return f"""CASE WHEN {changed} THEN '"{field.name}":[' || {pair} || ']' END"""


def value_as_json(field: models.Field, value: str) -> str:
    written = timestamp(value) if isinstance(field, models.DateTimeField) else value
    if isinstance(field, ObjectListField):
        written = objects_as_json(field, value)
    return f"coalesce(to_json({written})::text, 'null')"


def timestamp(value: str) -> str:
    return TIMESTAMP.replace('"{}"', value)
