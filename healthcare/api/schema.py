"""The OpenAPI description: the conventions of this API that drf-spectacular cannot infer."""

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers

from healthcare.api import (
    acting_for,
    conditional_requests,
    idempotency,
    rate_limits,
    sparse_fieldsets,
    unknown_parameters,
)
from healthcare.api.fields import ObjectListField, TextField
from healthcare.api.pagination import KeysetPagination
from healthcare.api.problems import CONTENT_TYPE, DETAILS, PROBLEM_BODY, PROBLEM_ERROR, TEXT
from healthcare.coverage import covered_by_fast_path, is_covered
from healthcare.operations.request_ids import REQUEST_ID_PATTERN

# Declares an error of one operation: `@extend_schema(responses={409: PROBLEM})`.
PROBLEM: None = None
BODY_PROBLEMS = {400, 411, 413, 415}

HEADER_COMPONENTS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Identifies this request in the server's log. A reverse proxy in front may have set it.",
        "required": True,
        "schema": {**TEXT, "pattern": REQUEST_ID_PATTERN},
    },
    "Link": {
        "description": 'The next and previous page (RFC 8288): `rel="next"`, `rel="prev"`. With 410, the record '
        'that has replaced this one (RFC 5829): `rel="successor-version"`.',
        "schema": TEXT,
    },
    "Location": {"description": "The path of the new record.", "schema": {"type": "string", "format": "uri-reference"}},
    "X-Total-Count": {
        "description": "Number of records in the whole list, with `?count=true`; `10000+` if a search finds more.",
        "schema": {"type": "string", "pattern": r"^([0-9]+|10000\+)$"},
    },
    "ETag": conditional_requests.ETAG,
    "Idempotency-Replayed": idempotency.REPLAYED,
    **rate_limits.RATE_LIMIT_HEADERS,
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    acting_for.ACTING_FOR_HEADER: acting_for.RESPONSE_HEADER,
    "WWW-Authenticate": {"description": "`Bearer` (RFC 6750).", "required": True, "schema": TEXT},
}
# An e-mail or an empty string as one string type: generated clients turn a union into a class.
NO_OR_ONE_EMAIL = (
    r"^([A-Za-z0-9!#$%&'*+/=?^_`{}|~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{}|~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63})?$"
)
SCHEMA_REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
REQUEST_CONSTRAINTS = {"default", "pattern", "minLength", "maxLength", "minimum", "maximum", "maxItems"}
HEADERS_OF_STATUS = {
    "401": ["WWW-Authenticate"],
    "410": ["Link"],
    "429": ["RateLimit", "RateLimit-Policy", "Retry-After"],
    "503": ["Retry-After"],
}


def example(request: dict[str, Any] | None = None, response: dict[str, Any] | None = None) -> list[OpenApiExample]:
    """An example request and response, for `@extend_schema_serializer(examples=...)`."""
    examples = []
    if request is not None:
        examples.append(OpenApiExample("Request", value=request, request_only=True))
    if response is not None:
        examples.append(OpenApiExample("Response", value=response, response_only=True))
    return examples


def example_problem(status: int) -> dict[str, Any]:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": DETAILS[status]}
    body["request_id"] = "0f8fad5bd9cb469fa16570867728950e"
    if status == 400:
        error = {"pointer": "/name", "code": "required", "detail": "This field is required."}
        body |= {"detail": "name: This field is required.", "errors": [error], "error_count": 1}
    return body


