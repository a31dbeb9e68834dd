"""The fast POST, PUT and PATCH of a record: 201, 200 and 401.

The serializer validates the body as in standard DRF, but without access to the request, the record or the database.
If a validation needs one of them, it raises NotExpressibleError, and standard DRF answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from threading import local
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections
from django.db.models import DateField, DateTimeField, F, Field
from django.db.models.base import ModelState
from django.db.models.expressions import DatabaseDefault
from django.db.models.sql import UpdateQuery
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.utils import timezone
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.fields import empty
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.serializers import BaseSerializer

from healthcare.api.conditional_requests import entity_tag, read_tags
from healthcare.api.idempotency import Key
from healthcare.api.models import IdempotencyRecord
from healthcare.api.parsers import StrictJSONParser
from healthcare.fastpath.actions import (
    FastAction,
    InaccessibleObject,
    NotExpressibleError,
    encode_json,
    entry_statements,
    refuse_query,
)
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.execution import Statement, execute, has_timed_out, is_rolled_back
from healthcare.fastpath.json_sql import (
    COLUMNS_OF_FIELD,
    Fragment,
    cast_placeholder,
    known_columns,
    record_as_json,
)
from healthcare.fastpath.placeholders import (
    CALLER,
    CALLER_TEXT,
    ENTITY_TAGS,
    IDEMPOTENCY_DIGEST,
    IDEMPOTENCY_FINGERPRINT,
    KEY,
    LOCATION_BASE,
    REQUEST_ID,
    TODAY,
    Parameter,
    Placeholder,
    fill,
)
from healthcare.fastpath.statements import IS_CALLER, compile_rows, entity_tag_of, escaped, raw_sql
from healthcare.model_fields import LARGEST_ID

PARSER = StrictJSONParser()
RELATIONS = (BaseSerializer, ManyRelatedField, RelatedField)
STANDARD_PATH_HEADERS = {"HTTP_IF_NONE_MATCH", "HTTP_PREFER"}
CLAIM_KEY = "SELECT set_config('fastpath.key_claimed', pg_try_advisory_xact_lock(%s)::text, true)"


@dataclass(frozen=True)
class CompiledWrite:
    fragment: Fragment
    plannable: bool

    def statement(self, values: dict[Placeholder, Any]) -> Statement:
        return Statement(self.fragment.sql, fill(self.fragment.parameters, values), self.plannable)


class FastWrite(FastAction):
    """The base class of create and update."""

    partial = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.meta = self.model._meta
        self.placeholders = {field.attname: Placeholder(field.attname) for field in self.meta.concrete_fields}
        self.serializers = local()  # by thread: validation may keep state on a serializer

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        record_as_json(self.serializer_class())
        for name, field in self.writable_fields().items():
            member = f"{self.serializer_class.__name__}.{name}"
            context = any(getattr(validator, "requires_context", False) for validator in field.validators)
            if isinstance(field, RELATIONS) or field.source != name or context:
                yield Obstacle(member, "The fast path writes plain columns that are validated by themselves.")
            elif field.write_only and not known_columns(type(field)):
                yield Obstacle(member, f"{type(field).__name__} is not known to healthcare.fastpath.json_sql.")
        for column in self.meta.concrete_fields:
            if column.name in self.writable_names and (
                getattr(column, "auto_now", False) or getattr(column, "auto_now_add", False)
            ):
                yield Obstacle(f"{self.model.__name__}.{column.name}", "Make it read-only: a save sets it to now.")
            if not any(known_columns(type(column)) & columns for columns in COLUMNS_OF_FIELD.values()):
                yield Obstacle(
                    f"{self.model.__name__}.{column.name}",
                    f"{type(column).__name__} is not known to healthcare.fastpath.json_sql; add it there with a test.",
                )

    def writable_fields(self) -> dict[str, Any]:
        serializer = self.serializer_class(data={})
        return {field.field_name: field for field in serializer._writable_fields}

    def respond(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        meta = request.META
        if vars(request).get("GET"):
            return None  # middleware has replaced the parameters
        if meta["QUERY_STRING"] or not STANDARD_PATH_HEADERS.isdisjoint(meta) or self.is_observed():
            return None
        key = next(iter(kwargs.values()), 1)
        if not 0 < key <= LARGEST_ID:
            return None
        try:
            entry = self.enter(request)
        except (NotAuthenticated, AuthenticationFailed) as error:
            if isinstance(error, NotAuthenticated) and "HTTP_X_CHANGE_REASON" in meta:
                return None  # which is validated first
            return self.respond_unauthenticated(request, error)
        except APIException:  # X-Change-Reason
            return None
        self.set_user(request, entry.caller)
        try:
            values = self.validate_body(request)
            known = {
                CALLER: entry.caller, CALLER_TEXT: str(entry.caller), KEY: key,
                TODAY: timezone.localdate(None, timezone.get_default_timezone()),
                REQUEST_ID: request.request_id,  # type: ignore[attr-defined]
            }  # fmt: skip
            statements = self.statements(request, values, known)
        except UnreadablePostError:  # the client has disconnected
            return self.respond_with_problem(
                request, 400, "The body is shorter than its Content-Length; send all of it."
            )
        except (APIException, NotExpressibleError, RequestDataTooBig):
            return None
        except Exception as error:
            self.log_failure(error)
            return None
        try:
            rows = execute([*entry_statements(entry), *statements])
        except Error as error:
            if is_rolled_back(error) and not has_timed_out(error):
                self.log_defect(error)
                return None
            # The write may have been committed, so it is not repeated.
            return self.respond_unavailable(request)
        caller, content, *created = rows[0]
        if caller != known[CALLER_TEXT]:
            return self.respond_unauthenticated(request, self.authentication.session_ended())
        if content is None:
            return None
        body = encode_json(content)
        status = 201 if self.action == "create" else 200
        headers = {"ETag": entity_tag(body)}
        if created:
            headers["Location"] = f"{self.viewset.location_base(request.path)}{created[0]}/"
        return self.respond_with_json(body, status, headers)

    def statements(
        self, request: HttpRequest, values: dict[str, Any], known: dict[Placeholder, Any]
    ) -> list[Statement]:
        """The statements after `entry_statements`; the last one returns the session's user and the record's JSON."""
        raise NotImplementedError

    def validate_body(self, request: HttpRequest) -> dict[str, Any]:
        """The validated values by field. Any exception sends the request to standard DRF."""
        if request.content_type != "application/json" or (request.content_params or {}).keys() - {"charset"}:
            raise NotExpressibleError
        if not request.META.get("CONTENT_LENGTH"):
            raise NotExpressibleError
        content = request.body
        if len(content) != int(request.META["CONTENT_LENGTH"]):
            raise NotExpressibleError
        body = PARSER.parse(BytesIO(content))
        if not body.keys() <= self.known_names:
            raise NotExpressibleError
        serializer = self.serializer_for(frozenset(body))
        with connection.execute_wrapper(refuse_query):
            values: dict[str, Any] = serializer.run_validation(body)
        if not values or not values.keys() <= self.column_names:
            raise NotExpressibleError
        return values

    def serializer_for(self, given: frozenset[str]) -> Any:
        """A serializer of this thread for bodies with these keys, without the fields that they leave unused."""
        cache: dict[frozenset[str], tuple[Any, list[Any]]] = vars(self.serializers).setdefault("by_fields", {})
        key = given & self.writable_names
        if key in cache:
            serializer, states = cache[key]
            for one, state in states:  # what an earlier validation has left on them
                if vars(one) != state:
                    vars(one).clear()
                    vars(one).update(state)
        else:
            instance = None if self.action == "create" else InaccessibleObject()
            serializer = self.serializer_class(instance, data={}, partial=self.partial)
            for name, field in list(serializer.fields.items()):
                if name not in key and not field.required and field.default is empty:
                    del serializer.fields[name]
            serializer._context = InaccessibleObject()
            if len(cache) >= 256:
                cache.clear()
            ones = [serializer, *serializer.fields.values()]
            cache[key] = serializer, [(one, dict(vars(one))) for one in ones]
        return serializer

    @cached_property
    def column_names(self) -> frozenset[str]:
        return frozenset(field.name for field in self.meta.concrete_fields)

    @cached_property
    def known_names(self) -> frozenset[str]:
        """The fields that a body may have, read-only ones included."""
        return frozenset(self.serializer_class().fields.keys() | self.viewset.added_fields)

    @cached_property
    def writable_names(self) -> frozenset[str]:
        return frozenset(self.writable_fields())

    def returning(self) -> Fragment:
        content = record_as_json(self.serializer_class())
        subject = ""
        if self.recording:
            column = self.meta.pk if self.recording.column == "pk" else self.meta.get_field(self.recording.column)
            subject = f'"{self.meta.db_table}"."{column.column}" AS subject, '
        return Fragment(f"{subject}{content.sql} AS content", content.parameters)


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
            if not column.primary_key and (not column.has_db_default() or column.name in self.writable_names)
        ]

    def compile_insert(self, keyed: bool) -> CompiledWrite:
        columns = self.inserted_columns
        names = ", ".join(f'"{column.column}"' for column in columns)
        given = ", ".join(cast_placeholder(column) for column in columns)
        returning = self.returning()
        key = f'"{self.meta.db_table}"."{self.meta.pk.column}"'
        condition = IS_CALLER
        stored = Fragment("")
        if keyed:
            unused = (
                f"{IS_CALLER.sql} AND current_setting('fastpath.key_claimed', true) = 'true' AND NOT EXISTS "
                f'(SELECT FROM "{IdempotencyRecord._meta.db_table}" WHERE digest = %s)'  # noqa: S608
            )
            condition = Fragment(unused, (*IS_CALLER.parameters, IDEMPOTENCY_DIGEST))
            stored = self.store_answer()
        sql = (
            f'WITH written AS (INSERT INTO "{self.meta.db_table}" ({names}) SELECT {given} '  # noqa: S608
            f"WHERE {condition.sql} RETURNING {returning.sql}, {key} AS key){stored.sql}\n"
            "SELECT current_setting('app.user_id', true), content, key "
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
        known |= self.column_values(values, known[CALLER])
        key = Key.of(request, known[CALLER]) if "HTTP_IDEMPOTENCY_KEY" in request.META else None
        if key is None:
            return [self.compile(False).statement(known)]
        known |= {
            IDEMPOTENCY_DIGEST: key.digest, IDEMPOTENCY_FINGERPRINT: key.fingerprint,
            LOCATION_BASE: self.viewset.location_base(request.path),
        }  # fmt: skip
        # The claim is a statement of its own: the next one must see what the last holder of the lock has committed.
        return [Statement(CLAIM_KEY, [key.lock_id], plannable=True), self.compile(True).statement(known)]

    def column_values(self, values: dict[str, Any], owner_id: int) -> dict[Placeholder, Any]:
        record = self.build_record(values, owner_id)
        record.complete()
        database = connections[DEFAULT_DB_ALIAS]
        prepared = self.constant_defaults.copy()
        for column, placeholder, default in self.insertions:
            value = getattr(record, column.attname)
            if value is default:
                continue
            if isinstance(value, DatabaseDefault):
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


class FastUpdate(FastWrite):
    """`PUT` and `PATCH /…/<id>/`, with or without If-Match. A record that is not there is answered by standard DRF."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.partial = self.action == "partial_update"
        self.compile = lru_cache(maxsize=1024)(self.compile_update)

    def obstacles_of_statements(self) -> Iterator[Obstacle]:
        yield from super().obstacles_of_statements()
        self.compile(("name",) if "name" in self.writable_names else (min(self.writable_names),), False)
        if sum(map(bool, self.rows().query.alias_refcount.values())) > 1:
            yield Obstacle(f"{self.viewset.__name__}.scope", "The fast path updates rows of one table without a join.")

    def compile_update(self, fields: tuple[str, ...], matching: bool) -> CompiledWrite:
        columns = [self.meta.get_field(name) for name in fields]
        given = [self.placeholders[column.attname] for column in columns]
        rows = self.rows().filter(pk=Parameter(KEY)).order_by()
        query = rows.query.chain(UpdateQuery)
        changes: dict[str, Any] = {
            column.name: raw_sql(Fragment(cast_placeholder(column), (placeholder,)))
            for column, placeholder in zip(columns, given, strict=True)
        }
        query.add_update_values(changes)  # type: ignore[attr-defined]  # a trigger counts the version
        update, parameters = query.get_compiler(connection=connection).as_sql()
        returning = self.returning()
        old = ", ".join(f'"{self.meta.db_table}"."{column.column}"' for column in columns)
        new = ", ".join(cast_placeholder(column) for column in columns)
        match = self.match_entity_tag() if matching else Fragment("")
        subject = {"subject": F(self.recording.column)} if self.recording else {}
        content = record_as_json(self.serializer_class())
        same = compile_rows(rows.values(content=raw_sql(content), **subject))
        condition = f"{IS_CALLER.sql}{match.sql}"
        names = "subject, content" if self.recording else "content"
        recorded = Fragment("")
        if self.recording:
            ids = Fragment("(SELECT array_agg(subject) FROM answered)")
            insert = self.recording.fragment(ids, Fragment("200"), Fragment("EXISTS (SELECT FROM answered)"))
            recorded = Fragment(f",\nrecorded AS ({insert.sql})", insert.parameters)
        sql = (
            f"WITH written AS ({update} AND ({old}) IS DISTINCT FROM ({new}) AND {condition} "  # noqa: S608
            f"RETURNING {returning.sql}),\n"
            # A body that changes nothing writes nothing, and answers the record.
            f"unchanged AS ({same.sql} AND ({old}) IS NOT DISTINCT FROM ({new}) AND {condition} "
            "AND NOT EXISTS (SELECT FROM written)),\n"
            f"answered AS (SELECT {names} FROM written UNION ALL SELECT {names} FROM unchanged){recorded.sql}\n"
            "SELECT current_setting('app.user_id', true), content FROM (VALUES (1)) AS one LEFT JOIN answered ON true"
        )
        conditions = (*given, *IS_CALLER.parameters, *match.parameters)
        return CompiledWrite(
            Fragment(
                sql,
                (*parameters, *conditions, *returning.parameters, *same.parameters, *conditions, *recorded.parameters),
            ),
            # There are too many combinations of fields to keep a plan of each.
            plannable=len(fields) <= 2,
        )

    def match_entity_tag(self) -> Fragment:
        content = record_as_json(self.serializer_class())
        tag = entity_tag_of(content.sql)
        return Fragment(f" AND {tag.sql} = ANY(%s::text[])", (*tag.parameters, *content.parameters, ENTITY_TAGS))

    def statements(
        self, request: HttpRequest, values: dict[str, Any], known: dict[Placeholder, Any]
    ) -> list[Statement]:
        tags = read_tags(request.META, "If-Match") if "HTTP_IF_MATCH" in request.META else set()
        matching = bool(tags) and tags != {"*"}
        known[ENTITY_TAGS] = sorted(tags)
        fields = tuple(sorted(values))
        database = connections[DEFAULT_DB_ALIAS]
        for name in fields:
            field = self.meta.get_field(name)
            known[self.placeholders[field.attname]] = field.get_db_prep_save(values[name], database)
        return [self.compile(fields, matching).statement(known)]
