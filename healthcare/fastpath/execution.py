"""Sends the statements of one request to PostgreSQL in one message, which is one transaction and one round trip."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction

from healthcare.fastpath.prepared import (
    MAXIMUM_STATEMENTS,
    is_lost,
    is_preparing,
    losses,
    prepared_forms,
    prepared_names,
)


@dataclass(frozen=True)
class Statement:
    """SQL with `%s` and its values. A `plannable` one is prepared once a session: its text must not hold values.

    A `rare` one, of which clients can cause many, leaves half of a session's statements to the others.
    """

    sql: str
    values: Sequence[Any] = ()
    plannable: bool = False
    rare: bool = False


def execute(statements: Sequence[Statement], using: str = DEFAULT_DB_ALIAS) -> list[tuple[Any, ...]]:
    """The rows of the last statement. Raises `django.db.Error` if PostgreSQL refuses one or is unavailable."""
    try:
        return send(statements, using, preparing=is_preparing())
    except Error as error:
        if not is_lost(error):
            raise
        # PostgreSQL has rolled the message back before anything was executed under that name.
        losses.add()
        prepared_names(connections[using]).clear()
        return send([Statement("DEALLOCATE ALL"), *statements], using, preparing=False)


def send(statements: Sequence[Statement], using: str, *, preparing: bool) -> list[tuple[Any, ...]]:
    database: Any = connections[using]
    known = prepared_names(database)
    texts: list[str] = []
    values: list[Any] = []
    new: set[str] = set()
    for statement in statements:
        text = statement.sql
        if preparing and statement.plannable:
            name, preparation, execution = prepared_forms(text)
            if name in known:
                text = execution
            elif len(known) + len(new) < MAXIMUM_STATEMENTS // (2 if statement.rare else 1):
                text = preparation + execution
                new.add(name)
        texts.append(text)
        values += statement.values
    try:
        # Inside a transaction, a failure must undo this message alone.
        with transaction.atomic(using) if database.in_atomic_block else nullcontext():
            cursor = open_cursor(database)
            cursor.cursor.sets_timeouts = "statement_timeout" in statements[0].sql
            cursor.execute(";\n".join(texts), values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
    except Error:
        database.health_check_done = False  # the next use checks the connection
        raise
    known.update(new)
    return rows


def open_cursor(database: Any) -> Any:
    """A cursor of Django. `cursor()` asks three times whether an event loop runs in this thread; once is enough."""
    if database.connection is None:
        return database.cursor()
    return database._prepare_cursor(database.create_cursor())


def is_healthy() -> bool:
    """Whether this thread has a connection that needs no health check any more."""
    database: Any = connections[DEFAULT_DB_ALIAS]
    return database.connection is not None and database.health_check_done


def is_rolled_back(error: Error) -> bool:
    """Whether PostgreSQL has reported that it rolled the transaction back, so that the connection is usable."""
    return getattr(getattr(error.__cause__, "diag", None), "severity_nonlocalized", None) == "ERROR"
