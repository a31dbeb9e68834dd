"""The direct POST, PUT and PATCH of a record.

The serializer validates as ever, but one that is kept: nothing of a request stays in it. What asks for more than the
body to be validated, the record as it stands, say, takes the plain way, and so does a change that changes nothing.
"""

from functools import cache, lru_cache
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import Error, connection
from django.db.models import Field
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.fields import empty
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.serializers import BaseSerializer

from healthcare.api.parsers import StrictJSONParser
from healthcare.fastpath.answers import RETRY, Answer, failure, record
from healthcare.fastpath.compiled import Compiled, compile_change, compile_creation, inserted
from healthcare.fastpath.declared import ordinary, view_of
from healthcare.fastpath.routes import Place
from healthcare.fastpath.statements import ask, filled, has_waited, is_undone, writing
from healthcare.ownership import Record
from healthcare.rls.context import Entry

MEDIA_TYPES = {"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}
PARSER = StrictJSONParser()
OF_OTHERS = (BaseSerializer, ManyRelatedField, RelatedField)
OURS = ("rest_framework.", "healthcare.api.")
# What saves, and what reads a body, as the framework and `RecordSerializer` have it.
HOOKS = ("create", "update", "save", "run_validation", "to_internal_value", "run_validators", "changeable")


class AsksForMoreError(Exception):
    """Validation needs to know more than the body."""


class Unread:
    """Stands for the record that is to be changed, and for the context of a serializer."""

    def __getattr__(self, name: str) -> Any:
        raise AsksForMoreError

    def __getitem__(self, name: str) -> Any:
        raise AsksForMoreError


def refuse(*_: Any) -> Any:
    """In the place of a statement: nothing has entered the database yet."""
    raise AsksForMoreError


def answer(place: Place, request: WSGIRequest) -> Answer | None:
    """The ordinary 201 or 200, a 503 when nobody knows whether the write has happened, or None."""
    if request.META["QUERY_STRING"]:
        return None
    viewset, actions, method = place.route.viewset, tuple(place.route.actions.items()), str(request.method)
    if writable(viewset, actions, method) is None:
        return None
    entry = viewset.authentication_classes[0]().entry(request, writes=True)
    body = read(request) if entry else None
    values = validated(viewset, actions, method, body) if body else None
    if not entry or not values:
        return None
    compiled, key, given = statement_of(place, actions, method, entry, values)
    if compiled is None:
        return None
    recording = viewset.recording(place.action, request, entry.caller)
    parameters = filled(compiled, entry, key, given) + (recording[1] if recording else [])
    # There are too many combinations of fields to keep a plan for each.
    preparing = place.action == "create" or len(given) == 1
    try:
        rows = ask(entry, writing(compiled.sql, recording and recording[0]), parameters, preparing=preparing)
    except Error as error:
        # To write again what was perhaps written could write it twice.
        return None if is_undone(error) and not has_waited(error) else failure(request, 503, RETRY)
    return record(201 if place.action == "create" else 200, rows[0][1], compiled.allow) if rows else None


def statement_of(
    place: Place, actions: Any, method: str, entry: Entry, values: dict[str, Any]
) -> tuple[Compiled | None, int, dict[str, Any]]:
    """What is compiled for these fields, the key of the record, and what is given for each column."""
    viewset = place.route.viewset
    if place.action == "create":
        compiled = compile_creation(viewset, actions)
        return compiled, 0, columns(viewset.queryset.model(**values, created_by_id=entry.caller)) if compiled else {}
    compiled = compile_change(viewset, viewset.get_queryset, actions, method, tuple(sorted(values)))
    return compiled, next(iter(place.kwargs.values())), values


def columns(new: Record) -> dict[str, Any]:
    """What is inserted of a new record."""
    new.complete()
    left_out = defaults(type(new))
    return {
        field.attname: getattr(new, field.attname)
        if left_out.get(field.attname, ...) is getattr(new, field.attname)
        else field.get_db_prep_save(field.pre_save(new, True), connection)
        for field in inserted(type(new)) or []
    }


@cache
def defaults(model: type[Record]) -> dict[str, Any]:
    """The fields that are inserted as they stand when nothing is given for them."""
    plain = [field for field in inserted(model) or [] if type(field).pre_save is Field.pre_save]
    return {field.attname: field.get_default() for field in plain if not callable(field.default)}


def read(request: WSGIRequest) -> dict[str, Any] | None:
    """The body; None when the plain way has to say what is wrong with it."""
    length = request.META.get("CONTENT_LENGTH", "")
    known = length.isascii() and length.isdigit() and len(length) < 8
    if not known or int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return None
    if request.META.get("CONTENT_TYPE") not in MEDIA_TYPES:
        return None
    try:
        content = request.META["wsgi.input"].read(int(length))
    except OSError:  # the client has gone
        content = b""
    request.META["wsgi.input"] = BytesIO(content)  # whoever comes next reads it from the start
    try:
        return PARSER.parse(BytesIO(content)) if len(content) == int(length) else None
    except ParseError:
        return None


def validated(viewset: Any, actions: Any, method: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """What the serializer makes of the body; None when it does not take it, or would have to know more."""
    given = (writable(viewset, actions, method) or frozenset()).intersection(body)
    try:
        with connection.execute_wrapper(refuse):
            values: dict[str, Any] = kept(viewset, actions, method, given).run_validation(body)
    except (ValidationError, AsksForMoreError):
        return None
    own = {field.name for field in viewset.queryset.model._meta.concrete_fields}
    return values if values.keys() <= own else None


@cache
def writable(viewset: Any, actions: Any, method: str) -> frozenset[str] | None:
    """The names of the fields that an action takes; None for one whose serializer may ask the database, or do more than
    validate."""
    if not ordinary(viewset, dict(actions)[method.lower()]):
        return None
    serializer = made(viewset, actions, method)
    asking = any(
        isinstance(field, OF_OTHERS)
        or field.source != field.field_name
        or any(getattr(validator, "requires_context", False) for validator in field.validators)
        for field in serializer._writable_fields
    )
    if asking or not all(getattr(serializer, name).__module__.startswith(OURS) for name in HOOKS):
        return None
    return frozenset(field.field_name for field in serializer._writable_fields)


@lru_cache(maxsize=256)
def kept(viewset: Any, actions: Any, method: str, given: frozenset[str]) -> Any:
    """The serializer for bodies with these fields, without those that then have nothing to say."""
    serializer = made(viewset, actions, method)
    for field in list(serializer._writable_fields):
        if field.field_name not in given and not field.required and field.default is empty:
            del serializer.fields[field.field_name]
    serializer._context = Unread()
    return serializer


def made(viewset: Any, actions: Any, method: str) -> Any:
    serializer = view_of(viewset, dict(actions), method).get_serializer_class()
    return serializer(None if method == "POST" else Unread(), data={}, partial=method == "PATCH")
