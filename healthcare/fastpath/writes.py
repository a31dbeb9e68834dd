"""The fast POST, PUT and PATCH of a record: 201, 200 and 401.

The serializer validates the body as in standard DRF, but without access to the request, the record or the database.
If a validation needs one of them, it raises NotExpressibleError, and standard DRF answers.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from inspect import getattr_static
from threading import local
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import Error
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.utils import timezone
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.fields import empty
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.serializers import BaseSerializer, Serializer
from rest_framework.utils.serializer_helpers import BindingDict

from healthcare.api.conditional_requests import entity_tag
from healthcare.fastpath.actions import (
    STANDARD_PATH_HEADERS,
    FastAction,
    InaccessibleValue,
    NotExpressibleError,
    basis_of,
    encode_json,
    entry_statements,
    read_json_body,
    without_database,
)
from healthcare.fastpath.eligibility import Obstacle
from healthcare.fastpath.execution import Statement, execute, is_rolled_back
from healthcare.fastpath.json_sql import (
    COLUMNS_OF_FIELD,
    Fragment,
    known_columns,
    record_as_json,
)
from healthcare.fastpath.placeholders import (
    BASIS,
    CALLER,
    KEY,
    OWNER,
    PRINCIPAL,
    REQUEST_ID,
    TODAY,
    Placeholder,
    fill,
)
from healthcare.fastpath.statements import principal_of
from healthcare.model_fields import LARGEST_ID
from healthcare.postgresql.errors import waiting_is_futile
from healthcare.rls.context import Entry

RELATIONS = (BaseSerializer, ManyRelatedField, RelatedField)


@dataclass(frozen=True)
class CompiledWrite:
    fragment: Fragment
    plannable: bool

    def statement(self, values: dict[Placeholder, Any]) -> Statement:
        return Statement(self.fragment.sql, fill(self.fragment.parameters, values), self.plannable)


# The code of DRF that reads the fields while it validates.
FIELD_READERS = {Serializer._writable_fields.fget.__code__, Serializer._read_only_defaults.__code__}  # type: ignore[attr-defined]


class UnreadableFields(BindingDict):
    """The fields that a validation runs. Code that looks for one sends the request to standard DRF, which has all."""

    def __init__(self, serializer: Any, fields: BindingDict) -> None:
        super().__init__(serializer)
        self.fields = dict(fields)

    def __getitem__(self, name: Any) -> Any:
        raise NotExpressibleError

    def __iter__(self) -> Any:
        raise NotExpressibleError

    def __len__(self) -> int:
        raise NotExpressibleError

    __contains__ = __getitem__

    def values(self) -> Any:
        if sys._getframe(1).f_code not in FIELD_READERS:
            raise NotExpressibleError
        return self.fields.values()


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
            if type(getattr_static(self.model, column.attname, None)) is not column.descriptor_class:
                yield Obstacle(f"{self.model.__name__}.{column.attname}", "It is not stored as it is set.")
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
        key = next(iter(kwargs.values()), 1)
        if not self.is_expressible(request) or not 0 < key <= LARGEST_ID:
            return None
        try:
            entry = self.enter(request)
        except (NotAuthenticated, AuthenticationFailed) as error:
            if isinstance(error, NotAuthenticated) and "HTTP_X_CHANGE_REASON" in request.META:
                return None  # which is validated first
            return self.respond_unauthenticated(request, error)
        except (APIException, NotExpressibleError):  # X-Change-Reason, X-Acting-For
            return None
        self.set_user(request, entry)
        try:
            values = self.validate_body(request)
            known = {
                CALLER: entry.caller, OWNER: entry.owner.pk, BASIS: basis_of(entry), PRINCIPAL: principal_of(entry),
                KEY: key,
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
        return self.execute_write(request, [*entry_statements(entry), *statements], entry)

    def is_expressible(self, request: HttpRequest) -> bool:
        """Whether the request asks for nothing that only standard DRF does, as far as its line and headers tell."""
        meta = request.META
        if vars(request).get("GET"):
            return False  # middleware has replaced the parameters
        return not meta["QUERY_STRING"] and STANDARD_PATH_HEADERS.isdisjoint(meta) and not self.is_observed()

    def execute_write(self, request: HttpRequest, statements: list[Statement], entry: Entry) -> HttpResponse | None:
        try:
            rows = execute(statements)
        except Error as error:
            if is_rolled_back(error) and not waiting_is_futile(error):
                self.log_defect(error)
                return None
            # The write may have been committed, so it is not repeated.
            return self.respond_unavailable(request)
        principal, content, *created = rows[0]
        if not self.confirm_entry(request, entry, principal):
            return self.respond_unverified(request, entry)
        if content is None:
            return None
        body = encode_json(content)
        headers = {"ETag": entity_tag(body)}
        if created:
            headers["Location"] = f"{self.viewset.location_base(request.path)}{created[0]}/"
        return self.respond_with_json(body, 201 if self.action == "create" else 200, headers)

    def statements(
        self, request: HttpRequest, values: dict[str, Any], known: dict[Placeholder, Any]
    ) -> list[Statement]:
        """The statements after `entry_statements`; the last one returns the session's user and the record's JSON."""
        raise NotImplementedError

    def validate_body(self, request: HttpRequest) -> dict[str, Any]:
        """The validated values by field. Any exception sends the request to standard DRF."""
        body = read_json_body(request)
        if not body.keys() <= self.known_names:
            raise NotExpressibleError
        serializer = self.serializer_for(frozenset(body))
        with without_database():
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
            instance = None if self.action == "create" else InaccessibleValue()
            serializer = self.serializer_class(instance, data={}, partial=self.partial)
            for name, field in list(serializer.fields.items()):
                if name not in key and not field.required and field.default is empty:
                    del serializer.fields[name]
            serializer.fields = UnreadableFields(serializer, serializer.fields)
            serializer._context = serializer.initial_data = InaccessibleValue()
            if len(cache) >= 256:
                cache.clear()
            ones = [serializer, *serializer.fields.fields.values()]
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