class ProblemAutoSchema(AutoSchema):
    """Adds errors as problems, and response headers, to every operation."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        operation.setdefault("security", [])  # explicit: no login needed
        responses = operation["responses"]
        for status in self.problem_statuses(operation) | {int(code) for code in responses if int(code) >= 400}:
            responses[str(status)] = self.problem_response(status)
        is_file = getattr(self.view, "accepts_files", False)  # whose answer is no record
        if isinstance(self.view, conditional_requests.ConditionalRequests) and not is_file:
            conditional_requests.describe_conditional_requests(operation, self.method, self.problem_response)
        operation["responses"] = dict(sorted(responses.items()))
        for code, response in responses.items():
            names = ["X-Request-Id", *HEADERS_OF_STATUS.get(code, [])]
            if code == "201":
                names.append("Location")
            if code == "200" and self._is_list_view() and self.view.pagination_class:  # type: ignore[attr-defined]
                names += ["Link", "X-Total-Count"]
            if self.acts_for_owner and code not in acting_for.STATUSES_WITHOUT_OWNER:
                names.append(acting_for.ACTING_FOR_HEADER)
            if code < "300" and idempotency.accepts_key(operation):
                names.append("Idempotency-Replayed")
            names += response.get("headers", {})
            response["headers"] = {
                name: self.component_reference("headers", name, HEADER_COMPONENTS[name]) for name in sorted(names)
            }
        return operation

    def _get_request_body(self, direction: str = "request") -> Any:
        """A DELETE too has a body if its view reads one, which drf-spectacular leaves out."""
        method = self.method
        if method == "DELETE" and getattr(self.view, "delete_has_body", False):
            self.method = "POST"
        try:
            return super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        finally:
            self.method = method

    def get_override_parameters(self) -> list[Any]:
        view = self.view
        keyed = isinstance(view, idempotency.IdempotentMixin) and view.takes_key(self.method, view.action)  # type: ignore[attr-defined]
        parameters = unknown_parameters.preference_parameters(self.view, self.method)
        parameters += sparse_fieldsets.parameters_of_selection(self.view, self.method)
        parameters += [acting_for.ACTING_FOR_PARAMETER] if self.acts_for_owner else []
        return [idempotency.KEY_PARAMETER, *parameters] if keyed else parameters

    @property
    def acts_for_owner(self) -> bool:
        return getattr(self.view, "acts_for_owner", False)

    def problem_statuses(self, operation: dict[str, Any]) -> set[int]:
        """The errors that follow from the operation's parameters and body."""
        places = {parameter["in"] for parameter in operation.get("parameters", [])}
        statuses = {429, 503} | (BODY_PROBLEMS if "requestBody" in operation else set())
        statuses |= {400} if "query" in places else set()
        statuses |= {404} if "path" in places else set()
        keyed = idempotency.accepts_key(operation)
        statuses |= {400, 409, 410, 422} if keyed else set()
        # A repeated request about a record that has another owner now.
        statuses |= {404} if keyed and self.acts_for_owner else set()
        statuses |= {400, 403} if self.acts_for_owner else set()
        statuses |= (
            {410} if getattr(self.view, "action", None) in getattr(self.view, "successor_actions", ()) else set()
        )
        # Also where login is optional: a token that is sent must be valid.
        return statuses | ({401} if self.view.get_authenticators() else set())

    def problem_response(self, status: int) -> dict[str, Any]:
        self.component_reference("schemas", "ProblemError", PROBLEM_ERROR)
        body = {
            "schema": self.component_reference("schemas", "Problem", PROBLEM_BODY),
            "example": example_problem(status),
        }
        return {"content": {CONTENT_TYPE: body}, "description": DETAILS[status]}

    def component_reference(self, kind: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """A `$ref` to a component, which is added to the description if it is not there yet."""
        component = ResolvedComponent(name=name, type=kind, schema=schema, object=name)
        self.registry.register_on_missing(component)
        return {"$ref": f"#/components/{kind}/{name}"}

    def get_auth(self) -> list[dict[str, Any]]:
        """No requirement for public operations, so that generated clients ask for no token."""
        requirements: list[dict[str, Any]] = super().get_auth()
        return [] if {} in requirements else requirements

    def _get_paginator(self) -> None:
        """Lists are bare arrays: no envelope, and no component for one."""

    def _get_pagination_parameters(self) -> list[dict[str, Any]]:
        paged = self._is_list_view() and self.view.pagination_class is not None  # type: ignore[attr-defined]
        return KeysetPagination().get_schema_operation_parameters(self.view) if paged else []

    def _insert_field_validators(self, field: serializers.Field, schema: dict[str, Any]) -> None:
        super()._insert_field_validators(field, schema)  # type: ignore[no-untyped-call]
        if isinstance(field, ObjectListField):
            schema["maxItems"] = field.maximum
        if "oneOf" in schema and {"type": "null"} not in schema["oneOf"]:  # the field's schema, or an empty string
            schema |= schema.pop("oneOf")[0]
            if schema.pop("format", "") == "email":
                schema["pattern"] = NO_OR_ONE_EMAIL

    def _map_basic_serializer(self, serializer: serializers.Serializer, direction: str) -> dict[str, Any]:
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        properties = schema.get("properties", {})
        if not vars(type(serializer)).get("__doc__"):
            schema.pop("description", None)  # the docstring of a base class
        for name, field in serializer.fields.items():
            takes_null = isinstance(field, ObjectListField) or (isinstance(field, TextField) and field.allow_blank)
            if direction == "request" and takes_null and isinstance(properties.get(name, {}).get("type"), str):
                properties[name]["type"] = [properties[name]["type"], "null"]  # stands for empty
            if name in properties and (name == "id" or isinstance(field, serializers.PrimaryKeyRelatedField)):
                properties[name]["format"] = "int64"
        if direction == "request":
            schema["additionalProperties"] = False  # see unknown_parameters; read-only fields are ignored
        if direction == "response":  # responses contain every field, and limits apply to requests
            schema["required"] = sorted(properties.keys() - serializer.context.get("inclusions", {}).keys())
            for described_field in properties.values():
                for limit in REQUEST_CONSTRAINTS & described_field.keys():
                    del described_field[limit]
        return schema


def state_defaults(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: the default of what a client may leave out is in the description alone.

    Generators make a client send what has a default: they require such a property, and fill in such a parameter, which
    may not be combined with another one.
    """
    for operations in result["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                parameter["schema"] = state_default(parameter["schema"], parameter)
    for name, body in result["components"]["schemas"].items():
        properties = body.get("properties", {}) if name.endswith("Request") else {}
        for field, schema in properties.items():
            properties[field] = state_default(schema, schema)
    return result


def state_default(schema: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """The schema without its default, which the description of `described` gets."""
    if "default" not in schema:
        return schema
    stated = f"{described.get('description', '')} Default: `{json.dumps(schema['default'])}`."
    described["description"] = stated.strip()
    return {key: value for key, value in schema.items() if key != "default"}


def define_tags(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: define the tags of domains that the settings do not describe."""
    used = {tag for operations in result["paths"].values() for one in operations.values() for tag in one["tags"]}
    undefined = used - {tag["name"] for tag in result["tags"]}
    result["tags"] = [*result["tags"], *({"name": tag} for tag in sorted(undefined))]
    return result


def remove_unused_schemas(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular, which also describes the bodies of serializers that only answer."""
    schemas = result["components"]["schemas"]
    while unused := schemas.keys() - {*SCHEMA_REFERENCE.findall(json.dumps(result, default=str))}:
        for name in unused:
            del schemas[name]
    return result


def describe_operations(resource: str, one: str, many: str) -> Callable[[type], type]:
    """Set the operation ids of a viewset of records, which name the methods of generated clients, and the summaries.

    An action that the viewset defines itself has its own `@extend_schema`.
    """
    summaries = {
        "list": f"List {many}",
        "create": f"Add {one}",
        "retrieve": f"Read {one}",
        "update": f"Change {one}",
        "partial_update": f"Change some fields of {one}",
        "destroy": f"Delete {one}",
        "restore": f"Restore {one}",
        "export": f"Export {many}",
    }

    def decorate(viewset: type) -> type:
        operations = {
            action: extend_schema(operation_id=f"{resource}_{action}", summary=summary)
            for action, summary in summaries.items()
            if hasattr(viewset, action) and action not in vars(viewset)
        }
        return describe_view(**operations)(viewset)

    return decorate


def describe_view(**schemas: Any) -> Callable[[type], type]:
    """drf-spectacular's `extend_schema_view`, for viewsets that use the fast path.

    drf-spectacular wraps an inherited action to describe it. The wrapper only calls the action, so it is covered by the
    fast path when the action is.
    """

    def decorate(viewset: type) -> type:
        covered = [name for name in schemas if is_covered(getattr(viewset, name))]
        extend_schema_view(**schemas)(viewset)
        for name in covered:
            covered_by_fast_path(vars(viewset)[name])
        return viewset

    return decorate
