"""The direct POST, PUT and PATCH of a record.

The serializer validates as ever, but one that is kept: nothing of a request stays in it. A change whose validation asks
for the record as it stands takes the plain way, and so does one that changes nothing.
"""

from functools import cache
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import Error, connection
from rest_framework.exceptions import APIException
from rest_framework.fields import SkipField
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.serializers import BaseSerializer

from healthcare.api.parsers import StrictJSONParser
from healthcare.api.problems import CONTENT_TYPE, problem_response
from healthcare.direct.answers import Answer, record
from healthcare.direct.compiled import compile_change, compile_creation, inserted, ordinary, view_of
from healthcare.direct.routes import Place
from healthcare.direct.statements import ask, filled, writing
from healthcare.ownership import Record

MEDIA_TYPES = {"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}
PARSER = StrictJSONParser()
OF_OTHERS = (BaseSerializer, ManyRelatedField, RelatedField)
OURS = ("rest_framework.", "healthcare.api.")
# What saves, and what reads a body, as the framework and `RecordSerializer` have it.
HOOKS = ("create", "update", "save", "run_validation", "to_internal_value", "run_validators", "changeable")


class AsksForRecordError(Exception):
    """Validation needs to know the record that is to be changed."""


class Unread:
    """Stands for the record that is to be changed."""

    def __getattr__(self, name: str) -> Any:
        raise AsksForRecordError


def answer(place: Place, request: WSGIRequest) -> Answer | None:
    """The ordinary 201 or 200, a 503 when nobody knows whether the write has happened, or None."""
    if request.META["QUERY_STRING"]:
        return None
    viewset, actions, method = place.route.viewset, tuple(place.route.actions.items()), str(request.method)
    serializer = kept(viewset, actions, method)
    entry = viewset.authentication_classes[0]().entry(request, writes=True) if serializer else None
    values = read(request, serializer) if entry else None
    if not entry or not values:
        return None
    if place.action == "create":
        compiled, key = compile_creation(viewset, actions), 0
        given = columns(serializer.Meta.model(**values, created_by_id=entry.caller)) if compiled else {}
    else:
        compiled = compile_change(viewset, viewset.get_queryset, actions, method, tuple(sorted(values)))
        [key], given = place.kwargs.values(), values
    if compiled is None:
        return None
    recording = viewset.recording(place.action, request, entry.caller)
    parameters = filled(compiled, entry, key, given) + (recording[1] if recording else [])
    try:
        rows = ask(entry, writing(compiled.sql, recording and recording[0]), parameters, preparing=True)
    except Error as error:
        return None if is_undone(error) else unknown(request)
    return record(201 if place.action == "create" else 200, rows[0][1], compiled.allow) if rows else None


def columns(new: Record) -> dict[str, Any]:
    """What is inserted of a new record."""
    new.complete()
    fields = inserted(type(new)) or []
    return {field.attname: field.get_db_prep_save(field.pre_save(new, True), connection) for field in fields}


def read(request: WSGIRequest, serializer: Any) -> dict[str, Any] | None:
    """The values of the body, validated; None when the plain way has to say what is wrong, or to look closer."""
    length = request.META.get("CONTENT_LENGTH", "")
    known = length.isascii() and length.isdigit() and len(length) < 8
    if not known or int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return None
    if request.META.get("CONTENT_TYPE") not in MEDIA_TYPES:
        return None
    body = request.META["wsgi.input"].read(int(length))
    request.META["wsgi.input"] = BytesIO(body)  # whoever comes next reads it from the start
    if len(body) < int(length):
        return None
    try:
        values: dict[str, Any] = serializer.run_validation(PARSER.parse(BytesIO(body)))
    except (APIException, AsksForRecordError, SkipField):
        return None
    own = {field.name for field in serializer.Meta.model._meta.concrete_fields}
    return values if values.keys() <= own else None


@cache
def kept(viewset: Any, actions: Any, method: str) -> Any:
    """The serializer of an action, which validates without asking the database; None for one that may do more."""
    view = view_of(viewset, dict(actions), method)
    serializer = view.get_serializer_class() if ordinary(viewset, view.action) else None
    if serializer is None or not all(getattr(serializer, name).__module__.startswith(OURS) for name in HOOKS):
        return None
    made = serializer(None if method == "POST" else Unread(), data={}, partial=method == "PATCH")
    asking = any(
        isinstance(field, OF_OTHERS)
        or field.source != field.field_name
        or any(getattr(validator, "requires_context", False) for validator in field.validators)
        for field in made._writable_fields
    )
    return None if asking else made


def is_undone(error: Error) -> bool:
    """Whether PostgreSQL says that it has undone the transaction, and goes on."""
    return getattr(getattr(error.__cause__, "diag", None), "severity_nonlocalized", None) == "ERROR"


def unknown(request: WSGIRequest) -> Answer:
    """To write it again could write it twice."""
    response = problem_response(request, 503, headers={"Retry-After": "5"})
    return Answer(503, [("Content-Type", CONTENT_TYPE), ("Retry-After", "5")], response.content)
