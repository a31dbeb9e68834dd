"""The fast POST of a record: one INSERT, with the answer of an Idempotency-Key."""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import DateField, DateTimeField, Field
from django.db.models.base import ModelState
from django.db.models.expressions import DatabaseDefault
from django.http import HttpRequest

from healthcare.api.conditional_requests import read_tags
from healthcare.api.idempotency import Key
from healthcare.api.models import IdempotencyRecord
from healthcare.fastpath.actions import NotExpressibleError, without_database
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.execution import Statement
from healthcare.fastpath.json_sql import (
    Fragment,
    cast_placeholder,
)
from healthcare.fastpath.placeholders import (
    CALLER,
    IDEMPOTENCY_DIGEST,
    IDEMPOTENCY_FINGERPRINT,
    LOCATION_BASE,
    OWNER,
    Placeholder,
)
from healthcare.fastpath.statements import IS_PRINCIPAL, PRINCIPAL_SQL, entity_tag_of, escaped
from healthcare.fastpath.writes import CompiledWrite, FastWrite

CLAIM_KEY = "SELECT set_config('fastpath.key_claimed', pg_try_advisory_xact_lock(%s)::text, true)"


class FastCreate(FastWrite):
    """`POST /…/`, with or without an Idempotency-Key. A repeated key is answered by standard DRF."""

    path_arguments = frozenset()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.compile = lru_cache(maxsize=2)(self.compile_insert)

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        self.compile(False)
        for column in self.meta.concrete_fields:
            if column.generated:
                yield Obstacle(f"{self.model.__name__}.{column.name}", "The fast path inserts no generated columns.")

    @cached_property
    def inserted_columns(self) -> list[Field]:
        """The columns of the INSERT; the others have a default of the database and cannot be written by clients."""
        return [
            column
            for column in self.meta.concrete_fields
            if not column.primary_key
            and (not column.has_db_default() or column.has_default() or column.name in self.writable_names)
        ]

    @cached_property
    def omitted_columns(self) -> list[Field]:
        return [column for column in self.meta.concrete_fields if column not in [self.meta.pk, *self.inserted_columns]]

    def compile_insert(self, keyed: bool) -> CompiledWrite:
        columns = self.inserted_columns
        names = ", ".join(f'"{column.column}"' for column in columns)
        given = ", ".join(cast_placeholder(column) for column in columns)
        returning = self.returning()
        key = f'"{self.meta.db_table}"."{self.meta.pk.column}"'
        condition = IS_PRINCIPAL
        stored = Fragment("")
        if keyed:
            unused = (
                f"{IS_PRINCIPAL.sql} AND current_setting('fastpath.key_claimed', true) = 'true' AND NOT EXISTS "
                f'(SELECT FROM "{IdempotencyRecord._meta.db_table}" WHERE digest = %s)'  # noqa: S608
            )
            condition = Fragment(unused, (*IS_PRINCIPAL.parameters, IDEMPOTENCY_DIGEST))
            stored = self.store_answer()
        sql = (
            f'WITH written AS (INSERT INTO "{self.meta.db_table}" ({names}) SELECT {given} '  # noqa: S608
            f"WHERE {condition.sql} RETURNING {returning.sql}, {key} AS key){stored.sql}\n"
            f"SELECT {PRINCIPAL_SQL}, content, key "
            "FROM (VALUES (1)) AS one LEFT JOIN written ON true"
        )
        parameters = [
            *(self.placeholders[column.attname] for column in columns), *condition.parameters, *returning.parameters,
            *stored.parameters,
        ]  # fmt: skip
        return CompiledWrite(Fragment(sql, tuple(parameters)), plannable=True)

    def store_answer(self) -> Fragment:
        tag = entity_tag_of("content")
        table, seconds = IdempotencyRecord._meta.db_table, int(IdempotencyRecord.LIFETIME.total_seconds())
        sql = (
            f',\nstored AS (INSERT INTO "{table}" (digest, fingerprint, user_id, status, headers, body, expires_at) '  # noqa: S608
            f"SELECT %s::text, %s::text, %s::bigint, 201, "
            f"jsonb_build_object('ETag', {tag.sql}, 'Location', %s || key || '/'), {escaped('content')}, "
            f"clock_timestamp() + interval '{seconds} seconds' FROM written)"
        )
        return Fragment(sql, (IDEMPOTENCY_DIGEST, IDEMPOTENCY_FINGERPRINT, CALLER, *tag.parameters, LOCATION_BASE))

    def statements(
        self, request: HttpRequest, values: dict[str, Any], known: dict[Placeholder, Any]
    ) -> list[Statement]:
        if "HTTP_IF_MATCH" in request.META:
            read_tags(request.META, "If-Match")  # there is nothing to match, but a malformed one is refused
        with without_database():
            known |= self.column_values(values, known[OWNER])
        key = self.find_key(request, known) if "HTTP_IDEMPOTENCY_KEY" in request.META else None
        if key is None:
            return [self.compile(False).statement(known)]
        known |= {
            IDEMPOTENCY_DIGEST: key.digest, IDEMPOTENCY_FINGERPRINT: key.fingerprint,
            LOCATION_BASE: self.viewset.location_base(request.path),
        }  # fmt: skip
        # The claim is a statement of its own: the next one must see what the last holder of the lock has committed.
        return [Statement(CLAIM_KEY, [key.lock_id], plannable=True), self.compile(True).statement(known)]

    def find_key(self, request: HttpRequest, known: dict[Placeholder, Any]) -> Key | None:
        caller, owner = known[CALLER], known[OWNER]
        return Key.of(request, caller, acting_for=None if owner == caller else owner)

    def column_values(self, values: dict[str, Any], owner_id: int) -> dict[Placeholder, Any]:
        record = self.build_record(values, owner_id)
        record.complete()
        database = connections[DEFAULT_DB_ALIAS]
        prepared = self.constant_defaults.copy()
        for column in self.omitted_columns:
            if not isinstance(getattr(record, column.attname), DatabaseDefault):
                raise NotExpressibleError  # a validation has given it a value, or `complete`
        for column, placeholder, default in self.insertions:
            value = getattr(record, column.attname)
            if value is default:
                continue
            if hasattr(value, "resolve_expression"):
                raise NotExpressibleError
            prepared[placeholder] = column.get_db_prep_save(column.pre_save(record, True), database)
        return prepared

    def build_record(self, values: dict[str, Any], owner_id: int) -> Any:
        """`self.model(created_by_id=owner_id, **values)`, without its loop over all fields.

        Nothing else could differ: an override of `__init__` or a receiver of its signals is an obstacle.
        """
        record = self.model.__new__(self.model)
        vars(record).update(self.initial_attributes, _state=ModelState(), created_by_id=owner_id)
        for column in self.columns_with_callable_default:
            setattr(record, column.attname, column.get_default())
        for name, value in values.items():
            setattr(record, name, value)
        return record

    @cached_property
    def initial_attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self.model()).items() if name != "_state"}

    @cached_property
    def columns_with_callable_default(self) -> list[Field]:
        return [column for column in self.meta.concrete_fields if has_callable_default(column)]

    @cached_property
    def insertions(self) -> list[tuple[Field, Placeholder, Any]]:
        """The columns of the INSERT, each with its placeholder and its default, if that is constant."""
        return [
            (column, self.placeholders[column.attname], column.get_default() if has_constant_default(column) else self)
            for column in self.inserted_columns
        ]

    @cached_property
    def constant_defaults(self) -> dict[Placeholder, Any]:
        """The constant defaults as they are sent to the database."""
        return {
            placeholder: column.get_db_prep_save(default, connection)
            for column, placeholder, default in self.insertions
            if default is not self
        }


def has_callable_default(column: Field) -> bool:
    return column.has_default() and callable(column.default)


def has_constant_default(column: Field) -> bool:
    """Whether a column that nobody sets gets the same value in each row."""
    if column.has_db_default() or has_callable_default(column):
        return False
    if isinstance(column, DateField) and type(column).pre_save in {DateField.pre_save, DateTimeField.pre_save}:
        return not (column.auto_now or column.auto_now_add)
    return type(column).pre_save is Field.pre_save
