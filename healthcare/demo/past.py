"""Writes records with a history of the past.

The triggers of the history stamp an event with the clock. Here the records are inserted as they are now, with that
trigger switched off, and their events beside them. ALTER TABLE locks the table against other writers until the commit,
so no other change escapes the history, and a run that is interrupted rolls everything back.
"""

import datetime
import json
from collections.abc import Iterable
from typing import Any, Self

import pgtrigger
from django.apps import apps
from django.db import connection
from django.db.models import Model

from healthcare.ownership import Record

EVENT_DELAY = datetime.timedelta(milliseconds=2)  # from a change to its event
INSERT_ROWS = "INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, %s)"
NEXT_IDS = "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)"
Columns = dict[str, Any]


class Past:
    """A record that begins at a time, and its changes since then."""

    def __init__(self, record: Model, at: datetime.datetime, context: Columns) -> None:
        self.record: Any = record
        record.created_at = at  # type: ignore[attr-defined]
        if isinstance(record, Record):
            record.complete()
            record.updated_at, record.version = at, 1
        self.events: list[Columns] = []
        self.add_event("insert", at, context)

    def change(self, at: datetime.datetime, context: Columns, **values: Any) -> Self:
        """`context` is what the history says of the request: `actor`, `request_id` and perhaps `reason`."""
        for name, value in values.items():
            setattr(self.record, name, value)
        if isinstance(self.record, Record):
            self.record.complete()
            self.record.updated_at = at
            self.record.version += 1
        self.add_event("update", at, context)
        return self

    @property
    def changed_at(self) -> datetime.datetime:
        """When it was changed last, or added."""
        at: datetime.datetime = self.events[-1]["pgh_created_at"]
        return at

    def add_event(self, label: str, at: datetime.datetime, context: Columns) -> None:
        event = {"pgh_label": label, "pgh_created_at": at + EVENT_DELAY, "pgh_context": context}
        self.events.append(column_values(self.record) | event)


class Pasts:
    """The records of some models with their pasts. Use it in a transaction: `begin`, `write` any number of times, and
    `finish`, which inserts the events in the order of their times, as if they had been recorded then."""

    def __init__(self) -> None:
        self.event_models: dict[type[Model], type[Model]] = {}  # by the model whose history they are

    def begin(self, models: Iterable[type[Model]]) -> None:
        tracked = {getattr(model, "pgh_tracked_model", None): model for model in apps.get_models()}
        self.event_models = {model: tracked[model] for model in models}
        with connection.cursor() as cursor:
            tables = ", ".join(quoted_table(model) for model in self.event_models)
            cursor.execute(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE")
            self.switch_recorders("DISABLE")
            for events in self.event_models.values():
                staged = staging(events)
                cursor.execute(f"CREATE TEMPORARY TABLE {staged} (LIKE {quoted_table(events)}) ON COMMIT DROP")
                cursor.execute(f"ALTER TABLE {staged} DROP COLUMN pgh_id")

    def write(self, pasts: Iterable[Past]) -> None:
        pasts = list(pasts)
        if not pasts:
            return
        model = type(pasts[0].record)
        insert(model, [column_values(past.record) for past in pasts])
        events = self.event_models[model]
        rows = [event for past in pasts for event in past.events]
        insert(events, rows, staging(events))

    def finish(self) -> None:
        with connection.cursor() as cursor:
            for events in self.event_models.values():
                names = column_list(events)
                cursor.execute(
                    f"INSERT INTO {quoted_table(events)} ({names}) SELECT {names} FROM {staging(events)} "  # noqa: S608
                    "ORDER BY pgh_created_at, id"
                )
        self.switch_recorders("ENABLE")

    def switch_recorders(self, switch: str) -> None:
        """Switch the triggers that record inserted rows. ALTER TABLE refuses a table with deferred checks, so they are
        made first."""
        recorders: dict[Any, Any] = {
            model: trigger for model, trigger in pgtrigger.registered() if records_inserts(trigger)
        }
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for model in self.event_models:
                trigger = recorders[model].get_pgid(model)
                cursor.execute(f"ALTER TABLE {quoted_table(model)} {switch} TRIGGER {trigger}")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def records_inserts(trigger: Any) -> bool:
    return hasattr(trigger, "event_model") and trigger.operation == pgtrigger.Insert


def next_ids(model: type[Model], count: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(NEXT_IDS, [model._meta.db_table, model._meta.pk.column, count])
        return [key for (key,) in cursor.fetchall()]


def column_values(record: Model) -> Columns:
    return {str(field.column): getattr(record, field.attname) for field in record._meta.concrete_fields}


def insert(model: type[Model], rows: list[Columns], table: str = "") -> None:
    """Insert rows, given by the names of their columns, in one statement: into the model's table, or into another one
    that has its columns but for the key. What a row has beyond the model is left out."""
    columns = column_list(model, key=not table)
    sql = INSERT_ROWS.format(table=table or quoted_table(model), columns=columns)
    with connection.cursor() as cursor:
        cursor.execute(sql, [json.dumps(rows, default=str)])


def column_list(model: type[Model], *, key: bool = False) -> str:
    fields = [field for field in model._meta.concrete_fields if key or not field.primary_key]
    return ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)


def quoted_table(model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def staging(events: type[Model]) -> str:
    return connection.ops.quote_name(f"demo_{events._meta.db_table}")
